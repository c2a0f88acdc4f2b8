"""`catena egress`: what any provider ever got from this machine; show it, prove it, and see the exact bytes again."""

from __future__ import annotations

from catena.cli.group import Folder

command = Folder(__name__, name="egress", help="Show, prove and replay what left this machine for a provider.")
