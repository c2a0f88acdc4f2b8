"""`python -m catena` is `catena`."""

from __future__ import annotations

from catena.cli import main

main()
