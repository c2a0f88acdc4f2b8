"""What every engine that encodes texts shares: tokenizers, padded batches, vectors. Knows no engine."""
