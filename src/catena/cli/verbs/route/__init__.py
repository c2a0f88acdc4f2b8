"""`catena route`: learn from outcomes which prompts need the strong model, score prompts, and evaluate by replay."""

from __future__ import annotations

from catena.cli.group import Folder

command = Folder(__name__, name="route", help="Learn which prompts need the strong model, score them, evaluate it.")
