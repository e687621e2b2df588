"""Scores of gene modules against control genes of similar expression, and the phase of the cell cycle (Tirosh 2016).

Formulas and random draws are those of Seurat's ``AddModuleScore`` and ``CellCycleScoring`` (algorithms.md, section 8).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Sorted
from cellworker.analysis.statistics.r_random import RRandom

__all__ = [
    "G2M_GENES",
    "N_BINS",
    "PHASES",
    "S_GENES",
    "ModuleError",
    "control_genes",
    "expression_bins",
    "mean_expression",
    "module_scores",
    "phases",
]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(" "))


S_GENES = _names(
    "MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1 MLF1IP HELLS RFC2 RPA2 NASP RAD51AP1 "
    "GMNN WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51 RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM CASP8AP2 USP1 CLSPN POLA1 "
    "CHAF1B BRIP1 E2F8"
)
"""Human genes of the S phase (Tirosh et al. 2016, under the names of that year)."""

G2M_GENES = _names(
    "HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO CENPF TACC3 FAM64A SMC4 CCNB2 CKAP2L "
    "CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B HJURP CDCA3 HN1 CDC20 TTK CDC25C KIF2C RANGAP1 NCAPD2 DLGAP5 "
    "CDCA2 CDCA8 ECT2 KIF23 HMMR AURKA PSRC1 ANLN LBR CKAP5 CENPE CTCF NEK2 G2E3 GAS2L3 CBX5 CENPA"
)
"""Human genes of the G2 and M phases, from the same source."""

PHASES = ("G1", "S", "G2M", "Undecided")
"""Meanings of the codes of `phases`."""

N_BINS = 24
"""Seurat's number of bins of genes."""

_NOISE = 1e30


class ModuleError(ValueError):
    """The genes are too few or too similar to draw controls from."""


def expression_bins(
    means: NDArray[np.float64], stream: RRandom, n_bins: int = N_BINS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the genes by mean expression into bins of about equal numbers of genes.

    Parameters
    ----------
    means
        float64 ``(n_genes,)``, no NaN.
    stream
        Draws one normal number per gene; 1e-30 times it breaks ties between genes without expression.
    n_bins
        Number of bins.

    Returns
    -------
    tuple
        int64 ``(n_genes,)``: the genes by ascending mean (ties in their order), and the bin of each of them, from
        0.

    Raises
    ------
    ModuleError
        If bins are empty because too many genes have the same mean.
    """
    order = np.argsort(means, kind="stable")
    noise = np.fromiter((stream.normal() for _ in range(len(means))), np.float64, len(means))
    values = means[order] + noise / _NOISE
    ranked = np.sort(values)
    place = (len(values) - 1) * (np.arange(n_bins + 1) * (1 / n_bins))
    place[-1] = len(values) - 1
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    share = place - low
    # As R's quantile (type 7), but without averaging equal neighbours: rounding would make them differ.
    breaks = np.where(
        (share > 0) & (ranked[high] != ranked[low]), (1 - share) * ranked[low] + share * ranked[high], ranked[low]
    )
    if (np.diff(breaks) <= 0).any():
        message = f"too many genes have the same mean expression to tell {n_bins} bins apart"
        raise ModuleError(message)
    return order, np.minimum(np.searchsorted(breaks, values, side="right") - 1, n_bins - 1)


def control_genes(
    means: NDArray[np.float64],
    modules: Sequence[Sequence[int]],
    n_controls: int,
    *,
    n_bins: int = N_BINS,
    seed: int = 1,
) -> list[NDArray[np.int64]]:
    """Draw the control genes of each module, int64, ascending. Parameters and errors are those of `module_scores`."""
    stream = RRandom(seed)
    order, bins = expression_bins(means, stream, n_bins)
    members = [np.flatnonzero(bins == i) for i in range(n_bins)]
    bin_of = np.empty(len(means), np.int64)
    bin_of[order] = bins
    controls = []
    for module in modules:
        drawn = np.zeros(len(means), np.bool_)
        for gene in module:
            pool = order[members[bin_of[gene]]]
            if len(pool) < n_controls:
                message = f"{n_controls} control genes cannot be drawn from a bin of {len(pool)}"
                raise ModuleError(message)
            drawn[pool[stream.sample(len(pool), n_controls)]] = True
        controls.append(np.flatnonzero(drawn))
    return controls


def module_scores(
    data: Sorted,
    means: NDArray[np.float64],
    modules: Sequence[Sequence[int]],
    n_controls: int,
    n_cells: int,
    *,
    n_bins: int = N_BINS,
    seed: int = 1,
    on_progress: Callable[[float], None] = lambda fraction: None,  # noqa: ARG005
) -> NDArray[np.float64]:
    """Score each cell by each module: mean of the module's genes minus mean of control genes.

    For every gene of a module, controls are drawn from the genes of its expression bin. The module's controls are all
    genes drawn at least once, and may include its own genes.

    Parameters
    ----------
    data
        Log-normalised expression, gene after gene: indptr int64 ``(n_genes + 1,)``, cells int32 and values float32
        ``(nnz,)``.
    means
        float64 ``(n_genes,)``: mean of each gene over all cells.
    modules
        Positions of the genes of each module; no module is empty. The order of the genes and of the modules affects the
        draw.
    n_controls
        Controls drawn for each gene.
    n_cells
        Number of cells.
    n_bins
        Number of bins of genes by mean expression.
    seed
        As for R's ``set.seed``.
    on_progress
        Called with the fraction done.

    Returns
    -------
    numpy.ndarray
        float64 ``(len(modules), n_cells)``.

    Raises
    ------
    ModuleError
        If a bin holds fewer genes than `n_controls`, or there are no bins.
    """
    controls = control_genes(means, modules, n_controls, n_bins=n_bins, seed=seed)
    sides = [np.asarray(genes, np.int64) for pair in zip(modules, controls, strict=True) for genes in pair]
    total, done, means_of = sum(map(len, sides)), 0, []
    for genes in sides:
        means_of.append(mean_expression(data, genes, n_cells, lambda i, before=done: on_progress((before + i) / total)))  # type: ignore[misc]
        done += len(genes)
    return np.array([mine - others for mine, others in zip(means_of[::2], means_of[1::2], strict=True)])


def mean_expression(
    data: Sorted,
    genes: NDArray[np.int64],
    n_cells: int,
    tell: Callable[[int], None] = lambda done: None,  # noqa: ARG005
) -> NDArray[np.float64]:
    """Return each cell's mean over some genes, float64 ``(n_cells,)``.

    Parameters
    ----------
    data, n_cells
        As in `module_scores`.
    genes
        int64 ``(k,)``, at least one.
    tell
        Called with the number of genes done.
    """
    indptr, cells, values = data
    total = np.zeros(n_cells)
    for i, gene in enumerate(genes.tolist()):
        stored = slice(int(indptr[gene]), int(indptr[gene + 1]))
        total[cells[stored]] += values[stored]  # no cell occurs twice within a gene
        tell(i)
    total /= len(genes)
    return total


def phases(s_score: NDArray[np.float64], g2m_score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the phase of each cell from its two scores, ``(n_cells,)`` each.

    Returns
    -------
    numpy.ndarray
        int64 ``(n_cells,)``, positions in `PHASES`: G1 where both scores are negative, else the phase of the higher
        one.
    """
    leading = np.where(s_score > g2m_score, 1, 2)
    return np.where((s_score < 0) & (g2m_score < 0), 0, np.where(s_score == g2m_score, 3, leading)).astype(np.int64)
