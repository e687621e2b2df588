"""The process that keeps the language model's key, and starts the processes that ask the model with it.

The key cannot be read from it, and the key's use (address, model, code) is fixed when the keeper starts: a client of
its socket can have clusters annotated, and no more. It ends when the other end of its socket is closed everywhere.

Run as ``python -m cellworker.engine.annotators.keeper FD`` with its configuration on standard input, see `Kept`. A
message on the socket FD brings three descriptors: a connection for this request, and the files for the asking
process's messages and its output. The connection brings one line of JSON; its end ends the process.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from cellworker.confinement import hide_process
from cellworker.engine.annotators import asking_process

__all__ = ["Kept", "main"]

_MAX_REQUEST = 64 << 20
_FIELDS = ("species", "tissue", "additional_info", "workers")
"""Fields of a request; all else is fixed."""


class Kept(TypedDict):
    """The configuration."""

    key: str
    url: str
    model: str


def main() -> None:
    """Serve the socket until its other end closes."""
    hide_process()
    kept: Kept = json.load(sys.stdin)
    settled = {**kept, "bedrock_region": "", "sys_path": asking_process.module_path()}
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        while True:
            word, descriptors, _, _ = socket.recv_fds(asked, 16, 3)
            if not word:
                break
            if len(descriptors) == 3:
                threading.Thread(target=_serve, args=(settled, *descriptors), daemon=True).start()
            else:
                for descriptor in descriptors:
                    os.close(descriptor)
    # Asking processes die with this one: see the first lines of `cassia_child`.
    os._exit(0)


def _serve(settled: dict[str, Any], connection: int, news: int, output: int) -> None:
    child: subprocess.Popen[bytes] | None = None
    try:
        with socket.socket(fileno=connection) as request, request.makefile("rb") as lines:
            try:
                given = json.loads(lines.readline(_MAX_REQUEST))
                asked = {name: given[name] for name in _FIELDS} | settled
                child = asking_process.begin(asked, Path(given["folder"]), news, output)
            finally:
                os.close(news)
                os.close(output)
            with suppress(ConnectionError):
                lines.readline(1)  # no more lines come: this waits for the end of the connection
            child.kill()
            child.wait()
    except (OSError, ValueError, KeyError, TypeError) as error:
        # The caller sees an empty answer.
        sys.stderr.write(f"the language model was not asked: {type(error).__name__}\n")
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
