"""What the original answered about statistics, and whether we answer the same."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PBMCSMALL = Path(__file__).parent / "fixtures" / "pbmcsmall" / "golden"
PATHS = {
    "DifferentialExpression": "DifferentialExpression",
    "GetBackgroundExpressedGenes": "getBackgroundExpressedGenes",
    "MarkerHeatmap": "runMarkerHeatmap",
    "DotPlot": "runDotPlot",
}

ANSWERED = ("MarkerHeatmap-scratchpad-n5",)
"""The original cannot search sets that overlap; we can."""


def names(folder: Path, task: str) -> list[str]:
    """The cases of a task that lie in a folder."""
    files = {path.name for path in folder.glob(f"{task}-*.json*")}
    return sorted(name.split(".json")[0] for name in files if ".wire." not in name)


def read(folder: Path, name: str) -> dict[str, Any]:
    """One case: `request`, `response` and, where the original failed, `error`."""
    plain = folder / f"{name}.json"
    return json.loads(
        plain.read_text() if plain.exists() else gzip.decompress((folder / f"{name}.json.gz").read_bytes())
    )


def many(value: Any) -> list[Any]:
    """R writes vectors of length one as scalars."""
    return value if isinstance(value, list) else [] if value is None else [value]


def floats(values: Any) -> np.ndarray:
    """Numbers with their gaps, in our spelling or in the original's."""
    return np.array([math.nan if x is None or x in ("NA", "NaN") else float(x) for x in many(values)], float)


def was_sampled(task: str, request: dict[str, Any]) -> bool:
    """Whether the original looked at a random part of the cells only."""
    if task == "DifferentialExpression":
        return max(len(many(request[side])) for side in ("baseCells", "backgroundCells")) > 10_000
    if task == "GetBackgroundExpressedGenes":
        return False
    sets = request.get("cellSets") or request["groupBy"]
    uses_markers = task == "MarkerHeatmap" or request["useMarkerGenes"]
    return uses_markers and max((len(many(child["cellIds"])) for child in sets["children"]), default=0) > 1000


def judge(task: str, request: dict[str, Any], got: Any, want: Any, *, exact: bool) -> None:
    """Compare an answer with the original's; `exact` where ours was made with `like_original`."""
    if task == "DifferentialExpression":
        _same_table(request, got["gene_results"], want["gene_results"], exact=exact)
    elif task == "DotPlot":
        _same_dots(got, want)
    else:
        (column,) = got
        assert got[column] == many(want[column])


def _same_table(request: dict[str, Any], got: dict[str, Any], want: dict[str, Any], *, exact: bool) -> None:
    assert list(got) == [name for name in want if name != "_row"]
    assert all(isinstance(column, list) for column in got.values())
    ids = "gene_id" if "gene_id" in want else "Gene"
    # Genes whose values tie in single precision may trade places.
    place = {gene: i for i, gene in enumerate(got[ids])}
    rows = [i for i, gene in enumerate(many(want[ids])) if gene in place]
    at = [place[many(want[ids])[i]] for i in rows]
    if len(rows) < max(len(got[ids]), len(many(want[ids]))):
        _only_ties_trade_places(request, got, want, at, rows, exact=exact)
    for name in got:
        if name in ("gene_names", "gene_id", "Gene"):
            assert [got[name][i] for i in at] == [many(want[name])[i] for i in rows]
            continue
        ours, theirs = floats(got[name])[at], floats(want[name])[rows]
        if name not in ("p_val", "p_val_adj"):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-7)
        elif request["comparisonType"] == "between":
            # Variances that are equal but for rounding rank as they fall, here and in R: it shows in the fourth digit.
            np.testing.assert_allclose(ours, theirs, rtol=1e-3)
        elif exact:
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        else:  # the original's ties
            np.testing.assert_allclose(np.log10(ours), np.log10(theirs), rtol=1e-4, atol=1e-4)


def _only_ties_trade_places(
    request: dict[str, Any], got: dict[str, Any], want: dict[str, Any], at: list[int], rows: list[int], *, exact: bool
) -> None:
    """Hold that pages differ by no more than genes of one adjusted p-value, which the edge of the page cuts apart.

    The original has them in the order of the matrix, we in the order of their statistics.
    """
    assert not exact
    assert request["pagination"]["orderBy"] == "p_val_adj"
    ours, theirs = floats(got["p_val_adj"]), floats(want["p_val_adj"])
    np.testing.assert_allclose(np.log10(ours), np.log10(theirs), rtol=1e-4, atol=1e-4)
    for adjusted, common in ((ours, at), (theirs, rows)):
        alone = np.delete(adjusted, common)
        edges = adjusted[[0, -1]]
        assert all(np.isclose(edges, value, rtol=1e-6, atol=0).any() for value in alone)


def _same_dots(got: Any, want: Any) -> None:
    if not want:
        assert got == []
        return
    assert (got["cellSetsNames"], got["geneNames"]) == (many(want["cellSetsNames"]), many(want["geneNames"]))
    assert got["cellSetsIdx"] == [int(i) for i in many(want["cellSetsIdx"])]
    order = [np.lexsort((many(d["geneNameIdx"]), many(d["cellSetsIdx"]))) for d in (got, want)]
    for name in ("geneNameIdx", "avgExpression", "cellsPercentage"):
        ours, theirs = (floats(d[name])[o] for d, o in zip((got, want), order, strict=True))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def parametrize(task: str, *, skip: tuple[str, ...] = ()) -> Any:
    """Every case of a task about pbmc_small, with and without `like_original`."""
    cases = [case for case in names(PBMCSMALL, task) if case not in skip]
    assert cases
    return lambda test: pytest.mark.parametrize("case", cases)(pytest.mark.parametrize("exact", [False, True])(test))
