"""A verb that is a folder: each file in it is one of its commands, imported only when asked for."""

from __future__ import annotations

import importlib
import pkgutil

import click


class Folder(click.Group):
    """Commands `NAME` from modules `package.NAME`, each of which exports `command`."""

    def __init__(self, package: str, **attributes: object) -> None:
        super().__init__(**attributes)  # pyright: ignore[reportArgumentType]
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        path = importlib.import_module(self._package).__path__
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(path) if module.name[0] != "_")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}").command
        return command
