"""The image, as far as it can be seen without a container engine: what it holds, how large that is, whether it runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cellworker.settings import Settings

from .conftest import Tool

LARGEST_MB = 900


@pytest.fixture(scope="session")
def contents(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that becomes /opt/cellworker, and what its making printed."""
    target = tmp_path_factory.mktemp("image") / "cellworker"
    command = [sys.executable, "-B", "scripts/image_contents.py", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode and "Connect" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return target, done.stdout


def run(contents: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the image's entry point with the image's variables, and none of the developer's."""
    variables = {"PATH": f"{contents / 'bin'}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        ["cellworker", *arguments], env=variables, cwd="/", capture_output=True, text=True, timeout=120, check=False
    )


def test_what_the_image_holds_is_small(contents: tuple[Path, str]) -> None:
    folder, said = contents
    blocks = sum(os.lstat(path).st_size for path in folder.rglob("*"))
    assert blocks / 1e6 < LARGEST_MB
    assert float(re.findall(r"([\d.]+) MB {2}in all", said)[0]) < LARGEST_MB


def test_a_task_is_answered_from_a_read_only_folder(contents: tuple[Path, str], tmp_path: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in contents[0].rglob("*")}
    done = run(contents[0], "call", "ListGenes", "--body", '{"limit": 2}', STORE_DIR=str(tmp_path), HOME="/nowhere")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["gene_names"]) == 2
    assert {path: path.lstat().st_mtime_ns for path in contents[0].rglob("*")} == before


@pytest.mark.parametrize("command", ["gateway", "engine", "worker", "probe"])
def test_every_entry_point_is_there(command: str, contents: tuple[Path, str]) -> None:
    assert run(contents[0], command, "--help").returncode == 0


def test_the_gateway_has_all_it_needs(contents: tuple[Path, str]) -> None:
    # Without an account it ends with a sentence about it, after everything that it needs was imported.
    done = run(contents[0], "gateway", CLUSTER_ENV="production")
    assert "AWS_ACCOUNT_ID" in done.stderr
    code = "import aiobotocore, redis, cryptography, prometheus_client, uvloop, opentelemetry.sdk"
    python = contents[0] / "bin" / "python"
    assert subprocess.run([python, "-c", code], check=False).returncode == 0


def test_no_tool_of_the_build_and_no_test_is_left(contents: tuple[Path, str]) -> None:
    names = {path.name for path in contents[0].glob("lib/python*/site-packages/*")}
    assert not names & {"uv", "ziglang", "pytest", "moto", "scanpy", "numba", "pip"}
    assert not [path for path in contents[0].rglob("tests") if path.is_dir()]


def test_hadolint_finds_nothing(hadolint: Tool) -> None:
    done = hadolint("Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def dockerfile(root: Path) -> list[str]:
    """The instructions of the last stage."""
    text = (root / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    last = max(at for at, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def test_the_image_is_nobodys_and_knows_only_settings(root: Path) -> None:
    lines = dockerfile(root)
    assert "USER 10001:10001" in lines
    (variables,) = [line for line in lines if line.startswith("ENV ")]
    names = set(re.findall(r"([A-Z_]+)=", variables))
    assert {name.lower() for name in names - {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}} <= set(
        Settings.__slots__
    )
    assert not [line for line in lines if line.startswith("RUN") and "apt-get" in line]


def test_what_is_copied_into_the_build_is_let_in(root: Path) -> None:
    let_in = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (root / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == let_in
    assert all((root / name).exists() for name in names)
