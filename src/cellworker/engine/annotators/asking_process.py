"""Starts the process that runs the package `cassia`, for one request, with a key that comes through a pipe."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cellworker.engine.annotators import cassia_child

__all__ = ["begin", "module_path"]

_PASSED_ON = re.compile(r"(https?|all|no)_proxy|ssl_cert_(file|dir)|requests_ca_bundle|curl_ca_bundle", re.IGNORECASE)


def begin(request: dict[str, Any], folder: Path, news: int, output: int) -> subprocess.Popen[bytes]:
    """Start it.

    Parameters
    ----------
    request
        The input of `cassia_child`, with the key.
    folder
        Its working directory.
    news, output
        Descriptors for its messages and its output; the caller closes them.
    """
    command = [sys.executable, "-I", "-X", "utf8", cassia_child.__file__, str(news)]
    child = subprocess.Popen(  # noqa: S603 our own interpreter and script
        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
        env=_environment(bool(request["bedrock_region"]), folder), pass_fds=[news],
    )  # fmt: skip
    assert child.stdin
    with suppress(BrokenPipeError), child.stdin as pipe:
        pipe.write(json.dumps(request).encode())
    return child


def module_path() -> list[str]:
    """Return the module path of this process, which it uses too."""
    return [str(Path(entry).absolute()) for entry in sys.path if entry]


def _environment(with_identity: bool, folder: Path) -> dict[str, str]:  # noqa: FBT001
    """Return the environment of the process: what networks need and, to make a token, its AWS identity."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    kept |= {"HOME": str(folder), "TMPDIR": str(folder), "MPLCONFIGDIR": str(folder), "MPLBACKEND": "Agg"}
    kept |= {"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
    if with_identity:
        home = Path("~/.aws").expanduser()
        kept |= {"AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"), "AWS_CONFIG_FILE": str(home / "config")}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return kept
