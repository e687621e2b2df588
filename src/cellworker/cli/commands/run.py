"""`cellworker run`."""

import argparse
import asyncio
import dataclasses
import functools
import logging
import os
import socket
import sys

from cellworker.cli.handover import forget_secrets, keep_key
from cellworker.cli.running import run_note
from cellworker.cli.settings_of import settings_of
from cellworker.local.page.browser import is_desktop, open_page
from cellworker.local.run import run_local
from cellworker.logs import configure
from cellworker.plain_text import say

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Serve an experiment on this machine until Ctrl-C, SIGTERM or `cellworker stop`."""
    keep_key()
    settings = settings_of(options)
    forget_secrets()
    if settings.port == 0:
        settings = dataclasses.replace(settings, port=_free_port(settings.host))
    experiment = options.experiment
    if options.prepare:
        from cellworker.cli.preparing_first import prepared  # noqa: PLC0415 - most runs prepare nothing

        experiment = prepared(experiment, settings)
    configure(settings.log_level, style="text")
    if "LOG_LEVEL" not in os.environ:
        # The terminal shows warnings only; the log file has everything.
        logging.getLogger().handlers[0].setLevel(logging.WARNING)
    with run_note(settings.data_dir, settings.port):
        show = open_page if not options.no_browser and is_desktop(os.environ, sys.stdout) else None
        told = functools.partial(say, flush=True)
        return asyncio.run(run_local(experiment, settings, say=told, show=show))


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])
