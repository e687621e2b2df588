"""`cellworker engine`."""

import argparse
import asyncio
import sys
from pathlib import Path

from cellworker.engine.serve import serve
from cellworker.formats.locating import locate
from cellworker.logs import configure
from cellworker.settings import Settings

__all__ = ["command"]


def command(options: argparse.Namespace) -> int:
    """Serve the engine's HTTP surface until SIGTERM or Ctrl-C; the log goes to standard error as JSON lines."""
    settings = Settings.from_environment(port=options.port)
    path = Path(options.path)
    locate(path)
    configure(settings.log_level)

    def on_listening(port: int) -> None:
        print(f"The engine listens on http://{settings.host}:{port}, opening {path} ...", flush=True)

    def on_ready() -> None:
        print("Ready.", flush=True)

    try:
        return asyncio.run(serve(path, settings, on_listening=on_listening, on_ready=on_ready))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
