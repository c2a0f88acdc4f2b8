"""REACHED: the only way in and the only way out."""
