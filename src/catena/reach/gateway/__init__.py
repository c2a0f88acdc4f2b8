"""HTTP: the door. `protocols/` holds one file per protocol, `console/` the page."""
