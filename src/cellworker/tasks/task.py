"""A task: a name on the wire, a path on the engine, and pure functions from a request to its result.

A task is one file of this folder. Other parts of the program know only the fields of its `Task`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.protocol.columns import ColumnTable
from cellworker.protocol.validation import convert
from cellworker.tasks.context import Context, Progress

__all__ = [
    "Compute",
    "Context",
    "EarlierResult",
    "ExampleParts",
    "Lane",
    "PrepareInput",
    "Progress",
    "Task",
    "with_every_cell",
]


@dataclass(frozen=True, slots=True)
class EarlierResult:
    """A result of another task that a request builds on.

    Attributes
    ----------
    etag
        Its name in the store of results; empty where the request does not say.
    field
        The request's field that names it, for messages.
    bodies
        Request bodies for it, with the task's name, where the request does not name a result or there is no store of
        results. The first body that is answered counts.
    """

    etag: str
    field: str
    bodies: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class PrepareInput:
    """The input of `prepare`.

    Attributes
    ----------
    body
        The validated body.
    pagination
        The request's.
    cell_sets
        Empty where the task needs none.
    earlier
        JSON text of the earlier result that the task builds on, or None.
    """

    body: Any
    pagination: Mapping[str, Any] | None
    cell_sets: CellSets
    earlier: bytes | None = None


@dataclass(frozen=True, slots=True)
class ExampleParts:
    """Names that exist in the experiment, for an example body.

    Attributes
    ----------
    genes
        The most variable ones, or those that most cells express.
    cell_class
        Key of the class of clusters, else of a class that has sets.
    clusters, samples
        Keys of their sets; empty where there are none.
    reduction
        The default reduction.
    is_saved
        Whether the experiment holds it.
    column
        A metadata column; one of labels where there is one.
    stored
        A result that the file brought; empty where it brought none.
    """

    genes: list[str]
    cell_class: str
    clusters: list[str]
    samples: list[str]
    reduction: str
    is_saved: bool
    column: str = ""
    stored: str = ""

    @property
    def first_cluster(self) -> str:
        """Key of the first cluster; the platform's example key where the experiment has no clusters."""
        return self.clusters[0] if self.clusters else "louvain-0"


Lane = Literal["short", "long"]

Compute = Callable[[Experiment, Any, Context], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes
    ----------
    name
        ``body.name`` on the wire.
    path
        Last segment of the engine's URL.
    about
        The result in one line without a full stop, for people who choose a task.
    body
        Type of the wire body (contract section 5), a `msgspec.Struct`; another module validates the ``name`` field.
    request
        Type of the engine's request body, a `msgspec.Struct`. Requests of the platform's tasks are those of the
        original (contract sections 5 and 7), so that both engines take the same request. R cannot tell one value from a
        list of one, so a bare value is accepted where a list is expected.
    prepare
        Body and cell sets to engine request.
    compute
        Experiment and engine request to the engine's value (JSON-able with numpy arrays, or pre-encoded: `JsonText`,
        `orjson.Fragment`); a `pathlib.Path` for a file result.
    example
        The fields of a body as the platform's UI sends it, without its name; none by default.
    ours
        Whether the task is ours. The contract fixes the platform's 21 tasks.
    finish
        Converts the engine's value, as JSON text of ``data``, to the wire result's JSON text. Identity by default.
    lane
        "long" for what may take more than a second or two.
    quick
        For a task of the long lane: tells whether a body can be answered at once.
    glance
        Used with `quick`, which then takes it too: the fields of the engine's request that decide. The engine reads
        only these to choose a lane; the request is checked once, in the process that computes it.
    cacheable
        Stored and sent inline (contract 4.4).
    needs_cell_sets
        Whether `prepare` reads the cell sets.
    cell_sets_only_if
        Where only some bodies need the cell sets: whether a body does.
    earlier
        Converts a body to the earlier result that `prepare` needs, or None.
    bare
        The engine answers with the value alone, without ``{data, error}`` (GeneExpression).
    file_name
        For a task whose value is the path of a finished file, which is uploaded as it is: converts the path to the name
        of the download, which tells the content.
    patch
        For tasks that change cell sets: converts the engine's value to the list of patch operations of contract 5.22.
    columns
        Converts experiment and engine request to the same answer as typed columns (`protocol.columns`), for clients of
        our own door that ask for them; None where the task has none. A task of ours whose `compute` returns a
        `ColumnTable` names `compute` here again.
    to_tables
        Converts the decoded wire result to named data frames, for the Python API and the command line.
    every_cell
        The tables are of cells and get a row for each cell of the experiment, empty where the result has nothing. (A
        wire result does not tell a cell without a number from an id that no cell has.)
    """

    name: str
    path: str
    about: str
    body: type[msgspec.Struct]
    request: type[msgspec.Struct]
    prepare: Callable[[PrepareInput], msgspec.Struct]
    compute: Compute
    example: Callable[[ExampleParts], dict[str, Any]] = lambda parts: {}  # noqa: ARG005
    ours: bool = False
    finish: Callable[[bytes], bytes] = lambda data: data
    lane: Lane = "short"
    cacheable: bool = True
    needs_cell_sets: bool = False
    bare: bool = False
    file_name: Callable[[Path], str] | None = None
    patch: Callable[[bytes], list[dict[str, Any]]] | None = None
    to_tables: Callable[[Any], dict[str, Any]] | None = field(default=None)
    every_cell: bool = False
    columns: Callable[[Experiment, Any, Context], ColumnTable] | None = None
    cell_sets_only_if: Callable[[Any], bool] | None = None
    quick: Callable[[Any], bool] | None = None
    glance: type[msgspec.Struct] | None = None
    earlier: Callable[[Any], EarlierResult | None] | None = None

    def read_body(self, body: bytes | bytearray | Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Check a body, as JSON text or parsed; return a `body`.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the field.
        """
        return convert(body, self.body, "body")

    def read_request(self, request: bytes | bytearray | Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Check an engine request, as JSON text or parsed; return a `request`. Raises like `read_body`."""
        return convert(request, self.request, "request")

    def tables(self, value: Any, cell_ids: NDArray[np.int32]) -> dict[str, Any]:  # noqa: ANN401
        """Return a decoded result as tables; empty where it has none. `cell_ids` are the ids of all cells."""
        tables = self.to_tables(value) if self.to_tables is not None else {}
        return with_every_cell(tables, cell_ids.tolist()) if self.every_cell else tables

    @property
    def file_result(self) -> bool:
        """Whether the value is a file."""
        return self.file_name is not None

    def lane_of(self, body: Any) -> Lane:  # noqa: ANN401
        """Return the lane of a checked body."""
        return "short" if self.quick is not None and self.quick(body) else self.lane

    def lane_of_request(self, request: bytes) -> Lane:
        """Return the lane of an engine request by its JSON text; an invalid one is quick, since it is refused."""
        if self.quick is None or self.glance is None:
            return self.lane
        try:
            return self.lane_of(msgspec.json.decode(request, type=self.glance))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "short"

    def reads_cell_sets(self, body: Any) -> bool:  # noqa: ANN401
        """Return whether `prepare` reads the cell sets for this body."""
        return self.needs_cell_sets and (self.cell_sets_only_if is None or self.cell_sets_only_if(body))


def with_every_cell(tables: dict[str, Any], cell_ids: Sequence[int]) -> dict[str, Any]:
    """Return tables of cells in which every cell has a row, in the order of the ids.

    Parameters
    ----------
    tables
        Each has a column ``cell_id``; a cell may have several rows, or none.
    cell_ids
        The ids of all cells of the experiment.

    Returns
    -------
    The tables, with a row of None (except for the id) for each cell that had none.
    """
    return {name: _completed(table, cell_ids) for name, table in tables.items()}


def _completed(table: Mapping[str, Sequence[Any]], cell_ids: Sequence[int]) -> Mapping[str, Sequence[Any]]:
    there = set(table["cell_id"])
    lacking = [cell for cell in cell_ids if cell not in there]
    if not lacking:
        return table
    cells = [*table["cell_id"], *lacking]
    order = sorted(range(len(cells)), key=cells.__getitem__)
    padded = {name: [*column, *[None] * len(lacking)] for name, column in table.items()} | {"cell_id": cells}
    return {name: [column[i] for i in order] for name, column in padded.items()}
