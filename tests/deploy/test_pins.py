"""What an image and an environment are made from is named by digest or hash: nobody else decides what runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from .test_workflows import load, workflow

TODAY, LOOKED_AT = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def base_image(root: Path, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow's step with a registry that has the image of today."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho {TODAY}\n')
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
    command = ["bash", ".github/base-image.sh"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_an_image_is_built_from_the_pinned_base(root: Path, tmp_path: Path) -> None:
    done = base_image(root, tmp_path, PINNED=LOOKED_AT, STRICT="true")
    assert (done.returncode, done.stdout) == (0, f"python=3.11-slim-bookworm@{LOOKED_AT}\n")
    assert f"has moved on to {TODAY}" in done.stderr
    assert "docker.io/library/python:3.11-slim-bookworm" in (tmp_path / "asked").read_text()
    assert base_image(root, tmp_path, PINNED=TODAY, STRICT="true").stderr == ""


def test_what_is_published_is_not_made_without_a_digest(root: Path, tmp_path: Path) -> None:
    done = base_image(root, tmp_path, PINNED="", STRICT="true")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"set the repository's variable PYTHON_IMAGE_DIGEST; python:3.11-slim-bookworm is {TODAY}" in done.stderr
    assert base_image(root, tmp_path).returncode == 1
    fork = base_image(root, tmp_path, PINNED="", STRICT="false")
    assert fork.stdout == f"python=3.11-slim-bookworm@{TODAY}\n"


@pytest.mark.parametrize("digest", ["latest", "sha256:abc", f"{TODAY} --privileged"])
def test_a_digest_that_is_none_is_refused(digest: str, root: Path, tmp_path: Path) -> None:
    done = base_image(root, tmp_path, PINNED=digest, STRICT="true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "PYTHON_IMAGE_DIGEST: expected sha256:" in done.stderr


def test_the_workflow_builds_with_it_and_looks_whether_the_image_says_so(root: Path) -> None:
    steps = {step.get("name"): step for step in workflow(root)["jobs"]["image"]["steps"]}
    assert steps["The base image, by its digest"]["env"]["STRICT"] == "${{ github.event_name != 'pull_request' }}"
    assert '--build-arg PYTHON="$PYTHON"' in steps["Build"]["run"]
    assert steps["Build"]["env"]["PYTHON"] == "${{ steps.base.outputs.python }}"
    dockerfile = (root / "Dockerfile").read_text()
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"python:${PYTHON}"}
    assert 'base.name="docker.io/library/python:${PYTHON}"' in dockerfile


@pytest.fixture
def bootstrap(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "scripts")
    return load(root / "scripts/bootstrap.py")


def test_uv_is_fetched_in_the_version_of_the_lock_and_by_its_hashes(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    wanted: list[str] = []

    def call(*command: Any, env: object = None) -> str:
        commands.append(tuple(map(str, command)))
        wanted.append(Path(command[-1]).read_text())
        (tmp_path / "tools" / "bin").mkdir(parents=True)
        (tmp_path / "tools" / "bin" / "uv").symlink_to(sys.executable)
        return ""

    monkeypatch.setattr(bootstrap, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(bootstrap, "call", call)
    monkeypatch.setattr(bootstrap, "find_pip", lambda scratch: ["pip"])
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    bootstrap.find_uv()
    (command,) = commands
    assert "--require-hashes" in command
    assert re.fullmatch(r"uv==[\d.]+( --hash=sha256:[0-9a-f]{64}){10,}", wanted[0])


def test_a_package_that_the_lock_has_not_got_cannot_be_named(bootstrap: ModuleType) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        bootstrap.locked("no-such-package")


def test_whatever_builds_the_package_is_in_the_lock(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependency-groups"]["installer"]}  # type: ignore[index]
    needed = {re.match(r"[\w-]+", line)[0] for line in project["build-system"]["requires"]}  # type: ignore[index]
    # what the build hook asks for where there is no compiler, and hatchling for an editable install
    assert needed | {"ziglang", "editables", "uv"} <= names
    for script in ("bootstrap.py", "image_contents.py"):
        text = (root / "scripts" / script).read_text()
        installs = len(re.findall(r'"cellworker"\]?', text))
        assert installs == len(re.findall(r'"--build-constraints"', text)) == 1


def test_the_dev_container_is_built_and_tried_by_the_workflow(root: Path) -> None:
    job = workflow(root)["jobs"]["devcontainer"]
    (step,) = [step for step in job["steps"] if "devcontainers/ci@" in step["uses"]]
    assert step["with"]["push"] == "never"
    assert step["with"]["runCmd"].startswith("make test ARGS=")
    named = re.findall(r"tests/\S+\.py", step["with"]["runCmd"])
    assert named
    assert all((root / name).exists() for name in named)
    assert "devcontainer" in workflow(root)["jobs"]["done"]["needs"]


def test_coverage_is_measured_and_reported_with_a_floor(root: Path) -> None:
    steps = workflow(root)["jobs"]["test"]["steps"]
    (measured,) = [step for step in steps if "make coverage" in step.get("run", "")]
    (plain,) = [step for step in steps if "make test" in step.get("run", "")]
    versions = workflow(root)["jobs"]["test"]["strategy"]["matrix"]["python"]
    version = re.fullmatch(r"matrix\.python == '([\d.]+)'", measured["if"])
    assert version
    assert version[1] in versions
    assert plain["if"] == f"matrix.python != '{version[1]}'"
    (report,) = [step for step in steps if "codecov" in step.get("uses", "")]
    assert report["with"]["files"] == "coverage.xml"
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["coverage"]
    assert settings["report"]["fail_under"] > 50
    status = yaml.safe_load((root / ".github/codecov.yml").read_text())["coverage"]["status"]
    assert status["project"]["default"] == {"target": "auto", "threshold": "0.5%"}


@pytest.mark.parametrize(
    ("version", "config", "environment", "options"),
    [
        ("24.2", "", {}, []),
        ("23.3.1", "", {}, ["--use-feature=truststore"]),
        ("23.2.1", "", {}, ["--cert", "{bundle}"]),  # of Python 3.11 and 3.12.0: it knows its own list alone
        ("23.2.1", "global.cert='/own.pem'\n", {}, []),
        ("23.2.1", ":env:.cert='/own.pem'\n", {}, []),
        ("23.2.1", "", {"REQUESTS_CA_BUNDLE": "/own.pem"}, []),
    ],
)
def test_every_pip_trusts_what_the_system_trusts_unless_it_was_told_otherwise(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version, config, environment, options
) -> None:
    """Behind a proxy whose certificate only the system knows, set-up has to fetch uv."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setattr(bootstrap, "BUNDLES", (bundle,))
    places = SimpleNamespace(cafile=None, openssl_cafile="/nowhere/cert.pem")
    monkeypatch.setattr(bootstrap.ssl, "get_default_verify_paths", lambda: places)
    (tmp_path / "version").write_text(f"pip {version} from /somewhere (python 3.11)\n")
    (tmp_path / "config").write_text(config)
    pip = ["sh", "-c", f'cat "{tmp_path}/${{1#--}}"', "pip"]
    assert bootstrap.certificates(pip) == [option.replace("{bundle}", str(bundle)) for option in options]
