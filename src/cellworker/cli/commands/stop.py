"""`cellworker stop`."""

import argparse

from cellworker.cli.running import stop_worker
from cellworker.plain_text import say
from cellworker.settings import Settings

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Stop the worker on a port; no worker there is a success too."""
    settings = Settings.from_environment(port=options.port)
    if stop_worker(settings.data_dir, settings.port):
        say(f"Stopped the worker on port {settings.port}.")
    else:
        say(f"No worker of {settings.data_dir}/ runs on port {settings.port}.")
    return 0
