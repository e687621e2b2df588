"""`cellworker settings` and `cellworker version`."""

import argparse
import json
import os
from dataclasses import Field, fields
from typing import Any

from cellworker.plain_text import say
from cellworker.settings import Settings
from cellworker.version import __version__

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Print all settings with their origin, as text or JSON; or the version alone."""
    if getattr(options, "version", False):
        say(f"cellworker {__version__}")
        return 0
    settings = Settings.from_environment()
    rows = [
        {
            "name": item.name.upper(),
            "value": _shown(settings, item),
            "origin": "environment" if item.name.upper() in os.environ else "default",
            "help": item.metadata["help"],
        }
        for item in fields(settings)
    ]
    if options.json:
        say(*json.dumps(rows, indent=2).split("\n"))
        return 0
    width = max(len(str(row["value"])) for row in rows)
    for row in rows:
        say(f"{row['name']:<16} {row['value']!s:<{width}}  {row['origin']:<11}  {row['help']}")
    return 0


def _shown(settings: Settings, item: Field[Any]) -> str | int | float | bool:
    value = getattr(settings, item.name)
    return "[set]" if item.metadata["secret"] and value else _plain(value)


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
