"""Small trained judges of candidates that detectors share: words with their classes, features, linear models."""
