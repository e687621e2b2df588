"""cellworker in a notebook: opens an experiment, answers the platform's requests, returns data frames."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from weakref import finalize

import orjson

from cellworker.api.matrix_roles import with_roles
from cellworker.engine.contexts import make_context
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical, Experiment
from cellworker.experiment.store.store import StoredExperiment
from cellworker.extras import how_to_install
from cellworker.formats.opening.open import open_experiment as open_files
from cellworker.formats.opening.open import open_source
from cellworker.formats.opening.store_guard import CUT_SHORT, StoreGuard, damaged_twice, discard, guard
from cellworker.plain_text import one_line
from cellworker.progress import silent
from cellworker.protocol.value_json import encode
from cellworker.protocol.written_fields import refuse_unknown_fields
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.steps import answer
from cellworker.tasks.task import Context, Progress, Task

if TYPE_CHECKING:
    from pandas import DataFrame

    from cellworker.api.view import ExplorerWidget

__all__ = ["OpenExperiment", "open_experiment", "opener"]

_MAX_ATTEMPTS: Final = 2
_R = TypeVar("_R")


def open_experiment(
    path: str | Path,
    settings: Settings | None = None,
    progress: Progress | None = None,
    *,
    counts: str | None = None,
    data: str | None = None,
    sample: str | None = None,
    drop_genes: bool | None = None,
    object: str | None = None,  # noqa: A002 - as the command line calls it
    part: str | None = None,
    orientation: str | None = None,
) -> "OpenExperiment":
    """Open an experiment.

    Parameters
    ----------
    path
        An experiment file (``.rds``, ``.rda``, ``.qs``, ``.qs2``, ``.h5seurat``, ``.h5ad``, ``.zarr``), or a folder
        that holds one and its ``cell_sets.json``.
    settings
        None reads the environment.
    progress
        Called with the progress of the reading, and later of long requests: a sentence and a fraction.
    counts
        The matrix of raw counts, where it is known better than from the values: ``"X"``, ``"raw.X"`` or a layer's name
        in AnnData, ``"RNA/counts"`` or the like in Seurat objects; ``"none"`` where there are no counts.
    data
        The matrix of log-normalised values, named in the same way; it is served as it is.
    sample
        The column of cell metadata that names each cell's sample.
    drop_genes
        Leave out genes with values that are missing or infinite.
    object
        The name of the object, in a file that holds several (``.rda``).

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``, ``EXPERIMENT_UNREADABLE``, ``EXPERIMENT_UNSUPPORTED`` or ``CELL_SETS_INVALID``, with
        a sentence that says what to do.

    Examples
    --------
    >>> experiment = open_experiment("data/1234")  # doctest: +SKIP
    >>> experiment.run("ListGenes", orderBy="dispersions", orderDirection="DESC", limit=10)  # doctest: +SKIP
    """
    settings = with_roles(
        settings,
        counts=counts,
        data=data,
        sample=sample,
        drop_genes=drop_genes,
        object_name=object,
        part=part,
        orientation=orientation,
    )
    opened = open_files(Path(path), settings, progress)
    made = OpenExperiment(opened.experiment, opened.cell_sets, opened.source, settings=settings, progress=progress)
    made.stored_in(opened.experiment, opener(opened.source, settings))
    return made


def opener(source: Path, settings: Settings) -> Callable[[], StoredExperiment]:
    """Return a function that opens a source once more; it holds nothing of what is open now."""
    return lambda: open_source(source, settings)[1]


class OpenExperiment:
    """An open experiment that answers the platform's requests in this process.

    Parameters
    ----------
    experiment, cell_sets
        The source of all answers.
    source
        The file that it was read from; None for one made in memory.
    settings
        Threads and the switch `like_original`; None reads the environment.
    progress
        Called with the progress of long requests.
    """

    def __init__(
        self,
        experiment: Experiment,
        cell_sets: CellSets | None = None,
        source: Path | None = None,
        *,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._experiment = experiment
        self.cell_sets = cell_sets or CellSets.empty()
        self.source = source
        self._settings = settings or Settings.from_environment()
        self._progress = progress or silent
        self._guard: StoreGuard | None = None
        self._ending: finalize[Any, Any] | None = None
        self._open_again: Callable[[], StoredExperiment] | None = None
        self._opening = threading.RLock()

    @property
    def experiment(self) -> Experiment:
        """What requests are answered from; where its store was damaged meanwhile, one that was made again.

        Raises
        ------
        WorkerError
            Why its source cannot be read again; ``EXPERIMENT_OUT_OF_DATE`` where it is another file by now.
        """
        if _is_sound(self._experiment):
            return self._experiment
        with self._opening:
            held = self._experiment
            if isinstance(held, StoredExperiment) and self._open_again is not None and not _is_sound(held):
                discard(held, CUT_SHORT)
                made = self._open_again()
                if made.key != held.key:
                    message = "Its store was damaged, and the file that it was made of has changed since; open it again"
                    raise WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, message)
                self.stored_in(made, self._open_again)
            return self._experiment

    def stored_in(self, experiment: StoredExperiment, open_again: Callable[[], StoredExperiment]) -> None:
        """Answer from a store: it is compared with its checksums in the background, and made again when it is damaged.

        Parameters
        ----------
        experiment
            The open store.
        open_again
            Opens its source once more.
        """
        self._stop_guard()
        self._experiment, self._open_again = experiment, open_again
        self._guard = guard(experiment)
        self._ending = finalize(self, self._guard.stop) if self._guard is not None else None

    def sound(self, use: Callable[[Experiment], _R]) -> _R:
        """Return what comes of an experiment; once more where its store was damaged under it."""
        for _ in range(_MAX_ATTEMPTS):
            held = self.experiment
            try:
                outcome = use(held)
            except Exception:
                if _is_sound(held):
                    raise
            else:
                if _is_sound(held):
                    return outcome
        raise damaged_twice()

    def run(self, task: str, *, pagination: Mapping[str, Any] | None = None, **body: Any) -> Any:  # noqa: ANN401
        """Answer one request and return tables as data frames (needs the extra ``notebook``).

        Parameters
        ----------
        task
            The task's name on the wire, for example "GeneExpression".
        pagination
            What the platform sends as ``requestProps.pagination``.
        **body
            The fields of the request's body, under their names on the wire. Others are refused by name.

        Returns
        -------
        A data frame; a dict of data frames by name where the result is several tables; a `pathlib.Path` where it is a
        file, which lives as long as this object; the decoded JSON where it is no table.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the field, or the task's own error.
        """
        found = catalog.find(task)
        answer = self._answer(found, pagination, body, own_tables=True)
        if isinstance(answer, Path):
            return answer
        value = orjson.loads(answer)
        if found.to_tables is None:
            return value
        tables = found.tables(value, self.experiment.cell_ids)
        frames = {name: _frame(columns) for name, columns in tables.items()}
        return next(iter(frames.values())) if len(frames) == 1 else frames

    def call(self, task: str, *, pagination: Mapping[str, Any] | None = None, **body: Any) -> Any:  # noqa: ANN401
        """Answer one request and return the result as the platform's clients get it, in plain Python. See `run`."""
        answer = self._answer(catalog.find(task), pagination, body)
        return answer if isinstance(answer, Path) else orjson.loads(answer)

    def run_raw(self, task: str, *, pagination: Mapping[str, Any] | None = None, **body: Any) -> bytes:  # noqa: ANN401
        """Answer one request and return the result's bytes: JSON text, or the content of a file. See `run`."""
        answer = self._answer(catalog.find(task), pagination, body)
        return answer.read_bytes() if isinstance(answer, Path) else answer

    def _answer(
        self,
        task: Task,
        pagination: Mapping[str, Any] | None,
        body: Mapping[str, Any],
        *,
        own_tables: bool = False,
        cell_sets: CellSets | None = None,
    ) -> bytes | Path:
        refuse_unknown_fields(task.name, body, task.body)
        try:
            text = encode({"name": task.name, **body})
        except TypeError as error:
            reason = error.__cause__ or error
            raise WorkerError(ErrorCode.INVALID_INPUT, f"body: {reason}.") from None
        checked = task.read_body(text)
        scratch = self._scratch if task.file_result or task.lane == "long" else Path()
        kept = scratch / "kept" if task.lane == "long" else None
        context = self.context(self._progress, scratch, kept, own_tables=own_tables)
        return self.sound(
            lambda experiment: answer(
                task,
                checked,
                experiment,
                context,
                catalog.find,
                cell_sets=cell_sets or self.cell_sets,
                pagination=pagination,
            )
        )

    def context(
        self, progress: Progress, scratch: Path, kept: Path | None = None, *, own_tables: bool = False
    ) -> Context:
        """Return the context of a task. See `make_context`."""
        return make_context(self._settings, progress, scratch, kept, own_tables=own_tables)

    def view(self, height: int = 720) -> "ExplorerWidget":
        """Show the explorer below a notebook's cell (needs the extra ``notebook``).

        The page is the one of ``cellworker run``. It answers from this object: cell sets that are made on the page are
        in `cell_sets` of this object at once, and are not written to any file.

        A browser on this machine asks this process by a port of loopback. Any other (JupyterHub, a notebook behind a
        proxy) asks through the notebook's own connection, so that no port has to be forwarded.

        Parameters
        ----------
        height
            In pixels.

        Returns
        -------
        ExplorerWidget
            A widget; `ExplorerWidget.url` opens in a tab of its own as well. What it serves ends with `close`, or with
            this process.

        Raises
        ------
        ImportError
            Where anywidget or the explorer's bundle is not installed.
        WorkerError
            ``INVALID_INPUT`` for an invalid height.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> experiment.view()  # doctest: +SKIP
        """
        from cellworker.api.view import make_widget  # noqa: PLC0415 - only notebooks need it

        return make_widget(self, height)

    @cached_property
    def _scratch(self) -> Path:
        folder = tempfile.mkdtemp(prefix="cellworker-")
        self._remove_scratch = finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def close(self) -> None:
        """Remove the files of results, and let go of the store. Happens by itself when the object goes away."""
        self._stop_guard()
        if "_scratch" in self.__dict__:
            self._remove_scratch()
            del self.__dict__["_scratch"]

    def _stop_guard(self) -> None:
        if self._guard is not None:
            self._guard.stop()
            self._guard.join()
            self._guard = None
        if self._ending is not None:
            self._ending.detach()  # it holds the store
            self._ending = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def genes(self) -> "DataFrame":
        """The genes in matrix order: id, display name, original symbol."""
        genes = self.experiment.genes
        return _frame({"id": genes.ids, "name": genes.names, "original_name": genes.original_names})

    @property
    def cells(self) -> "DataFrame":
        """The cells in matrix order: id, barcode, and every column of metadata."""
        columns: dict[str, Any] = {"cell_id": self.experiment.cell_ids, "barcode": self.experiment.barcodes}
        for name, column in self.experiment.metadata.items():
            columns[name] = _labels(column) if isinstance(column, Categorical) else column
        return _frame(columns)

    def __repr__(self) -> str:
        sets = sum(1 for _ in self.cell_sets.sets())
        name = one_line(self.source.name) if self.source else "in memory"
        return (
            f"<Experiment {name}: {self.experiment.n_cells:,} cells x {len(self.experiment.genes):,} genes, "
            f"{sets} cell sets in {len(self.cell_sets.classes)} classes>"
        )


def _is_sound(experiment: Experiment) -> bool:
    return not isinstance(experiment, StoredExperiment) or experiment.is_whole


def _labels(column: Categorical) -> Any:  # noqa: ANN401
    return _pandas().Categorical.from_codes(column.codes, categories=column.categories)


def _frame(columns: Mapping[str, Any]) -> "DataFrame":
    return _pandas().DataFrame(dict(columns))


def _pandas() -> Any:  # noqa: ANN401
    try:
        import pandas as pd  # noqa: PLC0415 only notebooks need it
    except ImportError as error:
        message = f"data frames need pandas: {how_to_install('notebook')} (or use .call() for plain Python)"
        raise ImportError(message) from error
    return pd
