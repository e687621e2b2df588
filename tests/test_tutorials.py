"""The tutorials are notebooks: they run, and print what is kept in them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
LIMIT_S = 300

RUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from run_notebooks import executed, printed
print(json.dumps(printed(executed(Path(sys.argv[2])))))
"""


def test_there_is_a_tutorial_for_everyone_that_was_promised_one():
    assert {path.stem for path in NOTEBOOKS} == {
        "between_samples", "explorer", "scanpy", "seurat", "trajectory", "workflow",
    }  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_prints_what_it_says(path: Path, tmp_path: Path, monkeypatch):
    """In a process of its own: a kernel's sockets and loops are none of this one's."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from json import loads

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(ROOT / "scripts"), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept = [
        "".join(out["text"] for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]
    assert any(kept)
    assert loads(done.stdout.splitlines()[-1]) == kept


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_claim_about_numbers_names_a_test_that_there_is():
    from cellworker.tasks import catalog

    page = (ROOT / "docs/explanation/numerics.md").read_text()
    table = page[page.index("## What proves it") :]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table)
    assert len(named) > 30
    known = {file: functions(ROOT / file) for file in {file for file, _ in named}}
    assert [f"{file}::{name}" for file, name in named if name not in known[file]] == []
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert all("::" in row for row in rows if not row.startswith("|---"))
    missing = [name for name in catalog.TASKS if f"`{name}`" not in table]
    assert missing == []
