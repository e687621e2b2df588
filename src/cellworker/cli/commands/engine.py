"""`cellworker engine`."""

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from cellworker.cli.handover import forget_secrets, keep_key
from cellworker.cli.settings_of import settings_of
from cellworker.engine.serve import serve
from cellworker.engine.workers.confinement import give_up_connections
from cellworker.formats.common.locating import locate
from cellworker.gateway.platform.labels import PodLabels, assigned_folder
from cellworker.logs import configure
from cellworker.plain_text import say
from cellworker.settings import Settings

__all__ = ["command"]

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def command(options: argparse.Namespace) -> int:
    """Serve the engine's HTTP surface until SIGTERM or Ctrl-C; the log goes to standard error as JSON lines."""
    keep_key()
    settings = settings_of(options)
    forget_secrets()
    path = _place(options.path, settings)
    configure(settings.log_level)
    what = f"opening {path}" if isinstance(path, Path) else f"waiting for an experiment in {settings.data_dir}"

    def on_listening(port: int) -> None:
        say(f"The engine listens on http://{settings.host}:{port}, {what} ...", flush=True)

    def on_ready() -> None:
        say("Ready.", flush=True)

    if settings.host not in _LOOPBACK:
        say(f"warning: HOST={settings.host} opens the engine, which asks for no password, to the network.", flush=True)
    listener = socket.create_server((settings.host, settings.port), backlog=128)
    if not settings.egress:
        give_up_connections()
    try:
        return asyncio.run(serve(path, settings, listener=listener, on_listening=on_listening, on_ready=on_ready))
    except KeyboardInterrupt:
        say("", file=sys.stderr)
        return 130


def _place(wanted: str | None, settings: Settings) -> Path | Callable[[], Path | None]:
    """Return the given path, or a function that looks for the pod's experiment."""
    if wanted is None:
        return assigned_folder(PodLabels(settings, development_default=False), settings.data_dir)
    path = Path(wanted)
    locate(path)
    return path
