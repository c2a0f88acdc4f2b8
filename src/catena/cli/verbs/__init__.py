"""One file = one verb; each exports `command`."""
