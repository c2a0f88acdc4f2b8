"""`catena privacy`: find what is private in texts, say what may leave, and replace it; all on this machine."""

from __future__ import annotations

from catena.cli.group import Folder

command = Folder(
    __name__, name="privacy", help="Find what is private in texts, say what may leave, replace it and put it back."
)
