"""The table from cells to memory, disk and start-up time says what was measured, and marks what was not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest


def rows(root: Path) -> dict[int, list[str]]:
    text = (root / "docs/operations.md").read_text()
    table = text.partition("<!-- sizing -->\n")[2].partition("<!-- end -->")[0]
    found = {}
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[int(re.sub(r"\D", "", cells[0]))] = cells
    return found


def measured(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = root / "benchmarks/results"
    cases = json.loads((folder / f"{name}.json").read_text())
    return {case["case"]: case["ours"] for case in cases}, json.loads((folder / f"{name}.meta.json").read_text())[
        "about"
    ]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def close(said: str, *found: float) -> bool:
    """Whether the numbers in a cell are those that were found, to what they were rounded to."""
    return numbers(said) == pytest.approx(list(found), rel=0.06)


@pytest.mark.parametrize("cells", [10_000, 50_000, 100_000])
def test_what_was_measured_is_what_is_reported(cells: int, root: Path) -> None:
    cases, about = measured(root, "sizing")
    size = f"{cells:,} cells"
    _, values, file, store, opening, memory, ready, rest, task = rows(root)[cells]
    facts, read, engine = about[size], cases[f"{size}: read"], cases[f"{size}: engine ready"]
    assert close(values, facts["nonzeros"] / 1e6)
    assert close(file, facts["file_bytes"] / 1e9)
    assert close(store, facts["store_bytes"] / 1e9)
    assert close(opening, read["cpu_s"], read["wall_s"])
    assert close(memory, read["peak_mb"])
    assert close(ready, engine["cpu_s"], engine["wall_s"])
    assert close(rest, engine["peak_mb"])
    tasks = [
        case["peak_mb"]
        for name, case in cases.items()
        if name.startswith(size) and name[-1] != "y" and ": read" not in name
    ]
    assert close(task, max(tasks))


def test_what_was_not_measured_is_in_italics(root: Path) -> None:
    for cells, row in rows(root).items():
        if cells > 100_000:
            assert all(cell.startswith("*") and cell.endswith("*") for cell in row), cells


def test_disk_goes_with_the_values(root: Path) -> None:
    text = (root / "docs/operations.md").read_text()
    file, store = numbers(text.partition("Disk grows with the stored values:")[2].partition(" for each. ")[0])
    _, about = measured(root, "sizing")
    for facts in about.values():
        assert facts["file_bytes"] / facts["nonzeros"] == pytest.approx(file, rel=0.02)
        assert facts["store_bytes"] / facts["nonzeros"] == pytest.approx(store, rel=0.02)
