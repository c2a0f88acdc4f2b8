"""What every engine that predicts shares: arrays in plain bytes, and requests computed together. Knows no engine."""
