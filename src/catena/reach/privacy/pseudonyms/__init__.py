"""Stand-ins for private text: same kind and shape, the same for the same text, turned back on the way home."""
