"""What engines that go token by token share: requests checked, tokens as bytes, stop strings. Knows no engine."""
