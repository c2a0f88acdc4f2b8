"""Writes docs/reference/settings.md from the structs of the settings: what each section says, defaults, bounds.

Usage: python -m tests.core.page
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from catena.core import settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
SECTIONS: tuple[type[Struct], ...] = (
    settings.StoreSettings,
    settings.RunSettings,
    settings.ContextSettings,
    settings.ServedSettings,
    settings.ReachSettings,
    settings.ProviderSettings,
    settings.WatchSettings,
)
HEAD = """\
# Settings

Made by `python -m tests.core.page` from `core/settings.py`; a test keeps it current.

They stand in `catena.toml` in the state folder. A variable (`CATENA__REACH__PORT=8000`) goes before the file, a flag of
a command before both. An unknown name is refused with the nearest known one. What is in force, and where it comes from:
`catena config show --origin`. Names end with their unit: `_s` seconds, `_bytes` bytes, `_tokens` tokens.
"""


def words(section: type[Struct]) -> tuple[str, str]:
    """The names of a section, and what is said of it."""
    text = inspect.cleandoc(section.__doc__ or "")
    end = text.rindex("]", 0, text.index(" ")) + 1
    while text.startswith(", [", end):
        end = text.index("]", end) + 1
    return text[:end], text[end:].strip()


def bounds(kind: Any) -> str:
    """The bounds of a number or the values of a choice; empty where there are none."""
    if hasattr(kind, "__metadata__"):
        metas = [meta for meta in kind.__metadata__ if isinstance(meta, Meta)]
        names = (("at least {:,}", "ge"), ("above {:,}", "gt"), ("at most {:,}", "le"))
        return ", ".join(
            form.format(value) for meta in metas for form, name in names if (value := getattr(meta, name)) is not None
        )
    arguments = get_args(kind)
    if arguments and all(isinstance(one, str) for one in arguments):
        return ", ".join(f"`{one}`" if one else '`""`' for one in arguments)
    return ", ".join(filter(None, map(bounds, arguments))) if type(None) in arguments else ""


def rows(section: type[Struct]) -> Iterator[str]:
    """A row of the table for each setting; tables within a section have sections of their own."""
    kinds = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        if isinstance(field.default, Struct):
            continue
        made = field.default if field.default_factory is NODEFAULT else field.default_factory()
        default = "" if field.required else f"`{_shown(made)}`"
        yield f"| `{field.name}` | {default} | {bounds(kinds[field.name])} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for section in SECTIONS:
        names, said = words(section)
        parts.append(f"\n## {names}\n\n{said}\n\n| setting | default | allowed |\n|---|---|---|\n")
        parts.append("\n".join(rows(section)) + "\n")
    return "".join(parts)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:_}" if isinstance(value, int | float) and value >= 10_000 else msgspec.json.encode(value).decode()


if __name__ == "__main__":
    PAGE.write_text(page())
