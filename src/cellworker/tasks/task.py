"""What a task is: a name on the wire, a path on the engine, and four pure functions that tell its story."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.tasks.annotator import Annotator, no_annotator
from cellworker.tasks.progress import Progress

__all__ = ["Compute", "Context", "EarlierResult", "Lane", "PrepareInput", "Progress", "Task"]


def _no_marker_table() -> bytes:
    raise WorkerError(ErrorCode.INVALID_INPUT, "This task needs a table of marker genes, and none was given.")


@dataclass(frozen=True, slots=True)
class Context:
    """What `compute` may use beside the experiment and the request.

    Attributes
    ----------
    progress
        Where to report.
    scratch
        A folder for files that are results; whoever asked removes them.
    threads
        How many threads kernels may use.
    like_original
        Reproduce the original's sampling and slips (decisions.md).
    marker_table
        Returns the content of the table of marker genes (the setting ``sctype_table``), or raises a `WorkerError` that
        says where to get it.
    annotate
        Asks a language model for the cell types of clusters (the settings ``cassia_*``).
    kept
        A folder for what another request of this engine may use again (`tasks.common.result_cache`); None where there
        is none.
    own_tables
        The result becomes tables of our own (Python, command line), which may have columns that the wire has not.
    """

    progress: Progress = lambda stage, fraction=None: None  # noqa: ARG005
    scratch: Path = Path()
    threads: int = 1
    like_original: bool = False
    marker_table: Callable[[], bytes] = _no_marker_table
    annotate: Annotator = no_annotator
    kept: Path | None = None
    own_tables: bool = False


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
        What asks for it, with the task's name, where the request does not say or there is no store of results: the
        first that is answered counts.
    """

    etag: str
    field: str
    bodies: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class PrepareInput:
    """What `prepare` sees.

    Attributes
    ----------
    body
        The validated body.
    pagination
        The request's.
    cell_sets
        Empty where not needed.
    earlier
        JSON text of the earlier result that the task builds on; None where it builds on none.
    """

    body: Any
    pagination: Mapping[str, Any] | None
    cell_sets: CellSets
    earlier: bytes | None = None


Lane = Literal["short", "long"]

Compute = Callable[[Experiment, Any, Context], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the platform.

    Attributes
    ----------
    name
        ``body.name`` on the wire.
    path
        Last segment of the engine's URL.
    body
        Type of the wire body (contract section 5), a `msgspec.Struct`; its ``name`` field is validated elsewhere.
    request
        Type of the engine's request body, a `msgspec.Struct`.
    prepare
        Body and cell sets to engine request.
    compute
        Experiment and engine request to the engine's value (JSON-able with numpy arrays, or pre-encoded
        `orjson.Fragment`); a `pathlib.Path` for a file result.
    finish
        The engine's value, as JSON text of ``data``, to the wire result's JSON text. Identity by default.
    lane
        "long" for what may take more than a second or two.
    quick
        For a task of the long lane: whether a body, or an engine request, is answered at once all the same.
    cacheable
        Stored and sent inline (contract 4.4).
    needs_cell_sets
        Whether `prepare` looks at the cell sets.
    cell_sets_only_if
        Where only some bodies need the cell sets: tells which.
    earlier
        Body to the earlier result that `prepare` needs, if any.
    bare
        The engine answers with the value alone, without ``{data, error}`` (GeneExpression).
    file_name
        For a task whose value is the path of a finished file, which is uploaded as it is: the file to the name under
        which a person saves it, which tells what is in it.
    patch
        For tasks that change cell sets: engine value to the list of patch operations of contract 5.22.
    to_tables
        Decoded wire result to named data frames for the Python API and the command line.
    """

    name: str
    path: str
    body: type[msgspec.Struct]
    request: type[msgspec.Struct]
    prepare: Callable[[PrepareInput], msgspec.Struct]
    compute: Compute
    finish: Callable[[bytes], bytes] = lambda data: data
    lane: Lane = "short"
    cacheable: bool = True
    needs_cell_sets: bool = False
    bare: bool = False
    file_name: Callable[[Path], str] | None = None
    patch: Callable[[bytes], list[dict[str, Any]]] | None = None
    to_tables: Callable[[Any], dict[str, Any]] | None = field(default=None)
    cell_sets_only_if: Callable[[Any], bool] | None = None
    quick: Callable[[Any], bool] | None = None
    earlier: Callable[[Any], EarlierResult | None] | None = None

    @property
    def file_result(self) -> bool:
        """Whether the value is a file."""
        return self.file_name is not None

    def lane_of(self, read: Callable[[], Any]) -> Lane:
        """Return the lane of one request; `read` decodes it where that matters, and what is refused is so at once."""
        if self.quick is None:
            return self.lane
        try:
            return "short" if self.quick(read()) else self.lane
        except WorkerError:
            return "short"

    def reads_cell_sets(self, body: Any) -> bool:  # noqa: ANN401
        """Return whether `prepare` looks at the cell sets for this body."""
        return self.needs_cell_sets and (self.cell_sets_only_if is None or self.cell_sets_only_if(body))
