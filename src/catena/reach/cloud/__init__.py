"""The way out: models of remote ends that configuration names, for calls that ask for them by name."""
