"""Module scores and phases against Seurat's."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cellworker.analysis.annotation.module_scores import (
    G2M_GENES,
    PHASES,
    S_GENES,
    ModuleError,
    expression_bins,
    module_scores,
    phases,
)
from cellworker.analysis.statistics.r_random import RRandom

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `import builders`

from builders import gene_major


def scored(dense: np.ndarray, modules: list[list[int]], n_controls: int) -> np.ndarray:
    matrix = gene_major(dense)
    means = np.asarray(dense, np.float64).mean(axis=0)
    return module_scores((matrix.indptr, matrix.cells, matrix.values), means, modules, n_controls, len(dense))


def lively(n_genes: int, n_cells: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, 1.0, (n_cells, n_genes)).astype(np.float32) * (rng.random((n_cells, n_genes)) < 0.5)


def test_the_lists_are_those_of_2016() -> None:
    assert (len(S_GENES), len(G2M_GENES)) == (43, 54)
    assert len({*S_GENES, *G2M_GENES}) == 97


@pytest.mark.shared
def test_scores_and_phases_are_seurats(shared: Path) -> None:
    golden = json.loads(gzip.decompress((shared / "golden/algorithms/module_score.json.gz").read_bytes()))
    dense = np.array(golden["X"]).T
    place = {f"G{i + 1}": i for i in range(dense.shape[1])}
    modules = [[place[gene] for gene in dict.fromkeys(golden[name]) if gene in place] for name in ("f1", "f2")]
    scores = scored(dense, modules, min(len(golden["f1"]), len(golden["f2"])))
    # Values are kept as float32; the draws are the same, or the difference would be a thousand times this.
    np.testing.assert_allclose(scores, [golden["S"], golden["G"]], atol=2e-7)
    assert [PHASES[code] for code in phases(*scores)] == golden["Phase"]


def test_a_score_is_the_module_less_its_controls() -> None:
    dense = lively(240)
    (score,) = scored(dense, [[3, 7]], 10)
    # Ten controls out of each bin of ten are all of them, whatever is drawn.
    order, bins = expression_bins(dense.astype(np.float64).mean(axis=0), RRandom(1))
    controls = order[np.isin(bins, [bins[order == gene][0] for gene in (3, 7)])]
    assert len(controls) in (10, 20)
    np.testing.assert_allclose(score, dense[:, [3, 7]].mean(axis=1) - dense[:, controls].mean(axis=1), atol=1e-6)


def test_bins_hold_as_many_genes_each_and_all_genes() -> None:
    order, bins = expression_bins(np.random.default_rng(1).random(241), RRandom(1))
    assert sorted(order.tolist()) == list(range(241))
    assert np.bincount(bins).tolist() == [10] * 23 + [11]


def test_genes_that_are_not_expressed_are_distinguished_by_noise() -> None:
    means = np.concatenate([np.zeros(100), np.linspace(0.1, 1, 140)])
    _, bins = expression_bins(means, RRandom(1))
    assert len(np.unique(bins)) == 24


def test_genes_that_are_too_alike_cannot_be_binned() -> None:
    with pytest.raises(ModuleError, match="same mean"):
        expression_bins(np.ones(500), RRandom(1))


def test_too_few_genes_for_the_controls_are_reported() -> None:
    with pytest.raises(ModuleError, match="11 control genes"):
        scored(lively(240), [[3]], 11)


def test_progress_goes_from_nothing_to_almost_all() -> None:
    dense, told = lively(240), []
    matrix = gene_major(dense)
    module_scores(
        (matrix.indptr, matrix.cells, matrix.values), dense.astype(np.float64).mean(axis=0), [[1], [2]], 5, len(dense),
        on_progress=told.append,
    )  # fmt: skip
    assert told[0] == 0.0
    assert told == sorted(told)
    assert 0.8 < told[-1] < 1


def test_the_phase_of_every_pair_of_scores() -> None:
    s = np.array([-1.0, -1.0, 0.5, 0.2, 0.0, -0.1, 0.3])
    g2m = np.array([-2.0, -1.0, 0.2, 0.5, 0.0, 0.0, 0.3])
    assert [PHASES[i] for i in phases(s, g2m)] == ["G1", "G1", "S", "G2M", "Undecided", "G2M", "Undecided"]
