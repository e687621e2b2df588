"""The pseudobulk chain against edgeR and limma: on a worked example, on designs with few samples, on odd counts."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cellworker.analysis.statistics.p_values import benjamini_hochberg
from cellworker.analysis.statistics.pseudobulk import filter_by_expression, tmm_factors, two_group_test

GENES = "ABCDEFGHIJKL"
COUNTS = np.array(
    [
        [120, 135, 60, 70], [30, 28, 33, 40], [500, 450, 520, 610], [15, 22, 80, 64], [200, 260, 210, 190],
        [75, 66, 90, 101],
        [10, 14, 12, 9], [300, 280, 150, 170], [45, 50, 44, 61], [3, 0, 2, 4], [88, 97, 105, 99], [60, 35, 52, 48],
    ],
    float,
)  # fmt: skip
IN_BASE = np.array([False, False, True, True])


def test_the_worked_example_comes_out():
    kept = filter_by_expression(COUNTS, IN_BASE)
    assert "".join(np.array(list(GENES))[~kept]) == "J"
    np.testing.assert_allclose(
        tmm_factors(COUNTS[kept], COUNTS.sum(axis=0)), [0.936879671, 0.948490586, 1.050635652, 1.071102484], rtol=1e-8
    )
    result = two_group_test(COUNTS, IN_BASE)
    adjusted = benjamini_hochberg(result.p)
    for gene, fold, average, p, p_adjusted in [
        ("D", 1.7532378864, 14.64969564, 6.38978916691e-07, 4.19176884104e-06),
        ("H", -0.9972951874, 17.20522869, 7.62139789279e-07, 4.19176884104e-06),
        ("A", -1.0989515426, 15.96601049, 2.35028360792e-06, 8.61770656239e-06),
        ("E", -0.3295087019, 17.19362765, 4.50045703426e-02, 1.23762568442e-01),
        ("K", 0.0034881610, 16.06081217, 9.80276255410e-01, 9.80276255410e-01),
    ]:
        i = GENES.index(gene)
        np.testing.assert_allclose(
            [result.log_fold_change[i], result.average[i], result.p[i], adjusted[i]],
            [fold, average, p, p_adjusted],
            rtol=2e-8,
        )
    assert np.isnan(result.p[GENES.index("J")])


@pytest.mark.shared
@pytest.mark.parametrize("design", list("abcdef"))
def test_limmas_numbers_come_out(shared: Path, design: str):
    golden = json.loads(gzip.decompress((shared / "golden/algorithms/pseudobulk.json.gz").read_bytes()))[design]
    counts = np.array(golden["counts"], float)
    result = two_group_test(counts, np.array([g == "base" for g in golden["group"]]))
    assert result.kept.tolist() == [bool(x) for x in golden["keep"]]
    kept = result.kept
    np.testing.assert_allclose(tmm_factors(counts[kept], counts.sum(axis=0)), golden["norm"], rtol=1e-12)
    np.testing.assert_allclose(result.log_fold_change[kept], golden["logFC"], atol=1e-9)
    np.testing.assert_allclose(result.average[kept], golden["Amean"], atol=1e-9)
    if counts.shape[1] == 2:
        assert result.p is None
    else:
        np.testing.assert_allclose(result.p[kept], golden["p"], rtol=1e-6)


LIMMA = json.loads(
    gzip.decompress((Path(__file__).parent.parent / "fixtures" / "limma" / "limma.json.gz").read_bytes())
)


@pytest.mark.parametrize("design", LIMMA)
def test_limmas_p_values_come_out_to_eight_digits(design: str):
    """With one residual degree of freedom rounding decides among genes of the same counts: it must be limma's."""
    want = LIMMA[design]
    result = two_group_test(np.array(want["counts"], float), np.array(want["base"]))
    assert result.kept.tolist() == want["keep"]
    np.testing.assert_allclose(result.log_fold_change[result.kept], want["logFC"], atol=1e-12)
    adjusted = benjamini_hochberg(result.p)[result.kept]
    for got, wanted in ((result.p[result.kept], want["p"]), (adjusted, want["adjusted"])):
        np.testing.assert_allclose(np.log(got), np.log(wanted), atol=1e-8)


def test_the_fixtures_hold_genes_that_only_rounding_reports_apart():
    want = LIMMA["2v1 spread 0.1"]
    pairs = np.array(want["counts"])[np.array(want["keep"])][:, np.array(want["base"])]
    assert len(np.unique(pairs, axis=0)) < len(pairs)


@pytest.mark.parametrize(
    ("counts", "in_base", "words"),
    [
        (COUNTS, np.ones(4, bool), "both groups"),
        (COUNTS, np.zeros(4, bool), "both groups"),
        (COUNTS * 0 + 1, IN_BASE, "no gene"),
        (COUNTS * [1, 1, 0, 1], IN_BASE, "a sample has no counts"),
        (COUNTS[:, [0, 0, 2, 2]], IN_BASE, "do not differ"),
        (COUNTS[:1, [0, 0, 2, 2]], IN_BASE, "do not differ"),
    ],
)
def test_a_design_that_cannot_be_tested_is_an_error(counts, in_base, words):
    with pytest.raises(ValueError, match=words):
        two_group_test(counts, in_base)


def test_swapping_the_groups_turns_the_sign_and_nothing_else():
    one, other = two_group_test(COUNTS, IN_BASE), two_group_test(COUNTS, ~IN_BASE)
    np.testing.assert_allclose(one.log_fold_change, -other.log_fold_change, atol=1e-10)
    np.testing.assert_allclose(one.p, other.p, rtol=1e-8)
