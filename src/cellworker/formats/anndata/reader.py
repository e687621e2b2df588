"""Reads an AnnData file as an experiment, by the conventions of scverse; records all problems instead of the first.

What is read: the matrices that `cellworker.formats.anndata.choosing` picks; ``obs`` (columns of any encoding), ``var``
(and ``raw.var``), ``obsm`` as reductions (``X_umap`` is served as umap), square ``obsp`` as graphs, the colours in
``uns``, and the representation on which ``uns["neighbors"]`` says the neighbours were found. Which of the file's
matrices the experiment's are is in ``extra["used"]``; what it does not hold, conversions take from the file.
"""

import math
from collections.abc import Callable, Iterator
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.model import Categorical, Dispersions, Misc, Origin, Reduction
from cellworker.formats.anndata.cells import IDENTITIES, colors_of, doubles_of, read_obs
from cellworker.formats.anndata.choosing import Choice, ChosenMatrix, choose, judged, sources_of
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup
from cellworker.formats.anndata.elements import Table, is_array, is_group, members, table_of, text_of
from cellworker.formats.anndata.genes import dispersions_of, genes_of
from cellworker.formats.anndata.looking import count_of, pieces_of
from cellworker.formats.anndata.marks import is_marked
from cellworker.formats.anndata.matrices import UnreadMatrix, matrix_of
from cellworker.formats.anndata.stored import stored_results
from cellworker.formats.anndata.tissue import read_tissue
from cellworker.formats.anndata.writer import SCALED, SCALED_GENES
from cellworker.formats.common.active_reduction import choose_active, default_reduction
from cellworker.formats.common.cells.cell_ids import read_cell_ids
from cellworker.formats.common.cells.measures import add_measures
from cellworker.formats.common.cells.measuring import Matrices, mitochondrial_genes
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES, unique_barcodes
from cellworker.formats.common.cells.samples import add_samples
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.free_space import Figures
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.matrices.normalise import as_logarithms, log_normalise, tell_about_counts
from cellworker.formats.common.matrices.sparse import assemble
from cellworker.formats.common.matrices.variances import VARIANCE_ORDERS, gene_variances
from cellworker.formats.common.palette import palette
from cellworker.formats.common.scratch import Scratch

__all__ = ["read_anndata"]

Progress = Callable[[str, float], None]

_WIDEST = 10_000
"""Dimensions of a reduction; a wider array is something else."""


def read_anndata(
    root: TreeGroup, findings: Findings, scratch: Scratch, progress: Progress, wanted: MatrixChoice | None = None
) -> ExperimentDraft | None:
    """Read an opened file; None when it cannot be served, and `findings` then says why.

    Parameters
    ----------
    root
        The file, already inspected.
    scratch
        Space for large arrays.
    progress
        Called with the stage and the fraction of the reading.
    wanted
        The user's choice of its matrices and samples.
    """
    wanted = wanted or MatrixChoice()
    if not _is_anndata(root, findings):
        return None
    obs, var, raw_var = table_of(root.get("obs")), table_of(root.get("var")), table_of(root.get("raw/var"))
    for name, table in (("obs", obs), ("var", var)):
        if table is None:
            findings.error(
                name, found="no table with an index", expected="a data frame as anndata 0.7 and later write it",
                advice="write the file again: anndata.read_h5ad(path).write_h5ad(path)",
            )  # fmt: skip
    if obs is None:
        return None
    n_cells = len(obs.index)
    if not n_cells:
        findings.error(
            "obs", found="no cells", expected="at least one cell",
            advice="write the file again before its cells are filtered out",
        )  # fmt: skip
    if var is not None and not len(var.index):
        findings.error(
            "var", found="no genes", expected="at least one gene",
            advice="write the file again before its genes are filtered out",
        )  # fmt: skip
    sources = sources_of(root, (var, raw_var), n_cells, findings, wanted)
    reading = _Reading(findings, scratch, progress, _numbers_per_cell(root, obs, n_cells))
    ours = root.get("uns/cellworker") is not None
    marked = [what for what, path in (("data", "X"), ("counts", "layers/counts")) if is_marked(root, what, path)]
    choice = None
    if not findings.errors:
        choice = reading.settle(
            sources,
            lambda found, notes: choose(found, (var, raw_var), wanted, notes, ours=ours, marked=marked),
        )
    metadata = read_obs(obs, findings)
    cell_ids = read_cell_ids(metadata, n_cells, findings, table="obs")
    identities = metadata.pop(IDENTITIES, None)
    sample_column = add_samples(metadata, obs.index, findings, table="obs", wanted=wanted.sample or None)
    reductions = _reductions(root, n_cells, scratch)
    misc = _misc(root, reductions, findings)
    served, rest = (raw_var, var) if choice is not None and choice.frame == "raw" else (var, raw_var)
    if choice is None or served is None or findings.errors:
        return None
    genes = genes_of(served, rest, findings)
    reading.serve(served, rest)
    data: SparseDraft | None = None
    counts: SparseDraft | None = None
    with findings.part():
        counts, data = reading.matrices(choice)
    if data is None or findings.errors:
        return None
    matrices = Matrices(counts, data, mitochondrial_genes(genes))
    chosen = {"samples": sample_column, **add_measures(metadata, matrices, n_cells, findings, table="obs")}
    dispersions = dispersions_of(genes, served, rest, findings)
    stand_in = dispersions is None
    if dispersions is None:
        findings.fallback("var", found="no column of highly_variable_genes", advice=VARIANCE_ORDERS)
        dispersions = Dispersions(list(genes.names), list(genes.ids), gene_variances(data, findings))
    scaled = _own_scaled(root, n_cells, len(genes), scratch) or reading.scaled(choice)
    graphs = {name: matrix.read(scratch, lambda _: None) for name, matrix in _graphs(root, n_cells)}
    about = choice.report(sources, findings)
    return ExperimentDraft(
        cell_ids=cell_ids,
        barcodes=unique_barcodes(obs.index, "obs", "names", findings),
        genes=genes,
        data=data,
        counts=counts,
        scaled_genes=scaled[0] if scaled else None,
        scaled_values=scaled[1] if scaled else None,
        metadata=metadata,
        reductions=reductions,
        graphs=graphs,
        images=read_tissue(root, n_cells, metadata.get("library_id")),
        stored=stored_results(root, findings).tables,
        dispersions=dispersions,
        dispersions_stand_in=stand_in,
        identities=identities if isinstance(identities, Categorical) else None,
        misc=misc,
        origin=Origin(
            kind="own",
            writer=_writer(root),
            assay_class="AnnData",
            fallbacks=findings.fallbacks,
            columns={role: column for role, (column, _) in chosen.items()},
            reasons={role: reason for role, (_, reason) in chosen.items()},
        ),
        extra={"colors": colors_of(root, metadata), "used": _used(choice), "matrices": about},
    )


def _is_anndata(root: TreeGroup, findings: Findings) -> bool:
    names = root.names()
    if "obs" in names and "var" in names:
        return True
    # `formats.opening.recognising` refuses other kinds before; what comes here is damaged, or changed meanwhile.
    findings.error(
        "the file", found="neither obs nor var", expected="an AnnData file",
        advice="write it with anndata: adata.write_h5ad(path)", code=ErrorCode.EXPERIMENT_UNSUPPORTED,
    )  # fmt: skip
    return False


class _Reading:
    """Reads matrices, chooses the served ones, and puts them in the order of the served genes."""

    def __init__(self, findings: Findings, scratch: Scratch, progress: Progress, numbers: int) -> None:
        self._findings, self._scratch, self._progress, self._numbers = findings, scratch, progress, numbers
        self._read: dict[str, tuple[UnreadMatrix, SparseDraft]] = {}

    def settle(
        self,
        sources: dict[str, ChosenMatrix],
        choose_again: Callable[[dict[str, ChosenMatrix], Findings], Choice | None],
    ) -> Choice | None:
        """Read the chosen matrices, until all values of all matrices agree with the choice; scan the others."""
        while True:
            choice = choose_again(sources, Findings())
            if choice is not None and not self._read:
                self._scratch.require(self._figures(choice))
            unread = [source for source in choice.served if source.field not in self._read] if choice else []
            if not unread and not self._look_at_all_values(sources):
                return choose_again(sources, self._findings)
            for number, source in enumerate(unread):
                matrix = self._whole(source, number / len(unread), 1 / len(unread))
                self._read[source.field] = source.matrix, matrix
                # A complete sample needs no scan.
                sources[source.field] = source if source.evidence.complete else judged(source, matrix)

    def _figures(self, choice: Choice) -> Figures:
        """Return how large what is chosen becomes."""
        sizes = {source.field: count_of(source.matrix, source.evidence) for source in choice.served}
        last = choice.served[-1]  # the data, else the counts
        counts = sizes[choice.counts.field] if choice.counts is not None else 0
        mapped = sum(sizes[source.field] for source in choice.served if source.matrix.is_mapped)
        return Figures(*last.matrix.shape, sizes[last.field], counts, mapped, self._numbers)

    def _look_at_all_values(self, sources: dict[str, ChosenMatrix]) -> bool:
        """Judge unserved matrices, so far judged by a sample, by all values; return whether there were any."""
        sampled = [source for source in sources.values() if not source.evidence.complete]
        for number, source in enumerate(sampled):
            self._progress(f"looking at {source.field}", number / len(sampled))
            try:
                sources[source.field] = judged(source, pieces_of(source.matrix, self._scratch))
            except WorkerError as error:
                if not source.layer:
                    raise
                del sources[source.field]  # as a damaged layer that nothing is served of
                self._findings.fallback(source.field, found=error.message, advice="this layer is left out")
        return bool(sampled)

    def _whole(self, source: ChosenMatrix, begin: float, part: float) -> SparseDraft:
        def tell(fraction: float) -> None:
            self._progress(f"reading {source.field}", begin + part * fraction)

        return source.matrix.read(self._scratch, tell, list(self._read.values()))

    def serve(self, served: Table, rest: Table | None) -> None:
        """Record whose genes are served."""
        self._served, self._rest = served, rest

    def matrices(self, choice: Choice) -> tuple[SparseDraft | None, SparseDraft]:
        """Return counts and log-normalised values of the served genes."""
        read = {
            source.field: self._read[source.field][1]
            if source.frame == choice.frame
            else self._placed(source, self._read[source.field][1])
            for source in choice.served
        }
        counts = read[choice.counts.field] if choice.counts is not None else None
        if counts is None:
            self._findings.warning(
                "counts", found="none", expected="raw counts in X, raw.X or layers['counts']",
                advice="comparisons between samples and other requests that need counts will be refused",
            )  # fmt: skip
        elif choice.counts is not None:
            tell_about_counts(choice.counts.field, counts, self._findings)
        if choice.data is None:
            assert counts is not None
            assert choice.counts is not None
            self._findings.fallback(
                choice.counts.field, found=f"{choice.counts.decision.title} and no log-normalised values",
                advice="they are normalised to 10,000 per cell and log1p is taken",
            )  # fmt: skip
            return counts, log_normalise(counts, choice.counts.field, self._findings, self._scratch)
        data = read[choice.data.field]
        if choice.as_it_is:
            return counts, data
        decision = choice.data.decision
        return counts, as_logarithms(data, choice.data.field, decision, self._findings, self._scratch)

    def _places(self) -> NDArray[np.int64]:
        """Return the place among the served genes of each of the other genes, -1 where it has none."""
        assert self._rest is not None
        rows = {gene: row for row, gene in enumerate(self._served.index)}
        return np.array([rows.get(gene, -1) for gene in self._rest.index], np.int64)

    def _placed(self, source: ChosenMatrix, matrix: SparseDraft) -> SparseDraft:
        n_cells = len(matrix.indptr) - 1
        parts = [(matrix, np.arange(n_cells), self._places())]
        shape = (n_cells, len(self._served.index))
        return assemble(parts, shape, source.field, self._findings, self._scratch)

    def scaled(self, choice: Choice) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        source = choice.scaled
        if source is None or source.matrix.form != "dense":
            return None
        values = source.matrix.dense(self._scratch)
        if source.frame == choice.frame:
            return np.arange(values.shape[1], dtype=np.int32), values
        places = self._places()
        known = places >= 0
        return (places[known].astype(np.int32), values[:, known]) if known.any() else None


def _own_scaled(
    root: TreeGroup, n_cells: int, n_genes: int, scratch: Scratch
) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    """Return the scaled values of a file that cellworker wrote."""
    values, positions = matrix_of(root.get(f"obsm/{SCALED}")), root.get(SCALED_GENES)
    if values is None or values.form != "dense" or not is_array(positions) or len(positions.shape) != 1:
        return None
    genes = positions.read()
    if values.shape != (n_cells, len(genes)) or genes.dtype.kind not in "iu":
        return None
    if len(genes) and not 0 <= genes.min() <= genes.max() < n_genes:
        return None
    return genes.astype(np.int32), values.dense(scratch)


def _reductions(root: TreeGroup, n_cells: int, scratch: Scratch) -> dict[str, Reduction]:
    own = root.get("uns/cellworker/reduction_keys")
    out: dict[str, Reduction] = {}
    names = {name for name, _ in members(root.get("obsm"))}
    for name, node in members(root.get("obsm")):
        if not _is_reduction(node, n_cells) or (name == SCALED and root.get(SCALED_GENES) is not None):
            continue
        short = name.removeprefix("X_") or name
        # X_umap and umap are two reductions.
        free = short if short != name or f"X_{name}" not in names else f"{name} (obsm)"
        key = text_of(own.get(name)) if is_group(own) else None
        out[free] = Reduction(doubles_of(node, scratch), key[0] if key else DIMENSION_PREFIXES.get(short, f"{short}_"))
    return out


def _numbers_per_cell(root: TreeGroup, obs: Table, n_cells: int) -> int:
    """Return how many numbers there are for each cell beside the matrices."""
    return len(obs.columns) + sum(
        node.shape[1] for _, node in members(root.get("obsm")) if _is_reduction(node, n_cells)
    )


def _is_reduction(node: Node, n_cells: int) -> TypeGuard[Array]:
    sound = is_array(node) and node.dtype is not None and node.dtype.kind in "biuf" and len(node.shape) == 2
    return bool(sound and is_array(node) and node.shape[0] == n_cells and 1 <= node.shape[1] <= _WIDEST)


def _graphs(root: TreeGroup, n_cells: int) -> Iterator[tuple[str, UnreadMatrix]]:
    for name, node in members(root.get("obsp")):
        matrix = matrix_of(node)
        if matrix is not None and matrix.form != "dense" and matrix.shape == (n_cells, n_cells):
            yield name, matrix


def _misc(root: TreeGroup, reductions: dict[str, Reduction], findings: Findings) -> Misc:
    own = root.get("uns/cellworker/misc")
    used = text_of(root.get("uns/neighbors/params/use_rep"))
    chosen = choose_active(
        reductions, [name.removeprefix("X_") for name in (_one(own, "active_reduction"), used[0] if used else "")]
    )
    active = chosen.name
    if active not in reductions:
        there = f" (there are: {', '.join(reductions)})" if reductions else ""
        findings.warning(
            "obsm", found=f"no X_pca{there}", expected="principal components in obsm['X_pca']",
            advice="new embeddings, clusterings and trajectories will be refused; run sc.pp.pca() and write again",
        )  # fmt: skip
    elif active != "pca":
        found = chosen.found or f"neighbours were found on {active}"
        findings.fallback("obsm", found=found, advice=f"{active} is the active reduction, used where pca would be")
    colors = text_of(own.get("color_pool")) if is_group(own) else None
    microns = _one(own, "microns_per_pixel")
    pcs = _one(own, "num_pcs")
    return Misc(
        color_pool=colors or palette(),
        num_pcs=int(pcs) if pcs.isdigit() and 1 <= int(pcs) <= 10_000 else 30,
        active_reduction=active,
        default_reduction=default_reduction(reductions),
        technology=_one(own, "technology"),
        microns_per_pixel=_number(microns),
        experiment_id=_one(own, "experiment_id"),
        ingestion_date=_one(own, "ingestion_date"),
    )


def _one(group: Node | None, name: str) -> str:
    texts = text_of(group.get(name)) if is_group(group) else None
    return texts[0] if texts else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _writer(root: TreeGroup) -> str:
    own = _one(root.get("uns/cellworker"), "version")
    version = str(root.attrs.get("encoding-version", ""))
    return f"cellworker {own}" if own else f"anndata (format {version})" if version else "anndata"


def _used(choice: Choice) -> dict[str, str]:
    """Return the paths of the matrices that the experiment's were read from, unchanged."""
    data = choice.data
    if data is not None and not choice.as_it_is and (data.decision.kind, data.decision.base) != ("log", math.e):
        data = None  # what is served was made of it
    found = {"counts": choice.counts, "data": data, "scaled": choice.scaled}
    used = {what: source for what, source in found.items() if source is not None and source.frame == choice.frame}
    return {"frame": choice.frame, **{what: source.matrix.path for what, source in used.items()}}
