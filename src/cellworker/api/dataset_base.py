"""The base of all methods of a data set: its cells, genes and sets, calls of tasks, and the results so far."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import invalid
from cellworker.api.anndata.checked import checked
from cellworker.api.experiment import OpenExperiment
from cellworker.api.io import read, write_recorded
from cellworker.api.progress import ProgressBar
from cellworker.api.records import record_of
from cellworker.api.selecting import Cells, NamedSets, labels_by_row, rows_of
from cellworker.engine.contexts import make_context
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import Experiment
from cellworker.formats.common.provenance import Provenance
from cellworker.plain_text import as_html, one_line
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.task import PrepareInput, Progress

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame, Series

__all__ = ["DatasetBase"]


_FIELD = re.compile(r"body(?:\.\w+)*\.(\w+)(?=: )")
_ARGUMENTS = {"learningRate": "learning_rate", "minimumDistance": "min_dist", "distanceMetric": "metric"}


def _in_words_of_methods(error: WorkerError) -> WorkerError:
    """Return an error that names the method's argument, where the task named the field of a request's body."""
    named = _FIELD.match(error.message)
    if named is None:
        return error
    argument = _ARGUMENTS.get(named[1], named[1])
    return WorkerError(error.code, argument + error.message[named.end() :])


class DatasetBase(OpenExperiment):
    """An open experiment with results: classes of cell sets, layouts, pseudotime."""

    def __init__(
        self,
        experiment: Experiment,
        cell_sets: CellSets | None = None,
        source: Path | None = None,
        *,
        settings: Settings | None = None,
        progress: Progress | None = None,
        adata: "AnnData | None" = None,
    ) -> None:
        super().__init__(experiment, cell_sets, source, settings=settings, progress=progress)
        given = self.cell_sets
        self.cell_sets: NamedSets = NamedSets(given.classes, given.extra, given.wire)
        """The classes of cell sets; called, ``experiment.cell_sets()``, a table of all sets."""
        self._adata = adata
        self._made: dict[str, CellClass] = {}
        self._layouts: dict[str, DataFrame] = {}
        self._pseudotime: Series | None = None
        self._folder: finalize[Any, Any] | None = None
        self._steps: list[Provenance] = []
        self._asked = False

    def owns(self, folder: str) -> None:
        """Remove a folder when this object is closed or collected."""
        self._folder = finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the files of results, and the temporary file of an AnnData in memory."""
        super().close()
        if self._folder is not None:
            self._folder()

    @property
    def steps(self) -> list[Provenance]:
        """Steps that added to the experiment, in order; `save` writes them into the file."""
        return list(self._steps)

    def record(self, task: str, arguments: dict[str, Any]) -> Provenance:
        """Return the record of a call on this experiment."""
        source = None if self._adata is not None else self.source
        return record_of(task, arguments, self.experiment, source, settings=self._settings)

    def begin(self) -> bool:
        """Whether a method that begins now is called from outside."""
        outermost, self._asked = not self._asked, True
        return outermost

    def end(self, step: Provenance | None) -> None:
        """Note a step that succeeded; None for one that did not."""
        self._asked = False
        self._steps += [] if step is None else [step]

    def barcodes_of(self, argument: str, cells: Any) -> list[str]:  # noqa: ANN401
        """Return the barcodes of cells, however they are said."""
        barcodes = self.experiment.barcodes
        return [barcodes[row] for row in self._select(argument, cells)]

    @property
    def given(self) -> "AnnData | None":
        """The AnnData in memory that was opened; None for a file."""
        return self._adata

    @property
    def layouts(self) -> "Mapping[str, DataFrame]":
        """The layouts that were made here, under AnnData's names (``X_umap``)."""
        return dict(self._layouts)

    @property
    def times(self) -> "Series | None":
        """The pseudotime that was measured here last, indexed by barcode."""
        return self._pseudotime

    @property
    def columns(self) -> "DataFrame":
        """The cells' metadata with each class of cell sets as a column, indexed by barcode."""
        frame = self.cells.set_index("barcode").drop(columns="cell_id")
        for item in self.cell_sets.classes:
            if item.key not in frame.columns and item.children:
                frame[item.key] = labels_by_row(self.experiment, item)
        return frame

    @checked
    def to_anndata(self, into: "AnnData | None" = None) -> "AnnData":
        """Return the experiment as AnnData with what was made here: clusters, cell types, layouts, pseudotime.

        Parameters
        ----------
        into
            Write to this AnnData, which has the same cells, instead of a new one.

        Returns
        -------
        AnnData
            `into`, else a new one.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming `into`.

        Examples
        --------
        >>> import cellworker as cw
        >>> experiment = cw.open(cw.sample_path())
        >>> clusters = experiment.cluster("leiden", name="fine")
        >>> bool((experiment.to_anndata().obs["fine"] == clusters).all())
        True
        """
        adata = into
        if adata is None:
            if self._adata is None and self.source is None:
                raise invalid("into", "this experiment has no source to be read again; give an AnnData")
            adata = self._adata.copy() if self._adata is not None else read(str(self.source), settings=self._settings)
        if not adata.obs_names.isin(self._index).all():
            raise invalid("into", "its obs_names are not the barcodes of this experiment")
        for item in self._made.values():
            adata.obs[item.key] = self._series(item).reindex(adata.obs_names)
        for name, frame in self._layouts.items():
            adata.obsm[name] = frame.reindex(adata.obs_names).to_numpy(np.float32)
        if self._pseudotime is not None:
            adata.obs["pseudotime"] = self._pseudotime.reindex(adata.obs_names)
        return adata

    @checked
    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write `to_anndata` as ``.h5ad``, ``.zarr``, ``.rds`` or 10x ``.h5``.

        Parameters
        ----------
        path, force
            As for `cellworker.write`.

        Returns
        -------
        pathlib.Path
            The written file.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.

        Examples
        --------
        >>> import cellworker as cw
        >>> cw.open(cw.sample_path()).save("sample.h5ad").name
        'sample.h5ad'
        """
        return self._write(path, self.record("save", {}), force=force)

    def _write(self, path: str | Path, record: Provenance, *, force: bool) -> Path:
        records = [*self._steps, record]
        return write_recorded(self.to_anndata(), path, records, force=force, settings=self._settings)

    def _repr_html_(self) -> str:
        name = one_line(self.source.name) if self.source else "in memory"
        classes = [
            f"{as_html(one_line(item.key))} ({len(item.children)})" for item in self.cell_sets.classes if item.children
        ]
        reductions = ", ".join(as_html(one_line(each)) for each in self.experiment.reductions)
        return (
            f"<b>Experiment {as_html(name)}</b>: {self.experiment.n_cells:,} cells &times; "
            f"{len(self.experiment.genes):,} genes<br>cell sets: {', '.join(classes) or 'none'}<br>"
            f"reductions: {reductions or 'none'}"
        )

    @property
    def _index(self) -> Any:  # noqa: ANN401
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        return pd.Index(self.experiment.barcodes, name="barcode")

    def _rows(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        rows = self.experiment.positions(ids)
        return np.unique(rows[rows >= 0]).astype(np.int64)

    def _select(self, argument: str, cells: Cells) -> NDArray[np.int64]:
        return rows_of(self.experiment, self.cell_sets, self.columns, argument, cells)

    def _genes(self, argument: str, names: list[str], *, every: bool) -> list[int]:
        genes = self.experiment.genes
        places = [genes.by_name.get(name, genes.by_id.get(name)) for name in names]
        missing = [name for name, place in zip(names, places, strict=True) if place is None]
        found = [place for place in places if place is not None]
        if not names:
            raise invalid(argument, f"name at least one gene, as {genes.names[0]!r}")
        if not found or (every and missing):
            shown = ", ".join(repr(name) for name in genes.names[:3])
            message = f"{argument}: there is no gene {missing[0]!r}; genes are named like {shown}."
            raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, message)
        return list(dict.fromkeys(found)) if not every else found

    def _computed(self, name: str, body: Mapping[str, Any], cell_sets: CellSets | None = None) -> Any:  # noqa: ANN401
        """Return a task's result as arrays, without text in between."""
        task = catalog.find(name)
        scratch = self._scratch
        context = make_context(self._settings, self._progress, scratch, scratch / "kept", own_tables=True)
        with self._of_a_method():
            asked = task.read_body({"name": name, **body})
            request = task.prepare(PrepareInput(asked, None, cell_sets or self.cell_sets))
            return self.sound(lambda experiment: task.compute(experiment, request, context))

    @contextmanager
    def _of_a_method(self) -> Iterator[None]:
        """Make the errors of a task name the method's arguments, and end the progress bar with the task."""
        try:
            yield
        except WorkerError as error:
            raise _in_words_of_methods(error) from None
        finally:
            self._finished()

    def _finished(self) -> None:
        if isinstance(self._progress, ProgressBar):
            self._progress.done()

    def _keep(self, key: str, result: Mapping[str, Any], short: Any) -> "Series":  # noqa: ANN401
        """Make a class of cell sets of a task's result, instead of an earlier one of that key."""
        children = [
            CellSet(
                f"{key}-{short(child['name'])}", short(child["name"]), child.get("color"),
                np.sort(np.array(child["cellIds"], np.int32)), "cellSets",
            )
            for child in result["children"]
        ]  # fmt: skip
        item = CellClass(key, key, "cellSets", children)
        others = [known for known in self.cell_sets.classes if known.key != key]
        self.cell_sets = NamedSets([item, *others], self.cell_sets.extra, self.cell_sets.wire)
        self._made[key] = item
        return self._series(item)

    def _series(self, item: CellClass) -> "Series":
        import pandas as pd  # noqa: PLC0415 only notebooks need it

        labels = pd.Categorical(labels_by_row(self.experiment, item), categories=[c.name for c in item.children])
        return pd.Series(labels, index=self._index, name=item.key)
