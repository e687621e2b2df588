"""Scores of gene sets, phases of the cell cycle and cell types of an AnnData."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.annotation.marker_scores import marker_weights, scaled_cluster_sums, top_types
from cellworker.analysis.annotation.module_scores import (
    G2M_GENES,
    PHASES,
    S_GENES,
    ModuleError,
    control_genes,
    phases,
)
from cellworker.api.anndata.arguments import (
    categories_of,
    default_threads,
    gene_positions,
    invalid,
    only,
    seed_of,
    target,
    whole_number,
    write_labels,
)
from cellworker.api.anndata.checked import checked
from cellworker.api.anndata.lazy import AnyMatrix, LazyMatrix, chosen_anywhere
from cellworker.api.anndata.matrix import Matrix
from cellworker.api.progress import with_bar

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["cell_types", "score_cell_cycle", "score_genes"]

Floats = NDArray[np.float64]

_UNKNOWN = "Unknown"


@with_bar("Scores")
@checked
def score_genes(
    adata: "AnnData",
    gene_list: Iterable[str],
    *,
    ctrl_as_ref: bool = True,
    ctrl_size: int = 50,
    gene_pool: None = None,  # noqa: ARG001 - `checked` refuses all but None
    n_bins: int = 25,
    score_name: str = "score",
    random_state: int = 0,
    copy: bool = False,
    use_raw: bool | None = None,
    layer: str | None = None,
) -> "AnnData | None":
    """Score the cells by a set of genes: its mean less that of control genes of like expression (Tirosh 2016).

    Arguments are those of `scanpy.tl.score_genes`. Bins and draws are those of Seurat's ``AddModuleScore``: `ctrl_size`
    controls are drawn for each gene of the set, where scanpy draws them for each bin.

    Parameters
    ----------
    adata
        Log-normalised expression.
    gene_list
        The set; genes that are not there are left out.
    ctrl_as_ref, gene_pool
        scanpy's, so that its calls work as they are; other values than the defaults are refused.
    ctrl_size
        Controls drawn for each gene; at most as many as a bin holds.
    n_bins
        Bins of genes by mean expression.
    score_name
        The column of ``obs`` that is written, float64.
    random_state
        Seed of the draws.
    copy
        Return a copy with the results instead of writing to `adata`.
    use_raw, layer
        As for `rank_genes_groups`.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    only("ctrl_as_ref", ctrl_as_ref, is_always=True, why="genes of the set are no controls")
    data = target(adata, copy=copy)
    matrix = chosen_anywhere(data, layer=layer, use_raw=use_raw)
    genes = gene_positions(data, "gene_list", gene_list, names=matrix.names)
    whole_number("ctrl_size", ctrl_size, 1)
    whole_number("n_bins", n_bins, 1)
    ctrl_size = min(int(ctrl_size), max(1, matrix.n_genes // int(n_bins)))
    data.obs[score_name] = _scores(matrix, [genes], ctrl_size, int(n_bins), seed_of(random_state))[0]
    return data if copy else None


@with_bar("Cell cycle")
@checked
def score_cell_cycle(
    adata: "AnnData",
    *,
    s_genes: Sequence[str] = S_GENES,
    g2m_genes: Sequence[str] = G2M_GENES,
    random_state: int = 1,
    copy: bool = False,
    use_raw: bool | None = None,
    layer: str | None = None,
) -> "AnnData | None":
    """Score the phases of the cell cycle, as `scanpy.tl.score_genes_cell_cycle` does; draws are Seurat's.

    Parameters
    ----------
    adata
        Log-normalised expression.
    s_genes, g2m_genes
        The genes of the phases; by default the human ones of Tirosh (2016).
    random_state, copy, use_raw, layer
        As for `score_genes`.

    Returns
    -------
    AnnData or None
        Writes ``obs["S_score"]``, ``obs["G2M_score"]`` and ``obs["phase"]`` (G1, S, G2M).

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    data = target(adata, copy=copy)
    matrix = chosen_anywhere(data, layer=layer, use_raw=use_raw)
    modules = [
        gene_positions(data, name, genes, names=matrix.names)
        for name, genes in (("s_genes", s_genes), ("g2m_genes", g2m_genes))
    ]
    size = min(*map(len, modules), max(1, matrix.n_genes // 24))
    scores = _scores(matrix, modules, size, 24, seed_of(random_state))
    data.obs["S_score"], data.obs["G2M_score"] = scores
    names = [PHASES[code] for code in phases(scores[0], scores[1]).tolist()]
    write_labels(data, "phase", names, [name for name in PHASES if name in set(names)])
    return data if copy else None


def _scores(matrix: AnyMatrix, modules: Sequence[Sequence[int]], n_controls: int, n_bins: int, seed: int) -> Floats:
    """Return the scores of each module, float64 ``(n_modules, n_cells)``."""
    n = matrix.n_cells
    everyone = np.zeros(n, np.int32)
    means = matrix.group_sums(everyone, 1)[0] / max(1, n)
    try:
        controls = control_genes(means, modules, n_controls, n_bins=n_bins, seed=seed)
    except ModuleError as error:
        raise invalid("n_bins or ctrl_size", f"{error}; fewer bins, or fewer controls, are possible") from None
    # A cell's score is a weighted sum: one product with the matrix as it is.
    weights = np.zeros((matrix.n_genes, len(modules)))
    for i, (genes, others) in enumerate(zip(modules, controls, strict=True)):
        weights[list(genes), i] += 1 / len(genes)
        weights[others, i] -= 1 / len(others)
    if isinstance(matrix, LazyMatrix):
        return np.concatenate(matrix.by_cells(_weighted, weights)).T.copy()
    return _weighted(matrix, weights).T.copy()


def _weighted(matrix: Matrix, weights: Floats) -> Floats:
    return matrix.times(weights)


@with_bar("Cell types")
@checked
def cell_types(
    adata: "AnnData",
    groupby: str = "leiden",
    *,
    markers: Mapping[str, Iterable[str]],
    negative_markers: Mapping[str, Iterable[str]] | None = None,
    gene_symbols: str | None = None,
    key_added: str = "cell_type",
    use_raw: bool | None = None,
    layer: str | None = None,
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Give each group the cell type whose marker genes it expresses most, by ScType's scores (Ianevski 2022).

    Parameters
    ----------
    adata
        Log-normalised expression; the markers are scaled here.
    groupby
        A column of ``obs`` with clusters.
    markers
        Genes that speak for each cell type; case does not matter.
    negative_markers
        Genes that speak against a type.
    gene_symbols
        A column of ``var`` with symbols, where ``var_names`` are ids.
    key_added
        The column of ``obs`` that is written, and the key of ``uns``.
    use_raw, layer
        As for `rank_genes_groups`.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes the labels, "Unknown" where no type reaches a quarter of the number of cells, and in
        ``uns[key]["scores"]`` a table of all scores, groups x types.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> markers = {"B": ["MS4A1", "CD79A"], "T": ["CD3D", "CD3E"], "Monocyte": ["CD14", "LYZ"]}
    >>> cw.tl.cell_types(adata, "leiden", markers=markers)  # doctest: +SKIP
    """
    import pandas as pd  # noqa: PLC0415 heavy

    data = target(adata, copy=copy)
    default_threads(threads)
    codes, known = categories_of(data, "groupby", groupby)
    if not markers or not hasattr(markers, "keys"):
        raise invalid("markers", "expected genes by cell type, as {'B': ['MS4A1', 'CD79A'], 'T': ['CD3D']}")
    against = negative_markers or {}
    strange = [name for name in against if name not in markers]
    if strange:
        raise invalid("negative_markers", f"{strange[0]!r} is not a type of markers, which has {list(markers)}")
    matrix = chosen_anywhere(data, layer=layer, use_raw=use_raw)
    names = matrix.names
    if gene_symbols is not None:
        if gene_symbols not in data.var.columns or matrix.name == "adata.raw.X":
            raise invalid("gene_symbols", f"there is no column {gene_symbols!r} in the var of {matrix.name}")
        names = data.var[gene_symbols].astype(str)
    symbols = [str(name).upper() for name in names]
    positive = [_capitals(markers[name]) for name in markers]
    weights = marker_weights(symbols, positive, [_capitals(against.get(name, ())) for name in markers])
    if not len(weights.types):
        raise invalid("markers", f"none of the genes is there; genes are named like {', '.join(symbols[:3])}")
    genes = matrix.genes_of(weights.rows)
    sums = scaled_cluster_sums(genes, np.arange(len(weights.rows)), codes, len(known))
    scores = weights.scores(sums)
    best = top_types(scores, np.bincount(codes[codes >= 0], minlength=len(known)))
    types = list(markers)
    of_group = [_UNKNOWN if k < 0 else types[int(weights.types[k])] for k in best.tolist()]
    labels: list[Any] = [of_group[code] if code >= 0 else None for code in codes.tolist()]
    write_labels(data, key_added, labels, [name for name in (*types, _UNKNOWN) if name in set(of_group)])
    table = pd.DataFrame(scores, index=known, columns=[types[int(k)] for k in weights.types.tolist()])
    data.uns[key_added] = {"scores": table, "params": {"groupby": groupby, "method": "sctype"}}
    return data if copy else None


def _capitals(genes: Iterable[str]) -> list[str]:
    return [genes.upper()] if isinstance(genes, str) else [str(gene).upper() for gene in genes]
