"""One module = one protocol; each exports `routes`."""
