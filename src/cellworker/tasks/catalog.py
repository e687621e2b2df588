"""Every task, by its name on the wire and by its path on the engine."""

from collections.abc import Mapping

from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.bodies import BODIES
from cellworker.tasks.annotated_object import ANNOTATED_OBJECT
from cellworker.tasks.background_genes import BACKGROUND_GENES
from cellworker.tasks.cassia import CASSIA
from cellworker.tasks.cell_cycle import CELL_CYCLE
from cellworker.tasks.cell_metadata import DOUBLET_SCORE, MITOCHONDRIAL_CONTENT, N_GENES, N_UMIS
from cellworker.tasks.cluster_cells import CLUSTER_CELLS
from cellworker.tasks.differential_expression import BATCH_DIFFERENTIAL_EXPRESSION, DIFFERENTIAL_EXPRESSION
from cellworker.tasks.embedding import EMBEDDING
from cellworker.tasks.expression_cell_sets import EXPRESSION_CELL_SETS
from cellworker.tasks.gene_expression import GENE_EXPRESSION
from cellworker.tasks.list_genes import LIST_GENES
from cellworker.tasks.markers import DOT_PLOT, MARKER_HEATMAP
from cellworker.tasks.normalized_expression import NORMALIZED_EXPRESSION
from cellworker.tasks.sctype import SCTYPE
from cellworker.tasks.task import Task
from cellworker.tasks.trajectory import PSEUDO_TIME, STARTING_NODES

__all__ = ["BY_PATH", "TASKS", "find"]

_ALL = {
    task.name: task
    for task in (
        EMBEDDING,
        LIST_GENES,
        GENE_EXPRESSION,
        DOUBLET_SCORE,
        MITOCHONDRIAL_CONTENT,
        N_GENES,
        N_UMIS,
        EXPRESSION_CELL_SETS,
        NORMALIZED_EXPRESSION,
        DIFFERENTIAL_EXPRESSION,
        BATCH_DIFFERENTIAL_EXPRESSION,
        BACKGROUND_GENES,
        CLUSTER_CELLS,
        DOT_PLOT,
        MARKER_HEATMAP,
        SCTYPE,
        CASSIA,
        CELL_CYCLE,
        ANNOTATED_OBJECT,
        STARTING_NODES,
        PSEUDO_TIME,
    )
}

TASKS: Mapping[str, Task] = {name: _ALL[name] for name in BODIES}
"""The tasks by name, in the contract's order."""

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
