"""The client of the key's keeper: starts it, and has it start processes that ask the model."""

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cellworker.engine.annotators.keeper import Kept

__all__ = ["Asking", "KeeperLostError", "descriptor", "start_keeper", "use_keeper"]

_ENDED_S = 10.0

_socket: socket.socket | None = None


class KeeperLostError(ConnectionError):
    """The keeper has ended."""


def start_keeper(kept: Kept, environment: Mapping[str, str]) -> socket.socket:
    """Start a keeper; return the socket that leads to it.

    Parameters
    ----------
    kept
        The key, and the model that it is for.
    environment
        Of the keeper, without secrets.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        keeper = subprocess.Popen(  # noqa: S603 our own interpreter and module
            [sys.executable, "-P", "-m", "cellworker.engine.annotators.keeper", str(theirs.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**environment},
            start_new_session=True,
        )
        assert keeper.stdin
        with keeper.stdin as pipe:
            pipe.write(json.dumps(kept).encode())
    return ours


def use_keeper(number: int) -> None:
    """Use the keeper behind a descriptor from now on, in this process."""
    global _socket  # noqa: PLW0603 a process has one keeper, or none
    _socket = socket.socket(fileno=number)
    _socket.set_inheritable(False)


def descriptor() -> int | None:
    """Return the descriptor of this process's keeper; None where it has none."""
    return None if _socket is None else _socket.fileno()


class Asking:
    """One process that asks the model; a context manager that ends it.

    Parameters
    ----------
    request
        `species`, `tissue`, `additional_info` and `workers`.
    folder
        Its working directory.
    news, output
        Descriptors for its messages and its output.

    Raises
    ------
    KeeperLostError
        When there is no keeper.
    """

    def __init__(self, request: dict[str, Any], folder: Path, news: int, output: int) -> None:
        self._connection, theirs = socket.socketpair()
        try:
            with theirs:
                if _socket is None:
                    raise KeeperLostError
                socket.send_fds(_socket, [b"ask"], [theirs.fileno(), news, output])
            self._connection.sendall(json.dumps({**request, "folder": str(folder)}).encode() + b"\n")
        except OSError:
            self._connection.close()
            raise KeeperLostError from None

    def close(self) -> None:
        """End the process and wait until it has ended."""
        with self._connection as connection, suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_ENDED_S)
            while connection.recv(16):
                pass
