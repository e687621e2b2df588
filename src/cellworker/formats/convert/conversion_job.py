"""Writing an experiment in another format: one way for each pair of source and target."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Column, Reduction
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.cells.annotated_columns import Annotated
from cellworker.formats.common.kinds import content_hash
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.r.rds.model import RS4
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.progress import Progress

if TYPE_CHECKING:
    from cellworker.formats.anndata.containers.tree import TreeGroup
    from cellworker.formats.anndata.copying import Additions


__all__ = ["TENX", "ConversionJob", "RdsClass"]

RdsClass = Literal["Seurat", "SingleCellExperiment"]
_COPIED = {("Seurat", "Seurat"), ("SummarizedExperiment", "SingleCellExperiment")}
"""Kinds of R objects, and the classes in which they stay what they are."""
TENX = ".h5"
"""The ending of a matrix of 10x in HDF5."""


@dataclass(frozen=True, slots=True)
class ConversionJob:
    """One file to write."""

    source: Path
    experiment: StoredExperiment
    annotated: Annotated
    kind: str
    threads: int
    report: Progress
    embedding: tuple[str, Reduction] | None = None
    rds_class: RdsClass = "Seurat"

    @property
    def added(self) -> dict[str, Column]:
        """Columns that the source lacks, or has with other values."""
        return {name: column for name, column in self.annotated.columns.items() if name in self.annotated.new}

    @property
    def is_copy(self) -> bool:
        """Whether the target is the source's own tree: what was made while the source was read is not in it."""
        family = self.experiment.origin.family
        if self.kind != ".rds":
            return family == "AnnData"
        return (family, self.rds_class) in _COPIED

    @property
    def is_plain_copy(self) -> bool:
        """Whether the target is a byte-for-byte copy: the source's container, and nothing new in it."""
        return self.kind != ".rds" and self.is_copy and self.source.suffix.lower() == self.kind and not self.added

    def write(self, path: Path) -> Conversion:
        """Write it to a temporary place."""
        if self.kind == TENX:
            from cellworker.formats.convert.tenx import write_tenx  # noqa: PLC0415

            return write_tenx(self.source, self.experiment, path, threads=self.threads, report=self.report)
        to_rds, family = self.kind == ".rds", self.experiment.origin.family
        if family == "AnnData":
            return self._anndata_to_rds(path) if to_rds else self._anndata(path)
        if not to_rds:
            return self._r_to_anndata(path)
        if self.rds_class == "SingleCellExperiment" and family == "SummarizedExperiment":
            return self._bioconductor_to_rds(path)
        if self.rds_class == "Seurat" and family == "Seurat":
            return self._seurat_to_rds(path)
        return self._r_to_another_class(path)

    def _reductions(self) -> dict[str, Reduction]:
        new = dict([self.embedding]) if self.embedding is not None else {}
        return {**self.experiment.reductions, **new}

    def _anndata(self, path: Path) -> Conversion:
        from cellworker.formats.anndata.copying import Additions  # noqa: PLC0415 - h5py where needed
        from cellworker.formats.opening.tree import is_foreign, open_tree  # noqa: PLC0415

        colors = {name: found for name, found in self.annotated.colors.items() if name in self.annotated.new}
        additions = Additions(self.added, colors, self.embedding)
        if not is_foreign(self.experiment.extra):
            return self._copied(path, additions, None)
        with open_tree(self.source, self.experiment.extra, self.threads, path.parent) as (root, told):
            found = self._copied(path, additions, root)
        return Conversion([*told.kept, *found.kept], [*told.renamed, *found.renamed], [*told.lost, *found.lost])

    def _copied(self, path: Path, additions: "Additions", tree: "TreeGroup | None") -> Conversion:
        from cellworker.formats.anndata.copying import copy_anndata  # noqa: PLC0415

        ledger, renamed = copy_anndata(
            self.source, path, additions, zarr=self.kind == ".zarr", sha256=self.experiment.source_sha256,
            threads=self.threads, progress=self.report, tree=tree,
        )  # fmt: skip
        return _with(ledger.close(), renamed)

    def _anndata_to_rds(self, path: Path) -> Conversion:
        from cellworker.formats.bioconductor.write import write_single_cell_experiment  # noqa: PLC0415
        from cellworker.formats.opening.tree import open_tree  # noqa: PLC0415
        from cellworker.formats.seurat.write.fresh import write_seurat  # noqa: PLC0415
        from cellworker.formats.seurat.write.from_anndata import (  # noqa: PLC0415
            BIOCONDUCTOR_WORDS,
            SEURAT_WORDS,
            extras_from_anndata,
        )

        self.report(f"writing the object of class {self.rds_class}")
        write, words = (
            (write_seurat, SEURAT_WORDS)
            if self.rds_class == "Seurat"
            else (write_single_cell_experiment, BIOCONDUCTOR_WORDS)
        )
        with open_tree(self.source, self.experiment.extra, self.threads, path.parent) as (root, told):
            found = extras_from_anndata(root, self.experiment, self.added, self.embedding, words)
            found.add_colors(self.annotated.colors)
            renamed = write(
                self.experiment, self.annotated, path, reductions=self._reductions(), extras=found.extras,
                held=found.misc(),
            )  # fmt: skip
        self._check(content_hash(self.source))
        out = _with(found.ledger.close(), renamed)
        return Conversion([*told.kept, *out.kept], [*told.renamed, *out.renamed], [*told.lost, *out.lost])

    def _seurat_to_rds(self, path: Path) -> Conversion:
        from cellworker.formats.convert.seurat_copying import copy_seurat  # noqa: PLC0415

        labels = {name: column for name, column in self.added.items() if _is_label(column)}
        new = self.embedding
        return copy_seurat(
            self.source, path, self.experiment, labels, self.annotated, embedding=new, threads=self.threads,
            report=self.report,
        )  # fmt: skip

    def _r_to_anndata(self, path: Path) -> Conversion:
        from cellworker.formats.anndata.containers.stores import new_store  # noqa: PLC0415
        from cellworker.formats.anndata.writer import write_anndata  # noqa: PLC0415
        from cellworker.formats.convert.anndata_from_bioconductor import beside_from_bioconductor  # noqa: PLC0415
        from cellworker.formats.convert.anndata_from_seurat import SeuratRest  # noqa: PLC0415

        with TemporaryDirectory(dir=path.parent, prefix=".spool-") as folder:
            (root, passed_over), embedding = self._read(Path(folder)), self.embedding[0] if self.embedding else ""
            if self.experiment.origin.family == "SummarizedExperiment":
                beside, ledger = beside_from_bioconductor(root, self.experiment, self.added, embedding)
            else:
                rest = SeuratRest(root, self.experiment, self.added, embedding)
                beside, ledger = rest.beside, rest.ledger
            with new_store(path, self.threads, zarr=self.kind == ".zarr") as sink:
                renamed = write_anndata(
                    self.experiment, self.annotated, sink, reductions=self._reductions(), progress=self.report,
                    beside=beside,
                )  # fmt: skip
            return _with(ledger.close(), renamed, passed_over)

    def _bioconductor_to_rds(self, path: Path) -> Conversion:
        from cellworker.formats.convert.bioconductor_copying import copy_bioconductor  # noqa: PLC0415

        labels = {name: column for name, column in self.added.items() if _is_label(column)}
        return copy_bioconductor(
            self.source, path, self.experiment, labels, embedding=self.embedding, check=self._check,
            on_bytes=self._on_bytes,
        )  # fmt: skip

    def _r_to_another_class(self, path: Path) -> Conversion:
        from cellworker.formats.bioconductor.write import write_single_cell_experiment  # noqa: PLC0415
        from cellworker.formats.convert.from_r_objects import BIOCONDUCTOR, SEURAT, collect  # noqa: PLC0415
        from cellworker.formats.seurat.write.fresh import write_seurat  # noqa: PLC0415
        from cellworker.formats.seurat.write.from_anndata import SeuratExtras  # noqa: PLC0415

        to_seurat = self.rds_class == "Seurat"
        places = SEURAT if to_seurat else BIOCONDUCTOR
        embedding = self.embedding[0] if self.embedding else ""
        with TemporaryDirectory(dir=path.parent, prefix=".spool-") as folder:
            root, passed_over = self._read(Path(folder))
            found = collect(root, self.experiment, self.added, embedding, places)
            extras = SeuratExtras(metadata=found.columns, features=found.features)
            self.report(f"writing the object of class {self.rds_class}")
            write = write_seurat if to_seurat else write_single_cell_experiment
            renamed = write(
                self.experiment, self.annotated, path, reductions=self._reductions(), extras=extras,
                held=found.held(places.held),
            )  # fmt: skip
        return _with(found.ledger.close(), renamed, passed_over)

    def _on_bytes(self, done: int, total: int) -> None:
        self.report("reading", done / total)

    def _read(self, folder: Path) -> tuple[RS4, tuple[str, ...]]:
        """Read the object of the source once more, exactly; returns also what the file holds beside it, in words."""
        found = read_exactly(self.source, folder, self._on_bytes, self.experiment.object_name)
        self._check(found.sha256)
        assert isinstance(found.root, RS4)  # it was opened as an experiment
        return found.root, found.passed_over

    def _check(self, sha256: str) -> None:
        if sha256 != self.experiment.source_sha256:
            raise WorkerError(
                ErrorCode.EXPERIMENT_OUT_OF_DATE,
                f"{self.source.name} changed since the experiment was opened: wait until the new one is loaded and ask "
                "again.",
            )


def _is_label(column: Column) -> bool:
    return isinstance(column, Categorical) or column.dtype == np.bool_


def _with(found: Conversion, renamed: list[str], lost: tuple[str, ...] = ()) -> Conversion:
    return Conversion(found.kept, [*found.renamed, *renamed], [*found.lost, *lost])
