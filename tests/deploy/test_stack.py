"""The local stack: what docker-compose.yaml sets, with processes for containers, since none run here."""

import json
import os
import re
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

ENOUGH_S = 120


def services(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "docker-compose.yaml").read_text())["services"]


def variables(root: Path, service: str, places: dict[str, str]) -> dict[str, str]:
    """A service's environment: defaults filled in, host names replaced."""
    found = {}
    for name, value in services(root)[service]["environment"].items():
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        for host, place in places.items():
            text = text.replace(host, place)
        found[name] = text
    return found


@pytest.fixture
def stack(root: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Object store, queue, Redis, seed and worker, as the compose file wires them; gives the settings of a client."""
    with moto_server() as aws, start_redis() as redis:
        places = {"http://aws:4566": aws.url, "redis://redis:6379": f"redis://127.0.0.1:{redis.port}"}
        common = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATA_DIR": str(tmp_path / "data")}
        client = {**common, **variables(root, "seed", places)}
        seeded = seed(root, client)
        assert seeded.returncode == 0, seeded.stderr
        assert "cell_sets.json" in seeded.stdout
        own = {"PORT": str(free_port()), "HEALTH_PORT": "0", "STORE_DIR": str(tmp_path / "stores")}
        command = [sys.executable, "-m", "cellworker.cli.main", *services(root)["worker"]["command"]]
        with (tmp_path / "worker.log").open("wb") as log:
            environment = {**common, **variables(root, "worker", places), **own}
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
