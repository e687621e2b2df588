"""`cellworker probe`."""

import argparse
import sys
from http.client import HTTPConnection, HTTPException

from cellworker.plain_text import say
from cellworker.settings import Settings

__all__ = ["command"]

_TIMEOUT_S = 5.0
_GOOD, _BAD = 0, 1


def command(options: argparse.Namespace) -> int:
    """Ask the engine of this machine whether it lives, or with ``--ready`` whether it serves an experiment.

    It is for the probes of a container: the engine listens on loopback only, where no kubelet reaches it.
    """
    port = Settings.from_environment(port=options.port).port
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready" if options.ready else "/health/live")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        say(f"no engine answers on port {port}: {reason}", file=sys.stderr)
        return _BAD
    finally:
        connection.close()
    if status != 200:
        say(f"the engine on port {port} answers, and is not ready", file=sys.stderr)
        return _BAD
    return _GOOD
