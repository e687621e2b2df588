"""What the values of a matrix are: counts, logarithms, normalised, scaled, whatever their depth and their genes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.matrix_choice import used_for
from cellworker.formats.common.matrices.normalise import log_normalise
from cellworker.formats.common.matrices.value_evidence import gather, gather_with_base
from cellworker.formats.common.matrices.value_kinds import Decision, decide
from cellworker.formats.common.scratch import Scratch


def draft(values) -> SparseDraft:
    matrix = sparse.csr_matrix(np.asarray(values, np.float32))
    return SparseDraft(
        matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, matrix.shape[1]
    )  # fmt: skip


def kind(values, hint="", declared_base=None):
    return decide(gather_with_base(draft(values), declared_base=declared_base), hint).kind


def counts(seed=0, n_cells=300, n_genes=200, unequal=0.5):
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, unequal, n_cells)[:, None]
    return rng.poisson(depth * rng.lognormal(-0.5, 1.3, n_genes)[None]).astype(float)


def shares(values):
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)


def corrected(values, seed=1, most=0.3):
    rng = np.random.default_rng(seed)
    return np.maximum(values - most * rng.random(values.shape) * (values > 0), 0)


MADE = {
    "counts": ("counts", lambda c: c),
    "shares": ("linear", shares),
    "counts per million": ("linear", lambda c: 1e6 * shares(c)),
    "to the median": ("linear", lambda c: np.median(c.sum(axis=1)) * shares(c)),
    "per million of some genes": ("linear", lambda c: 1e6 * shares(c)[:, ::3]),
    "logarithms": ("log", lambda c: np.log1p(1e4 * shares(c))),
    "logarithms of shares": ("log", lambda c: np.log1p(shares(c))),
    "logarithms to base 2": ("log", lambda c: np.log2(1 + 1e4 * shares(c))),
    "logarithms to base 10": ("log", lambda c: np.log10(1 + 1e4 * shares(c))),
    "logarithms of some genes": ("log", lambda c: np.log1p(1e4 * shares(c))[:, ::3]),
    "logarithms of counts": ("log", np.log1p),
    "logarithms of corrected counts, some genes": ("log", lambda c: np.log1p(1e4 * shares(corrected(c)))[:, ::3]),
    "corrected counts": ("counts", corrected),
    "counts times a factor": ("counts", lambda c: 0.93 * c),
    "shared between genes": ("counts", lambda c: np.where(np.random.default_rng(5).random(c.shape) < 0.3, c * 0.37, c)),
    "roots": ("roots", np.sqrt),
    "scaled": ("scaled", lambda c: np.log1p(c) - np.log1p(c).mean(axis=0)),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("unequal", [0.1, 0.6])
def test_what_was_made_of_counts_is_recognised_by_the_values_alone(name, unequal):
    wanted, make = MADE[name]
    assert kind(make(counts(unequal=unequal))) == wanted


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_cells=st.integers(20, 200),
    n_genes=st.integers(30, 120),
    target=st.sampled_from([1e4, 1e6, None]),
)
def test_any_counts_keep_their_kind_through_normalisation(seed, n_cells, n_genes, target):
    made = counts(seed, n_cells, n_genes) + np.eye(n_cells, n_genes)
    made = made[made.sum(axis=1) > 0]
    total = np.median(made.sum(axis=1)) + 0.5 if target is None else target
    assert kind(made) == "counts"
    assert kind(total * shares(made)) == "linear"
    found = decide(gather_with_base(draft(np.log1p(total * shares(made)))))
    assert (found.kind, found.base) == ("log", math.e)


def test_the_base_of_a_logarithm_is_found():
    logs = np.log2(1 + 1e4 * shares(counts()))
    assert decide(gather_with_base(draft(logs))).base == 2
    assert decide(gather_with_base(draft(logs[:, ::3]))).base == 2
    five = np.log1p(1e4 * shares(counts())) / math.log(5)
    assert decide(gather_with_base(draft(five), declared_base=5.0)).base == 5


def test_a_total_is_reported():
    assert decide(gather(draft(shares(counts())))).total == pytest.approx(1)
    assert decide(gather(draft(1e6 * shares(counts())[:1]))).total == pytest.approx(1e6)


def test_one_stray_value_below_zero_changes_nothing():
    for name in ("counts", "logarithms", "corrected counts"):
        wanted, make = MADE[name]
        values = make(counts())
        values[3, 7] = -0.01
        found = decide(gather_with_base(draft(values)))
        assert found.kind == wanted
        assert "1 of" in found.why


def test_the_name_decides_where_values_do_not():
    shallow = corrected(counts()[:, :3])
    assert kind(shallow, "counts") == "counts"
    logs = np.log1p(1e4 * shares(counts()))
    assert kind(logs, "counts") == "log"  # the sums of expm1 prove it, whatever the name
    assert kind(counts(), "data") == "counts"
    assert kind(logs[:, :1], declared_base=math.e) == "log"


def test_a_note_of_a_logarithm_is_stale_where_all_values_are_whole():
    found = decide(gather(draft(counts()), declared_base=math.e))
    assert found.kind == "counts"
    assert "log1p" in found.why


def test_empty_cells_one_gene_one_cell_and_nothing_at_all():
    logs = np.log1p(1e4 * shares(counts()))
    logs[::7] = 0
    assert kind(logs) == "log"
    assert kind(np.full((50, 1), np.log1p(1e4))) == "log"
    assert kind(np.log1p(1e4 * shares(counts()[:1]))) == "log"
    assert kind(shares(counts()[:1])) == "linear"
    assert kind(np.zeros((5, 4))) == "counts"
    assert kind(np.zeros((0, 4))) == "counts"


def test_missing_and_infinite_values_are_counted_and_left_out():
    values = np.log1p(1e4 * shares(counts()))
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    evidence = gather(draft(values))
    assert (evidence.missing, evidence.infinite, evidence.negative) == (1, 2, 0)
    assert decide(evidence).kind == "log"


def test_every_figure_is_what_numpy_makes_of_it():
    values = np.log1p(1e4 * shares(corrected(counts(3))))
    evidence = gather(draft(values))
    single = values.astype(np.float32).astype(float)
    assert evidence.nonzero == np.count_nonzero(single)
    assert evidence.whole == np.count_nonzero((single != 0) & (single == np.floor(single)))
    assert evidence.largest == single.max()
    assert evidence.sums.median == pytest.approx(np.median(single.sum(axis=1)), rel=1e-12)
    assert evidence.level_sums.median == pytest.approx(np.median(np.expm1(single).sum(axis=1)), rel=1e-12)
    units = np.where(single > 0, single, np.inf).min(axis=1)
    assert evidence.units.median == pytest.approx(np.median(units), rel=1e-12)


def test_one_look_does_not_depend_on_where_blocks_end(monkeypatch):
    matrix = draft(np.log1p(1e4 * shares(counts())))
    whole = gather(matrix, closely=True)
    monkeypatch.setattr("cellworker.formats.common.matrices.value_evidence._BLOCK", 1000)
    assert gather(matrix, closely=True) == whole


@pytest.mark.parametrize("base", [math.e, 2, 10])
def test_a_matrix_that_proves_nothing_is_called_uncertain(base):
    values = counts(unequal=0.8, n_genes=600)
    values[:, np.argsort(-values.sum(axis=0))[:30]] += 3  # no gene of a few molecules, whose multiples would tell
    strongest = np.argsort(-values.sum(axis=0))[:30]
    logs = np.log1p(1e4 * shares(corrected(values)))[:, strongest] / math.log(base)
    assert decide(gather_with_base(draft(logs))).otherwise
    # The file names the base, or all genes are there: nothing is open.
    assert not decide(gather_with_base(draft(logs), declared_base=base)).otherwise
    whole = np.log1p(1e4 * shares(corrected(values))) / math.log(base)
    assert not decide(gather_with_base(draft(whole), declared_base=base)).otherwise


@pytest.mark.parametrize("told", [False, True])
def test_who_serves_an_uncertain_matrix_warns_unless_it_was_named(told):
    findings = Findings()
    decision = Decision("log", "decimals", otherwise="logarithms to another base")
    used_for("X", decision, findings, counts=False, data=True, told=told)
    used_for("layers/other", decision, findings, counts=False, data=False)
    assert [(problem.field, problem.severity) for problem in findings.problems] == ([] if told else [("X", "warning")])


def test_log_normalised_values_are_numpys_to_the_bit_whatever_is_missing_or_below_zero(tmp_path):
    raw = np.random.default_rng(0).gamma(0.3, 7, (40, 301)).astype(np.float32)
    raw[raw < 1] = 0
    raw[3, :4], raw[5] = [np.nan, np.inf, 4, 5], 0
    raw[7, :3] = [-2, 6, 1]
    counted = draft(raw)
    found = log_normalise(counted, "counts", Findings(), Scratch(tmp_path))
    for cell, (first, last) in enumerate(zip(counted.indptr, counted.indptr[1:], strict=False)):
        values = counted.values[first:last].astype(np.float64)
        total = np.cumsum(np.append(0, np.where(np.isfinite(values), values, 0)))[-1]  # one after the other
        expected = np.log1p(np.where(values < 0, 0, values) * (1e4 / total if total > 0 else 0)).astype(np.float32)
        np.testing.assert_array_equal(found.values[first:last], expected, err_msg=f"cell {cell}")


@pytest.mark.parametrize("places", [[0, 3, 2, 4], [0, 2, 3, 9]], ids=["falling", "beyond the values"])
def test_cells_whose_places_make_no_sense_are_not_normalised(tmp_path, places):
    broken = SparseDraft(np.array(places, np.int64), np.zeros(4, np.int32), np.ones(4, np.float32), 1)
    with pytest.raises(ValueError, match="in order"):
        log_normalise(broken, "counts", Findings(), Scratch(tmp_path))
