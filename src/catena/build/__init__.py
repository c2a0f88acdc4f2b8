"""BUILT: models are made, or brought into other forms, with their parents on record."""
