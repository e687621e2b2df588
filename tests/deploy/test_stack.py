"""The local stack: what docker-compose.yaml sets, with processes for containers, since none run here."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from cellworker.settings import Settings

sys.path.insert(0, str(Path(__file__).parent.parent))
from cloud.servers import free_port, moto_server, start_redis

from .test_workflows import load

ENOUGH_S = 120


def services(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "docker-compose.yaml").read_text())["services"]


def filled_in(text: str, given: dict[str, str]) -> str:
    """What docker compose makes of a value: the caller's variables, or the defaults."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], text)


def mounted(root: Path, service: str, given: dict[str, str]) -> dict[str, str]:
    """A service's folders: the path in the container, and the one on this machine."""
    found = {}
    for volume in services(root)[service]["volumes"]:
        outside, inside = filled_in(volume, given).split(":")[:2]
        found[inside] = outside
    return found


def variables(root: Path, service: str, places: dict[str, str], given: dict[str, str] | None = None) -> dict[str, str]:
    """A service's environment: the caller's variables and defaults filled in, host names and folders replaced."""
    found = {}
    for name, value in services(root)[service]["environment"].items():
        text = filled_in(str(value), given or {})
        for host, place in places.items():
            text = text.replace(host, place)
        found[name] = text
    return found


@pytest.fixture
def given() -> dict[str, str]:
    """What the person who says `make stack` has in the environment."""
    return {}


@pytest.fixture
def stack(root: Path, tmp_path: Path, given: dict[str, str]) -> Iterator[dict[str, str]]:
    """Object store, queue, Redis, seed and worker, as the compose file wires them; gives the settings of a client."""
    with moto_server() as aws, start_redis() as redis:
        places = {"http://aws:4566": aws.url, "redis://redis:6379": f"redis://127.0.0.1:{redis.port}"}
        common = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATA_DIR": str(tmp_path / "worker")}
        given = {"DATA_DIR": str(tmp_path / "data"), **given}
        folders = mounted(root, "seed", given)
        client = {**common, **variables(root, "seed", {**places, **folders}, given)}
        seeded = seed(root, client)
        assert seeded.returncode == 0, seeded.stderr
        assert "cell_sets.json" in seeded.stdout
        client["SEEDED"] = seeded.stdout
        own = {"PORT": str(free_port()), "HEALTH_PORT": "0", "STORE_DIR": str(tmp_path / "stores")}
        command = [sys.executable, "-m", "cellworker.cli.main", *services(root)["worker"]["command"]]
        with (tmp_path / "worker.log").open("wb") as log:
            environment = {**common, **variables(root, "worker", places, given), **own}
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                yield client
            finally:
                worker.terminate()
                worker.wait(ENOUGH_S)
                print((tmp_path / "worker.log").read_text())


def seed(root: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/seed.py", *arguments]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=ENOUGH_S, check=False
    )


def test_a_request_to_the_seeded_stack_is_answered(stack: dict[str, str], root: Path) -> None:
    body = json.dumps({"orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 3})
    done = seed(root, stack, "--only-send", "--send", "ListGenes", "--body", body)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gene_names"] == ["FABP4", "CCL2", "CXCL5"]


class TestAnExperimentOfOnesOwn:
    @pytest.fixture
    def given(self, root: Path, tmp_path: Path) -> dict[str, str]:
        shutil.copytree(root / "tests/fixtures/pbmcsmall/v4", tmp_path / "data" / "1234")
        return {"EXPERIMENT_ID": "1234"}

    def test_its_genes_are_answered_and_not_the_samples(self, stack: dict[str, str], root: Path) -> None:
        assert "experiment 1234, from data/1234: r.rds" in stack["SEEDED"]
        body = json.dumps({"genes": ["MS4A1", "CD79B"]})
        done = seed(root, stack, "--only-send", "--send", "GeneExpression", "--body", body)
        assert done.returncode == 0, done.stderr
        # 80 cells, where the sample has thousands
        assert '"orderedGeneNames":["MS4A1","CD79B"]' in done.stdout


def chosen(root: Path, data_dir: Path, experiment_id: str) -> tuple[Path, str]:
    found: tuple[Path, str] = load(root / "scripts/seed.py").chosen(None, experiment_id, data_dir)
    return found


@pytest.mark.parametrize("target", ["stack", "run-downloaded"])
def test_a_relative_data_folder_is_a_folder_for_compose_too(target: str, root: Path, tmp_path: Path) -> None:
    """Compose takes `mine` for the name of a volume; `make run` takes it for a folder, and so does this."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\necho "$1 $2: $DATA_DIR" >> "$SAID"\n')
    docker.chmod(0o755)
    said, folder = tmp_path / "said", os.path.relpath(tmp_path / "my data", root)
    environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}", "SAID": str(said)}
    done = subprocess.run(
        ["make", target], cwd=root, env={**environment, "DATA_DIR": folder},
        capture_output=True, text=True, timeout=ENOUGH_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"compose up: {tmp_path / 'my data'}" in said.read_text().splitlines()


def test_the_sample_is_reported_to_be_the_sample(root: Path, tmp_path: Path, sample: Path) -> None:
    assert chosen(root, tmp_path, "test") == (sample, "the bundled sample")
    (tmp_path / "test").mkdir()
    assert chosen(root, tmp_path, "test") == (tmp_path / "test", "data/test")


@pytest.mark.parametrize("wanted", ["1234", "../elsewhere", "/etc", "."])
def test_nothing_else_is_put_under_the_id_of_an_experiment_that_is_not_there(
    wanted: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    data_dir = tmp_path / "data"
    (data_dir / "5678").mkdir(parents=True)
    (data_dir / "5678" / "r.rds").touch()
    done = seed(
        root,
        {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "CLUSTER_ENV": "development",
            "EXPERIMENT_ID": wanted,
            "DATA_DIR": str(data_dir),
        },
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"There is no folder data/{wanted} with one of r.rds" in done.stderr
    assert "EXPERIMENT_ID: 5678" in done.stderr


def test_the_seed_refuses_to_touch_what_is_no_stand_in(root: Path, tmp_path: Path) -> None:
    real = {"CLUSTER_ENV": "production", "AWS_ACCOUNT_ID": "1" * 12, "AWS_DEFAULT_REGION": "eu-west-1"}
    done = seed(root, {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **real})
    assert done.returncode == 1
    assert "stand-ins" in done.stderr


def test_the_compose_file_sets_settings_only_and_the_containers_may_do_little(root: Path) -> None:
    found = services(root)
    settings = {item.name.upper() for item in fields(Settings)}
    for name in ("worker", "seed"):
        assert set(found[name]["environment"]) <= settings
    worker = found["worker"]
    assert (worker["read_only"], worker["cap_drop"]) == (True, ["ALL"])
    for service in found.values():
        # Nothing of it is for the network that a laptop happens to be in.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
