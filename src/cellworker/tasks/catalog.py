"""All tasks, by their names on the wire and by their paths on the engine. A new task is one import and one row here."""

from collections.abc import Mapping
from typing import Any

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.tasks.annotated_object import ANNOTATED_OBJECT
from cellworker.tasks.background_genes import BACKGROUND_GENES
from cellworker.tasks.cassia import CASSIA
from cellworker.tasks.cell_cycle import CELL_CYCLE
from cellworker.tasks.cell_metadata import DOUBLET_SCORE, MITOCHONDRIAL_CONTENT, N_GENES, N_UMIS
from cellworker.tasks.cluster_cells import CLUSTER_CELLS
from cellworker.tasks.common.examples import example_parts
from cellworker.tasks.differential_expression import BATCH_DIFFERENTIAL_EXPRESSION, DIFFERENTIAL_EXPRESSION
from cellworker.tasks.embedding import EMBEDDING
from cellworker.tasks.expression_cell_sets import EXPRESSION_CELL_SETS
from cellworker.tasks.gene_expression import GENE_EXPRESSION
from cellworker.tasks.list_genes import LIST_GENES
from cellworker.tasks.markers import DOT_PLOT, MARKER_HEATMAP
from cellworker.tasks.normalized_expression import NORMALIZED_EXPRESSION
from cellworker.tasks.own.cell_column import CELL_COLUMN
from cellworker.tasks.own.cluster_subset import CLUSTER_SUBSET
from cellworker.tasks.own.composition import COMPOSITION
from cellworker.tasks.own.group_summaries import GROUP_SUMMARIES
from cellworker.tasks.own.list_cell_columns import LIST_CELL_COLUMNS
from cellworker.tasks.own.score_genes import SCORE_GENES
from cellworker.tasks.own.stored_results import LIST_STORED_RESULTS, STORED_RESULT
from cellworker.tasks.own.subset_embedding import SUBSET_EMBEDDING
from cellworker.tasks.sctype import SCTYPE
from cellworker.tasks.task import Task
from cellworker.tasks.trajectory import PSEUDO_TIME, STARTING_NODES

__all__ = ["BY_PATH", "TASKS", "example_bodies", "find"]

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        EMBEDDING,
        LIST_GENES,
        DIFFERENTIAL_EXPRESSION,
        BATCH_DIFFERENTIAL_EXPRESSION,
        GENE_EXPRESSION,
        BACKGROUND_GENES,
        CLUSTER_CELLS,
        DOT_PLOT,
        DOUBLET_SCORE,
        MITOCHONDRIAL_CONTENT,
        N_GENES,
        N_UMIS,
        MARKER_HEATMAP,
        STARTING_NODES,
        PSEUDO_TIME,
        EXPRESSION_CELL_SETS,
        NORMALIZED_EXPRESSION,
        SCTYPE,
        CASSIA,
        CELL_CYCLE,
        ANNOTATED_OBJECT,
        LIST_CELL_COLUMNS,
        CELL_COLUMN,
        SCORE_GENES,
        GROUP_SUMMARIES,
        COMPOSITION,
        CLUSTER_SUBSET,
        SUBSET_EMBEDDING,
        LIST_STORED_RESULTS,
        STORED_RESULT,
    )
}
"""The tasks by name: the platform's 21 in the contract's order, then ours."""

BY_PATH: Mapping[str, Task] = {task.path: task for task in TASKS.values()}
"""The tasks by the last segment of the engine's URL."""


def find(name: object) -> Task:
    """Return the task of that name on the wire.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` listing the known tasks.
    """
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    raise WorkerError(
        ErrorCode.INVALID_INPUT, f"body.name: {name!r} is not a task; known tasks are {', '.join(TASKS)}."
    )


def example_bodies(experiment: Experiment, cell_sets: CellSets) -> dict[str, dict[str, Any]]:
    """Return an example body of each task, with genes and cell sets that exist in the experiment."""
    parts = example_parts(experiment, cell_sets)
    return {name: {"name": name, **task.example(parts)} for name, task in TASKS.items()}
