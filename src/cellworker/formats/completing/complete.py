"""Makes parts that a file lacks, so that every task answers: once, while the file is read, kept in its store.

====================  ==============================================================================================
doublet scores        Scrublet's method, sample by sample; from raw counts
dispersions           of genes, by vst; from raw counts
principal components  of the 2,000 most variable genes (vst), scaled, clipped at 10; up to 50 of them
clusters              Louvain, resolution 0.8, as the task ClusterCells makes them
a map                 UMAP, as the task GetEmbedding makes it
====================  ==============================================================================================

Each is made where there is none, and reported as a note. What cannot be made (one cell; no time or memory left) is
reported too; the experiment opens all the same. Objects of the platform stay unchanged: its pipeline made all of it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.clusters import DIMS
from cellworker.analysis.statistics.scaled_components import scaled_components
from cellworker.analysis.statistics.variable_genes import GeneVariability, gene_variability
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.model import Dispersions, Reduction, labels_of
from cellworker.formats.common.active_reduction import default_reduction
from cellworker.formats.common.cells.derive import has_clusters
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import blocks, require_columns, require_rows
from cellworker.formats.common.matrices.variances import VARIANCE_ORDERS
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.completing.doublets import add_doublet_scores
from cellworker.formats.completing.making import RESOLUTION, grouped, laid_out

__all__ = ["MADE", "Completing", "complete"]

Progress = Callable[[str, float], None]

MADE = "made here"
"""The note for each part that was made."""
N_GENES, N_COMPONENTS = 2000, 50
_CLUSTERS = "louvain"  # the column
_SHARES = {"doublets": 0.38, "genes": 0.03, "components": 0.12, "clusters": 0.32, "map": 0.15}
"""Of the time, roughly."""


class _OutOfTimeError(Exception):
    """The rest would take too long."""


@dataclass(slots=True)
class Completing:
    """Options for making parts.

    Attributes
    ----------
    threads
        Threads to use; what is made does not depend on it.
    seconds
        After this time no step begins, and the running one ends.
    progress
        Called with the stage and the fraction of the making done; may raise to stop.
    """

    threads: int = 1
    seconds: float = math.inf
    progress: Progress = field(default=lambda stage, fraction: None)  # noqa: ARG005


def complete(
    draft: ExperimentDraft, findings: Findings, scratch: Scratch, how: Completing | None = None
) -> ExperimentDraft:
    """Make the parts that an experiment lacks.

    Parameters
    ----------
    draft
        The experiment as read. Its matrices may be in files; they are read a few megabytes at a time.
    findings
        Gets a note for each part that was made, and a warning for each that could not be.
    scratch
        Where large arrays are.

    Returns
    -------
    The experiment with what was missing; the same object where nothing was.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` where a matrix is damaged.
    """
    if draft.origin.kind == "platform":
        return draft
    maker = _Maker(draft, findings, scratch, how or Completing())
    for part in (maker.doublets, maker.components, maker.dispersions, maker.clusters, maker.map):
        part()
    if not maker.made:
        return draft
    origin = replace(maker.draft.origin, fallbacks=findings.fallbacks)
    return replace(
        maker.draft, origin=origin, extra={**maker.draft.extra, "made": maker.made, "made_parts": maker.parts}
    )


class _Maker:
    def __init__(self, draft: ExperimentDraft, findings: Findings, scratch: Scratch, how: Completing) -> None:
        self.draft, self.made = draft, dict[str, str]()
        self.parts: dict[str, list[str]] = {"columns": [], "reductions": []}
        self._findings, self._scratch, self._how = findings, scratch, how
        self._end, self._done = time.monotonic() + how.seconds, 0.0
        self._checked: set[int] = set()
        self._variability: GeneVariability | None = None

    def doublets(self) -> None:
        """Score doublets, where there are counts and no scores."""
        draft = self.draft
        if draft.counts is None or draft.origin.columns.get("doublet_scores"):
            return
        self._check(draft.counts)
        with _Trying(self, "doublet_scores", "doublet scores") as trying:
            report = self._told("scoring doublets", "doublets")
            found = add_doublet_scores(draft, self._how.threads, report)
            if found is None:
                trying.skip("too few cells in every sample, or counts that are none")
                return
            column, reason = found
            draft.metadata[column[0]] = column[1]
            self.parts["columns"].append(column[0])
            columns = {**draft.origin.columns, "doublet_scores": column[0]}
            reasons = {**draft.origin.reasons, "doublet_scores": reason}
            self.draft = replace(draft, origin=replace(draft.origin, columns=columns, reasons=reasons))
            trying.made(reason)

    def components(self) -> None:
        """Find principal components, where there is no reduction to start from."""
        draft = self.draft
        if draft.misc.active_reduction in draft.reductions:
            return
        self._check(draft.data)
        with _Trying(self, "reductions pca", "principal components") as trying:
            ranked = self._ranking()
            genes = np.sort(ranked[:N_GENES])
            found = scaled_components(
                draft.data.indptr, draft.data.columns, draft.data.values, genes, N_COMPONENTS,
                n_genes=draft.data.n_columns, allocate=self._scratch.empty, threads=self._how.threads,
                progress=self._told("finding principal components", "components"),
            )  # fmt: skip
            scores = found.components.scores
            name = "pca"
            self.parts["reductions"].append(name)
            reductions = {name: Reduction(scores, DIMENSION_PREFIXES[name]), **draft.reductions}
            misc = replace(draft.misc, active_reduction=name, default_reduction=default_reduction(reductions))
            self.draft = replace(draft, reductions=reductions, misc=misc)
            trying.made(
                f"{scores.shape[1]} components of the {len(found.genes):,} most variable genes (vst), scaled and "
                "clipped at 10"
            )
            self._findings.withdraw("warning", ("obsm", "reductions"))

    def dispersions(self) -> None:
        """Order genes by vst, where only a stand-in orders them."""
        draft = self.draft
        if not draft.dispersions_stand_in or draft.counts is None:
            return
        self._check(draft.counts)
        with _Trying(self, "dispersions", "the order of genes by variability") as trying:
            self._ranking()
            assert self._variability is not None
            table = Dispersions(list(draft.genes.names), list(draft.genes.ids), self._variability.standardized)
            self.draft = replace(draft, dispersions=table)
            self._findings.withdraw("note", ("var", "misc gene_dispersion"), VARIANCE_ORDERS)
            trying.made("standardized variance of the counts (vst)")

    def clusters(self) -> None:
        """Cluster, where no column tells groups of cells."""
        draft = self.draft
        points = self._points(DIMS)
        samples = draft.origin.columns.get("samples", "samples")
        if points is None or has_clusters(draft.metadata, draft.identities, samples, len(draft.cell_ids)):
            return
        if labels_of(draft.metadata.get(_CLUSTERS)) is not None:
            return  # a conversion carries what was made of its source: one cluster is what came of it
        with _Trying(self, "clusters", "clusters") as trying:
            report = self._told("finding clusters", "clusters")
            found = grouped(points, "louvain", RESOLUTION, threads=self._how.threads, progress=report)
            name = next(name for name in _names(_CLUSTERS) if name not in draft.metadata)
            draft.metadata[name] = found
            self.parts["columns"].append(name)
            trying.made(f"{len(found.categories)} clusters in the column {name} (Louvain, resolution {RESOLUTION})")

    def map(self) -> None:
        """Lay the cells out, where there is no map."""
        draft = self.draft
        points = self._points(draft.misc.num_pcs)
        shown = draft.misc.default_reduction.lower()
        if points is None or "umap" in shown or "tsne" in shown:
            return
        with _Trying(self, "reductions umap", "a map") as trying:
            report = self._told("laying out the cells", "map")
            layout = laid_out(points, threads=self._how.threads, progress=report)
            self.parts["reductions"].append("umap")
            reductions = {**draft.reductions, "umap": Reduction(layout, DIMENSION_PREFIXES["umap"])}
            misc = replace(draft.misc, default_reduction=default_reduction(reductions))
            self.draft = replace(draft, reductions=reductions, misc=misc)
            trying.made(f"a UMAP of {points.shape[1]} dimensions of {draft.misc.active_reduction}")

    def _points(self, n_dims: int) -> NDArray[np.float64] | None:
        """Return the coordinates to start from; None where there are none for every cell."""
        found = self.draft.reductions.get(self.draft.misc.active_reduction)
        if found is None or len(found.values) < 2 or not np.isfinite(found.values).all():
            return None
        return np.ascontiguousarray(found.values[:, :n_dims])

    def _ranking(self) -> NDArray[np.int64]:
        """Return genes, the most variable first."""
        if self._variability is None:
            matrix = self.draft.counts if self.draft.counts is not None else self.draft.data
            self._check(matrix)
            self._variability = gene_variability(
                matrix.columns, matrix.values, n_cells=len(matrix.indptr) - 1, n_genes=matrix.n_columns,
                threads=self._how.threads, progress=self._told("finding variable genes", "genes"),
            )  # fmt: skip
        return self._variability.ranking()

    def _check(self, matrix: SparseDraft) -> None:
        """Look at a matrix once: kernels follow its rows and columns."""
        if id(matrix) in self._checked:
            return
        require_rows(matrix.indptr, min(len(matrix.columns), len(matrix.values)))
        for start, end in blocks(len(matrix.columns)):
            self._how.progress("checking", self._done)
            require_columns(matrix.columns[start:end], matrix.n_columns)
        self._checked.add(id(matrix))

    def _told(self, stage: str, share: str) -> Callable[[float], None]:
        begin, part = self._done, _SHARES[share]
        self._done = min(1.0, begin + part)

        def tell(fraction: float) -> None:
            if time.monotonic() > self._end:
                raise _OutOfTimeError
            self._how.progress(stage, begin + part * min(1.0, fraction))

        tell(0.0)
        return tell

    def tell(self, what: str, title: str, made: str | None, why: str) -> None:
        """Record what was made, or why it was not."""
        if made is not None:
            self.made[what] = made
            self._findings.fallback(what, found="none in the file", advice=f"{MADE}: {made}")
        else:
            advice = f"{title} are not made" if title.endswith("s") else f"{title} is not made"
            self._findings.fallback(what, found=f"none in the file, and {why}", advice=advice)


class _Trying:
    """Tries to make one part; a failure is reported, and the rest continues."""

    def __init__(self, maker: _Maker, what: str, title: str) -> None:
        self._maker, self._what, self._title = maker, what, title
        self._made: str | None = None
        self._why = ""

    def made(self, how: str) -> None:
        """Say how it was made."""
        self._made = how

    def skip(self, why: str) -> None:
        """Say why it is not made."""
        self._why = why

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Report the outcome; suppress errors that are only a reason not to make the part."""
        if isinstance(error, _OutOfTimeError):
            self._why = "no time is left (LOAD_TIMEOUT_S)"
        elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error)):
            self._why = "no memory is left (LOAD_MEMORY_GB)"
        elif isinstance(error, WorkerError) and error.code is ErrorCode.DISK_FULL:
            self._why = "no space is left on the disk (STORE_DIR)"
        elif isinstance(error, ValueError):
            self._why = str(error)
        elif error is not None:
            return False
        self._maker.tell(self._what, self._title, self._made if error is None else None, self._why)
        return True


def _names(name: str) -> list[str]:
    return [name, f"{name} (made)", *(f"{name} (made {i})" for i in range(2, 1000))]
