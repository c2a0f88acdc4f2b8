"""`catena policy`: check the policy's examples, explain one decision, simulate a change on what was decided before."""

from __future__ import annotations

from catena.cli.group import Folder

command = Folder(__name__, name="policy", help="Check, explain and simulate what may leave this machine.")
