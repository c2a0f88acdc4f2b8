"""Catena: a model's whole life as one chain that can be checked link by link."""

__version__ = "0.1.0"
