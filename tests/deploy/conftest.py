"""The tools of deployment, which the development environment brings."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[..., subprocess.CompletedProcess[str]]


def tool(name: str, root: Path) -> Tool:
    """Return a function that runs a tool of the environment, or skip where there is none for this machine."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not here")

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([found, *map(str, arguments)], cwd=root, capture_output=True, text=True, check=False)

    return call


@pytest.fixture(scope="session")
def helm(root: Path) -> Tool:
    return tool("helm", root)


@pytest.fixture(scope="session")
def hadolint(root: Path) -> Tool:
    return tool("hadolint", root)


@pytest.fixture(scope="session")
def zizmor(root: Path) -> Tool:
    return tool("zizmor", root)
