"""How other model servers are spoken to: one file, one dialect. Pure translation, no network."""
