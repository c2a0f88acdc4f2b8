"""One file = one engine; each exports `Engine`."""
