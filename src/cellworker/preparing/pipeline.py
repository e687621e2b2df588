"""The pipeline: samples, quality control, one matrix, components, integration, clusters, a map, an experiment."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.one_blas_thread import one_blas_thread
from cellworker.analysis.statistics.scaled_components import scaled_components
from cellworker.analysis.statistics.variable_genes import gene_variability
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.model import Categorical, Dispersions, Misc, Origin, Reduction
from cellworker.experiment.store.store import open_store, write_store
from cellworker.formats.anndata.containers.stores import new_store
from cellworker.formats.anndata.writer import write_anndata
from cellworker.formats.common.cells.annotated_columns import Annotated
from cellworker.formats.common.cells.derive import derived_from
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.half_written import half_written
from cellworker.formats.common.matrices.normalise import log_normalise
from cellworker.formats.common.palette import palette
from cellworker.formats.common.provenance import Provenance, html_comment, stamp
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.common.whole_files import write_whole
from cellworker.formats.completing.making import grouped, laid_out
from cellworker.formats.convert.converting import convert
from cellworker.formats.convert.placing import placed
from cellworker.preparing.inputs import Sample, read_samples
from cellworker.preparing.integration import Integrated, integrate
from cellworker.preparing.keeping import Keeper
from cellworker.preparing.merging import Merged, merge
from cellworker.preparing.parameters import FILE_NAME, Parameters, recorded, to_yaml
from cellworker.preparing.quality import Quality, assess
from cellworker.preparing.report import ReportContent, report
from cellworker.progress import Progress
from cellworker.settings import Settings
from cellworker.version import __version__

__all__ = ["EXPERIMENT", "REPORT", "Prepared", "run"]


EXPERIMENT, REPORT, CELL_SETS, OBJECT = "experiment.h5ad", "report.html", "cell_sets.json", "r.rds"
_KEPT = ".prepare"
_LIBRARIES = ("numpy", "scipy", "harmonypy", "scranpy", "h5py")
_MAX_BEFORE = 10_000
_READING, _QUALITY, _MERGED, _COMPONENTS, _MAPPED, _WRITTEN = 0.15, 0.4, 0.5, 0.65, 0.9, 1.0
"""Approximate fraction of the time after which each step is done."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The outcome.

    Attributes
    ----------
    folder
        The folder of the experiment, for `cellworker run`.
    report
        The page's path.
    n_cells, n_genes, n_clusters
        Of the experiment.
    kept
        By sample: number of barcodes left after each step.
    integration
        The outcome of integration, in a sentence.
    """

    folder: Path
    report: Path
    n_cells: int
    n_genes: int
    n_clusters: int
    kept: dict[str, dict[str, int]]
    integration: str


def run(
    parameters: Parameters,
    out: Path,
    settings: Settings,
    progress: Progress,
    *,
    force: bool = False,
    sources_sha256: str = "",
) -> Prepared:
    """Prepare an experiment.

    Parameters
    ----------
    parameters
        The parameters, with the samples to read.
    out
        The folder to write: ``experiment.h5ad``, ``cell_sets.json``, ``report.html``, ``prepare.yaml``, and ``r.rds``
        where the parameters ask for it. Its ``.prepare`` keeps the steps' results until all is done.
    settings
        Where stores are, and threads.
    progress
        Called with the stage and the fraction done; may raise to stop. The next run continues from there.
    force
        Whether a finished experiment in the folder may be replaced.
    sources_sha256
        The hash in a record: other samples are refused. Empty takes any.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` with everything that is wrong with the samples; ``DISK_FULL``; what opening a file raises.
    """
    _check_target(out, force=force)
    samples = read_samples(parameters, settings, lambda stage, part=None: progress(stage, _READING * (part or 0.0)))
    if sources_sha256 and _hash_of(samples) != sources_sha256:
        message = "the samples are not what they were, by their hashes; to prepare them all the same, use --config"
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{message} {FILE_NAME}")
    out.mkdir(parents=True, exist_ok=True)
    work = _Work(parameters, out, settings, progress, Keeper(out / _KEPT), samples)
    with one_blas_thread():
        found = work.prepare()
    shutil.rmtree(out / _KEPT, ignore_errors=True)
    progress("done", _WRITTEN)
    return found


def _check_target(out: Path, *, force: bool) -> None:
    problem = ""
    if out.exists() and not out.is_dir():
        problem = "that is a file: name a folder"
    elif (out / EXPERIMENT).exists() and not (out / _KEPT).exists() and not force:
        problem = "it holds a prepared experiment: name another folder, or --force to replace it"
    elif out.is_dir() and not (out / _KEPT).exists() and not (out / EXPERIMENT).exists() and any(out.iterdir()):
        problem = "it is not empty: name a new folder"
    if problem:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"--out {out}: {problem}")


def _hash_of(samples: list[Sample]) -> str:
    return hashlib.sha256("\n".join(one.experiment.source_sha256 for one in samples).encode()).hexdigest()


@dataclass(slots=True)
class _Work:
    parameters: Parameters
    out: Path
    settings: Settings
    progress: Progress
    keeper: Keeper
    samples: list[Sample]

    def prepare(self) -> Prepared:
        given = self.parameters
        qualities = self._qualities()
        with half_written(self.out / "spool") as folder:  # the next run removes the files of a killed one
            folder.mkdir()
            scratch = Scratch(folder)
            self.progress("joining the samples", _QUALITY)
            merged = merge(self.samples, qualities, given.min_cells, scratch)
            data = log_normalise(merged.counts, "counts", Findings(), scratch)
            key = Keeper.key(*self._quality_keys(), given.min_cells, given.variable_genes, given.components)
            space = self.keeper.step("components", key, lambda: self._components(merged, data, scratch))
            mapped, integrated = self._maps(merged, space, key)
            draft = self._draft(merged, data, space, mapped, integrated)
            self._write(draft, folder)
        clusters = draft.metadata["louvain" if given.clustering == "louvain" else "leiden"]
        assert isinstance(clusters, Categorical)
        self._report(merged, qualities, space, mapped, integrated, clusters)
        names = [sample.name for sample in self.samples]
        return Prepared(
            self.out, self.out / REPORT, len(merged.barcodes), len(merged.genes), len(clusters.categories),
            {name: quality.steps for name, quality in zip(names, qualities, strict=True)}, integrated.reason,
        )  # fmt: skip

    def _quality_keys(self) -> list[str]:
        """Return the inputs of each sample's quality control."""
        given = self.parameters
        how = (given.mads, given.empty_droplets, given.empty_fdr, given.empty_lower, given.remove_doublets)
        return [
            Keeper.key(
                sample.name, sample.experiment.key, len(sample.rows), int(sample.rows[0]),
                asdict_of(sample.thresholds.over(given.thresholds)), how,
            )
            for sample in self.samples
        ]  # fmt: skip

    def _qualities(self) -> list[Quality]:
        out = []
        for number, (sample, key) in enumerate(zip(self.samples, self._quality_keys(), strict=True)):

            def tell(part: float, number: int = number, name: str = sample.name) -> None:
                done = (number + part) / len(self.samples)
                self.progress(f"quality of {name}", _READING + (_QUALITY - _READING) * done)

            def make(sample: Sample = sample, tell: Callable[[float], None] = tell) -> dict[str, Any]:
                return _packed(assess(sample, self.parameters, self.settings.threads, tell))

            tell(0.0)
            out.append(_unpacked(self.keeper.step(f"quality{number}", key, make)))
        return out

    def _components(self, merged: Merged, data: SparseDraft, scratch: Scratch) -> dict[str, Any]:
        given, threads = self.parameters, self.settings.threads

        def tell(part: float) -> None:
            self.progress("finding components", _MERGED + (_COMPONENTS - _MERGED) * part)

        variability = gene_variability(
            merged.counts.columns, merged.counts.values, n_cells=len(merged.barcodes), n_genes=len(merged.genes),
            threads=threads, progress=lambda part: tell(0.3 * part),
        )  # fmt: skip
        found = scaled_components(
            data.indptr, data.columns, data.values, np.sort(variability.top(given.variable_genes)), given.components,
            n_genes=data.n_columns, allocate=scratch.empty, threads=threads,
            progress=lambda part: tell(0.3 + 0.7 * part),
        )  # fmt: skip
        return {
            "scores": found.components.scores,
            "dispersions": variability.standardized,
            "variable": np.array(len(found.genes)),
        }

    def _maps(self, merged: Merged, space: dict[str, Any], key: str) -> tuple[dict[str, Any], Integrated]:
        given, threads = self.parameters, self.settings.threads
        points = np.ascontiguousarray(space["scores"][:, : given.dimensions])

        def part(stage: str, begin: float, size: float) -> Callable[[float], None]:
            width = _MAPPED - _COMPONENTS
            return lambda done: self.progress(stage, _COMPONENTS + width * (begin + size * done))

        def make() -> dict[str, Any]:
            found = integrate(
                points, merged.samples.codes, given.integration, given.separation, threads=threads,
                progress=part("integrating samples", 0, 0.2),
            )  # fmt: skip
            return {
                "coordinates": found.coordinates, "method": np.array(found.method), "reason": np.array(found.reason),
                "values": np.array([found.before, found.after]),
            }  # fmt: skip

        key = Keeper.key(key, given.dimensions, given.integration, given.separation)
        done = self.keeper.step("integrated", key, make)
        integrated = Integrated(
            str(done["method"]), done["coordinates"], float(done["values"][0]), float(done["values"][1]),  # type: ignore[arg-type]
            str(done["reason"]),
        )  # fmt: skip

        def lay_out() -> dict[str, Any]:
            after = laid_out(integrated.coordinates, threads=threads, progress=part("laying out the cells", 0.2, 0.4))
            before, some = np.empty((0, 2)), np.empty(0, np.int64)
            if integrated.method != "none":
                some = _some(len(points))
                tell = part("laying out the cells", 0.6, 0.2)
                before = laid_out(np.ascontiguousarray(points[some]), threads=threads, progress=tell)
            return {"layout": after, "before": before, "before_cells": some}

        maps = self.keeper.step("maps", key, lay_out)
        groups = self.keeper.step(
            "clusters", Keeper.key(key, given.clustering, given.resolution),
            lambda: _labels(
                grouped(
                    integrated.coordinates, given.clustering, given.resolution, threads=threads,
                    progress=part("finding clusters", 0.8, 0.2),
                )
            ),
        )  # fmt: skip
        return {**maps, **groups}, integrated

    def _draft(
        self, merged: Merged, data: SparseDraft, space: dict[str, Any], mapped: dict[str, Any], integrated: Integrated
    ) -> ExperimentDraft:
        clusters = Categorical(mapped["codes"], [str(label) for label in mapped["labels"].tolist()])
        reductions = {"pca": Reduction(space["scores"], DIMENSION_PREFIXES["pca"])}
        active = "pca"
        if integrated.method != "none":
            active = integrated.method
            reductions[active] = Reduction(integrated.coordinates, f"{active}_")
        reductions["umap"] = Reduction(mapped["layout"], DIMENSION_PREFIXES["umap"])
        genes = merged.genes
        return ExperimentDraft(
            cell_ids=np.arange(len(merged.barcodes), dtype=np.int32),
            barcodes=merged.barcodes,
            genes=genes,
            data=data,
            counts=merged.counts,
            metadata={"samples": merged.samples, **merged.metadata, self.parameters.clustering: clusters},
            reductions=reductions,
            dispersions=Dispersions(list(genes.names), list(genes.ids), space["dispersions"]),
            misc=Misc(
                color_pool=palette(), num_pcs=min(self.parameters.dimensions, reductions[active].values.shape[1]),
                active_reduction=active, default_reduction="umap",
                technology=next((s.experiment.misc.technology for s in self.samples), ""),
            ),
            origin=Origin(kind="own", writer=f"cellworker {__version__}", columns={"samples": "samples"}),
        )  # fmt: skip

    def _write(self, draft: ExperimentDraft, folder: Path) -> None:
        threads = self.settings.threads

        def tell(stage: str, fraction: float | None = None) -> None:
            self.progress(stage, None if fraction is None else _MAPPED + (_WRITTEN - _MAPPED) * 0.8 * fraction)

        store = folder / "store.h5ad"
        write_store(draft, store, key=Keeper.key(), threads=threads, progress=tell, by_gene=False)  # read here alone
        experiment = open_store(store)
        cell_sets = derived_from(experiment)
        made = [self._record()]
        with placed(self.out / EXPERIMENT) as path:
            with new_store(path, threads, zarr=False) as sink:
                annotated = Annotated(dict(experiment.metadata), clusters=self.parameters.clustering)
                write_anndata(experiment, annotated, sink, reductions=experiment.reductions, progress=tell)
            stamp(path, made, kind=".h5ad")
        write_whole(self.out / CELL_SETS, cell_sets.encode())
        write_whole(self.out / FILE_NAME, to_yaml(self._from_out()).encode())
        if self.parameters.rds:
            tell("writing the Seurat object", None)
            convert(self.out / EXPERIMENT, self.out / OBJECT, self.settings, force=True, records=made)
            (self.out / f"r.{CELL_SETS}").unlink(missing_ok=True)  # the folder's own are the same

    def _record(self) -> Provenance:
        return Provenance.of("prepare", recorded(self.parameters), sha256=_hash_of(self.samples))

    def _from_out(self) -> Parameters:
        """Return the parameters with paths from the folder that they are written to."""
        out = self.out.resolve()
        samples = [
            msgspec.structs.replace(item, path=os.path.relpath(Path(item.path).resolve(), out))
            for item in self.parameters.samples
        ]
        return msgspec.structs.replace(self.parameters, samples=samples)

    def _report(  # noqa: PLR0917
        self, merged: Merged, qualities: list[Quality], space: dict[str, Any], mapped: dict[str, Any],
        integrated: Integrated, clusters: Categorical,
    ) -> None:  # fmt: skip
        page = report(
            ReportContent(
                names=[sample.name for sample in self.samples],
                qualities=qualities,
                parameters=self._from_out(),
                n_cells=len(merged.barcodes),
                n_genes=len(merged.genes),
                n_variable=int(space["variable"]),
                n_components=space["scores"].shape[1],
                samples=merged.samples,
                clusters=clusters,
                before=mapped["before"] if len(mapped["before"]) else None,
                before_cells=mapped["before_cells"],
                layout=mapped["layout"],
                integrated=integrated,
                versions=_versions(),
            )
        )
        write_whole(self.out / REPORT, (page + html_comment([self._record()])).encode())


def _some(n: int) -> NDArray[np.int64]:
    """Return the cells of the map before integration, ascending: more would not change this figure of the report."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(n)
    return np.sort(order[:_MAX_BEFORE]).astype(np.int64)


def asdict_of(thresholds: Any) -> dict[str, Any]:  # noqa: ANN401 a Struct
    """Return a struct's fields as plain values."""
    found: dict[str, Any] = msgspec.to_builtins(thresholds)
    return found


def _versions() -> dict[str, str]:
    out = {"cellworker": __version__}
    for name in _LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def _labels(found: Categorical) -> dict[str, Any]:
    return {"codes": found.codes, "labels": np.array(found.categories)}


def _packed(quality: Quality) -> dict[str, Any]:
    """Return a sample's quality measures as arrays."""
    values = {field.name: getattr(quality, field.name) for field in fields(quality)}
    out: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in asdict(quality).items() if name not in out}
    return out | {"rest": np.array(msgspec.json.encode(rest).decode())}


def _unpacked(arrays: dict[str, Any]) -> Quality:
    rest = msgspec.json.decode(str(arrays["rest"]))
    return Quality(**{name: value for name, value in arrays.items() if name != "rest"}, **rest)
