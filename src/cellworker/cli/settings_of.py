"""Settings from the environment and a command's options."""

import argparse
from typing import Any

from cellworker.settings import Settings

__all__ = ["settings_of"]

_OPTIONS = (
    "port",
    "counts_matrix",
    "data_matrix",
    "sample_column",
    "drop_genes",
    "object_name",
    "file_part",
    "orientation",
)


def settings_of(options: argparse.Namespace) -> Settings:
    """Read the settings; an option wins over its environment variable."""
    given: dict[str, Any] = {name: getattr(options, name, None) for name in _OPTIONS}
    return Settings.from_environment(**given)
