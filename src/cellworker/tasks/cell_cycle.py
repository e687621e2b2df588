"""CellCycleScoring (contract 5.20): the phase of the cell cycle of every cell, as a class of cell sets."""

from typing import Any

import numpy as np
import orjson
from msgspec import Struct
from numpy.typing import NDArray

from cellworker.analysis.annotation.module_scores import G2M_GENES, PHASES, S_GENES, ModuleError, module_scores, phases
from cellworker.analysis.statistics.sums import group_sums
from cellworker.experiment.model import Experiment, Genes
from cellworker.tasks.common.annotated_class import class_tables, labelled_sets, replace_class
from cellworker.tasks.common.compared_cells import check_values
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["CELL_CYCLE"]

_KEY = "Phase"
_UNDETERMINED = "Undetermined cycle phase"
_STAGE = "Scoring the cell cycle"


class CellCycleBody(Struct):
    """CellCycleScoring: no fields."""


class CellCycleRequest(Struct):
    """``CellCycleScoring``: no fields."""


def prepare(given: PrepareInput) -> CellCycleRequest:  # noqa: ARG001
    """Return an empty request: only the experiment is needed."""
    return CellCycleRequest()


def compute(experiment: Experiment, request: CellCycleRequest, context: Context) -> dict[str, Any]:  # noqa: ARG001
    """Return the class of phases, in the order of their first cells.

    Where the genes allow no score (fewer than about 2,000 genes, or none of the cell cycle), all cells get the phase
    "Undetermined cycle phase".
    """
    check_values(experiment)
    names: tuple[str, ...] = PHASES
    try:
        codes = _scored(experiment, context)
    except ModuleError:
        codes, names = np.zeros(experiment.n_cells, np.int64), (_UNDETERMINED,)
    children = labelled_sets(experiment, codes, names, lambda name: f"{_KEY}-{name.replace(' ', '_')}")
    return {"key": _KEY, "name": _KEY, "rootNode": True, "type": "cellSets", "children": children}


def _scored(experiment: Experiment, context: Context) -> NDArray[np.int64]:
    found = [_ids_of(experiment.genes, symbols) for symbols in (S_GENES, G2M_GENES)]
    # The original also counts symbols that it does not look up in the object; the random draws depend on the count.
    n_controls = min(len(S_GENES) + len(found[0]), len(G2M_GENES) + len(found[1]))
    modules = [
        _module(experiment.genes, (*symbols, *ids)) for symbols, ids in zip((S_GENES, G2M_GENES), found, strict=True)
    ]
    context.progress(_STAGE, 0.0)
    data = experiment.data
    scores = module_scores(
        (data.indptr, data.cells, data.values), _means(experiment, context), modules, n_controls, experiment.n_cells,
        on_progress=lambda fraction: context.progress(_STAGE, fraction),
    )  # fmt: skip
    return phases(scores[0], scores[1])


def _ids_of(genes: Genes, symbols: tuple[str, ...]) -> list[str]:
    """Return the id of the first gene of each symbol, ignoring case; symbols without a gene are left out."""
    places = (genes.by_upper_name.get(symbol) for symbol in symbols)
    return [genes.ids[place[0]] for place in places if place]


def _module(genes: Genes, wanted: tuple[str, ...]) -> list[int]:
    """Return the genes whose ids are in `wanted`, in that order; where there is none, ignoring case."""
    found = [genes.by_id[gene] for gene in dict.fromkeys(wanted) if gene in genes.by_id]
    if not found:
        by_capitals = {gene.upper(): i for i, gene in reversed(list(enumerate(genes.ids)))}
        found = [by_capitals[gene] for gene in dict.fromkeys(map(str.upper, wanted)) if gene in by_capitals]
    if not found:
        raise ModuleError("none of the genes is in the experiment")
    return found


def _means(experiment: Experiment, context: Context) -> NDArray[np.float64]:
    """Mean of each gene, summed cell by cell as in the original: the order of near ties decides the draw."""
    by_cell = experiment.data_by_cell
    rows = np.arange(experiment.n_cells)
    sums = group_sums(
        by_cell.indptr, by_cell.genes, by_cell.values, rows, np.zeros(len(rows), np.int32),
        n_groups=1, n_genes=by_cell.n_genes, threads=context.threads,
    )  # fmt: skip
    return np.asarray(sums[0] / max(1, experiment.n_cells))


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operations that put the class first and remove the earlier one."""
    return replace_class(orjson.loads(data), "$prepend")


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: each cell with its phase."""
    return class_tables(result, "phase")


CELL_CYCLE = Task(
    name="CellCycleScoring",
    path="CellCycleScoring",
    about="the phase of the cell cycle of every cell",
    body=CellCycleBody,
    request=CellCycleRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    cacheable=False,
    patch=patch,
    to_tables=to_tables,
)
