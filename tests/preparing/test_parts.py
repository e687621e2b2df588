"""The parts of `cellworker prepare` on their own: droplets, separation, integration, names, figures."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellworker.analysis.statistics.empty_droplets import find_cells, is_unfiltered, knee_of
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Genes
from cellworker.preparing.figures import histogram, knee_plot, scatter
from cellworker.preparing.inputs import species_of
from cellworker.preparing.integration import integrate, separation
from cellworker.preparing.parameters import Parameters, SampleInput, Thresholds, plain_name, read_parameters, to_yaml


def test_separation_is_0_of_a_mixture_and_1_of_islands():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(600, 5))
    samples = np.repeat([0, 1, 2], [300, 200, 100]).astype(np.int32)
    assert separation(points, samples) < 0.05
    assert separation(points + 50 * samples[:, None], samples) == pytest.approx(1)
    assert separation(points, np.zeros(600, np.int32)) == 0


@pytest.mark.parametrize("method", ["harmony", "mnn"])
def test_integration_is_the_same_each_time_and_for_any_number_of_threads(method):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 10)) * 8
    kinds, samples = np.tile(np.arange(4), 100), np.repeat([0, 1], 200).astype(np.int32)
    points = centres[kinds] + rng.normal(size=(400, 10)) + 2.5 * samples[:, None]
    found = [integrate(points, samples, method, 0.3, threads=n) for n in (1, 2)]
    assert found[0].coordinates.tobytes() == found[1].coordinates.tobytes()
    assert found[0].method == method
    assert found[0].after < 0.3 < found[0].before
    near = ((found[0].coordinates[:, None] - found[0].coordinates[None]) ** 2).sum(axis=2).argsort(axis=1)[:, 1:11]
    assert (kinds[near] == kinds[:, None]).mean() > 0.95, "types stay apart"


def test_automatic_integration_leaves_a_mixture_alone_and_takes_mnn_where_harmony_does_not_do():
    rng = np.random.default_rng(0)
    samples = np.repeat([0, 1], 150).astype(np.int32)
    mixed = rng.normal(size=(300, 6))
    done = integrate(mixed, samples, "auto", 0.3)
    assert (done.method, done.coordinates is mixed) == ("none", True)
    kinds = np.tile(np.arange(3), 100)
    apart = mixed + 12 * np.eye(6)[kinds] + 80 * samples[:, None]
    done = integrate(apart, samples, "auto", 0.3)
    assert done.method in ("harmony", "mnn")
    assert done.after < 0.3


def test_the_knee_is_where_cells_end():
    totals = np.concatenate([np.full(500, 5000.0), np.linspace(400, 101, 3000)])
    assert knee_of(totals) == 5000
    assert is_unfiltered(np.concatenate([totals, np.full(4000, 20.0)]))
    assert not is_unfiltered(totals)


def test_a_droplet_that_the_soup_explains_is_no_cell():
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(3)
    soup = rng.dirichlet(np.ones(300))
    other = rng.permutation(soup)
    rows = [rng.multinomial(40, soup, 1500), rng.multinomial(150, soup, 60), rng.multinomial(150, other, 60)]
    rows.append(rng.multinomial(3000, other, 40))
    found = find_cells(csr_matrix(np.concatenate(rows).astype(np.float64)))
    assert found.cells[1500:1560].sum() <= 3
    assert found.cells[1560:1620].sum() >= 57
    assert found.cells[1620:].all()
    assert np.isnan(found.fdr[:1500]).all()


def test_droplets_are_those_of_dropletutils():
    """Against emptyDrops() of DropletUtils 1.18.1 (`tests/fixtures/droplets`): an overdispersed soup, faint cells."""
    from scipy.sparse import csr_matrix

    known = np.load(Path(__file__).parents[1] / "fixtures/droplets/droplets.npz")
    counts = csr_matrix(
        (known["data"].astype(np.float64), known["indices"].astype(np.int32), known["indptr"]),
        shape=(len(known["indptr"]) - 1, len(known["ambient"])),
    )
    found, theirs = find_cells(counts), known["fdr"] <= 0.01
    assert 300 < theirs.sum() < 400
    assert np.count_nonzero(found.cells & theirs) >= 0.98 * np.count_nonzero(found.cells | theirs)
    assert found.alpha == pytest.approx(float(known["alpha"]), rel=0.1)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    tested = np.isfinite(found.fdr) & (totals < min(found.knee, float(known["knee"])))
    rates, expected = found.fdr[tested], known["fdr"][tested]
    assert np.abs(rates - expected).max() < 0.1, "10,000 simulations there, 2,000 here"
    assert np.corrcoef(rates, expected)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([f"ENSG{i:011d}" for i in range(100)], ["man"]),
        ([f"ENSMUSG{i:011d}" for i in range(100)], ["mouse"]),
        ([f"GRCh38_G{i}" for i in range(50)] + [f"mm10___G{i}" for i in range(50)], ["man", "mouse"]),
        ([f"Gene{i}" for i in range(100)], ["mouse"]),
        ([f"GENE{i}" for i in range(100)], ["man"]),
        (["a", "b"], []),
    ],
)
def test_species_are_recognised_by_the_genes(ids, expected):
    assert species_of(Genes(ids, ids, ids)) == expected


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("x/tumour.h5ad", "tumour"),
        ("x/tumour.tsv.gz", "tumour"),
        ("x/tumour.RData", "tumour"),
        ("x/tumour.sce.rds", "tumour.sce"),
        ("x/tumour.h5Seurat", "tumour"),
        ("x/tumour.zarr.zip", "tumour"),
        ("x/tumour.st", "tumour"),
        ("x/.qs2", ".qs2"),
        ("x/patient1/outs/filtered_feature_bc_matrix.h5", "patient1"),
        ("x/patient1/outs/raw_feature_bc_matrix", "patient1"),
    ],
)
def test_a_sample_without_a_name_is_called_like_its_file_or_folder(path, name):
    assert plain_name(path) == name


@settings(max_examples=30, deadline=None)
@given(
    st.builds(
        Parameters,
        samples=st.lists(
            st.builds(SampleInput, path=st.text("ab/ü:#'\"", min_size=1), name=st.text("xy -{}[]", max_size=5)),
            min_size=1,
        ),
        thresholds=st.builds(
            Thresholds, max_mt=st.none() | st.floats(0, 100), min_counts=st.none() | st.floats(0, 1e6)
        ),
        mads=st.floats(0.5, 9),
        integration=st.sampled_from(["auto", "none", "harmony", "mnn"]),
        rds=st.booleans(),
    )
)
def test_what_is_written_is_read_again(tmp_path_factory, parameters):
    path = tmp_path_factory.mktemp("yaml") / "prepare.yaml"
    path.write_text(to_yaml(parameters), "utf-8")
    found = read_parameters(path, {})
    assert to_yaml(found).count("\n") == to_yaml(parameters).count("\n")
    assert [item.name for item in found.samples] == [item.name for item in parameters.samples]
    assert (found.thresholds, found.mads, found.rds) == (parameters.thresholds, parameters.mads, parameters.rds)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-300, 1, exclude_min=True), st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_small_numbers_and_odd_names_are_read_again(tmp_path_factory, number, name):
    path = tmp_path_factory.mktemp("yaml") / "prepare.yaml"
    asked = Parameters(samples=[SampleInput(path=f"/{name}", name=name)], empty_fdr=number, resolution=number)
    path.write_text(to_yaml(asked), "utf-8")
    found = read_parameters(path, {})
    assert (found.empty_fdr, found.resolution, found.samples[0].name) == (number, number, name)


@pytest.mark.parametrize("flags", [{}, {"set": ["a:max_mt=5"]}, {"set": ["max_mt=5"]}])
@pytest.mark.parametrize(
    "content",
    [
        b"samples: 5", b"samples: abc", b"samples: [5]", b"samples: [{name: x}]", b"samples: [{path: [a]}]",
        b"samples: [{path: a, thresholds: 5}]", b"samples: [{path: a}]\nthresholds: 5", b"samples: " + 3000 * b"[",
        b"samples: 2020-99-99", b"mads: " + 5000 * b"9", b"1: b", b"? [a]\n: b", b"samples: &a [*a]",
        b'samples: [{path: "a\\0b"}]', b'samples: [{path: ""}]', b"samples: [{path: !!binary YWJj}]", b"\xff\xfe",
        b'samples: !!python/object/apply:os.system ["exit 7"]', b"# " + (1 << 20) * b"x",
    ],
)  # fmt: skip
def test_a_hostile_file_of_parameters_is_refused_in_a_sentence(tmp_path, content, flags):
    path = tmp_path / "prepare.yaml"
    path.write_bytes(content)
    with pytest.raises(WorkerError) as refused:
        read_parameters(path, dict(flags))
    assert refused.value.code is ErrorCode.INVALID_INPUT
    assert refused.value.message


NUMBERS = [name for name, kind in Parameters.__annotations__.items() if "float" in str(kind) or "int" in str(kind)]


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_no_number_may_be_infinite_or_none(number):
    assert {"mads", "resolution", "empty_lower", "separation"} <= set(NUMBERS)
    limits = [{"thresholds": {name: number}} for name in Thresholds.__struct_fields__]
    for flags in [*({name: number} for name in NUMBERS), *limits]:
        with pytest.raises(WorkerError) as refused:
            read_parameters(None, {"samples": [{"path": "a"}], **flags})
        assert next(iter(flags)) in refused.value.message
    for name in Thresholds.__struct_fields__:
        with pytest.raises(WorkerError, match=name) as refused:
            read_parameters(None, {"samples": [{"path": "a"}], "set": [f"{name}={number}"]})
        assert math.isfinite(number) or "finite" in refused.value.message


def test_limits_between_which_nothing_lies_are_refused():
    flags = {"samples": [{"path": "a"}, {"path": "b"}], "set": ["max_counts=5", "b:min_counts=10"]}
    with pytest.raises(WorkerError, match="b: min_counts 10 is above max_counts 5"):
        read_parameters(None, flags)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e9), max_size=30), st.floats(0, 1e9))
def test_figures_are_drawn_of_any_numbers(values, limit):
    array = np.array(values, np.float64)
    for logarithmic in (False, True):
        text = histogram("<t>", array, [("min", limit)], logarithmic=logarithmic)
        assert text.startswith("<svg")
        assert "nan" not in text
        assert "<t>" not in text
    ordered = np.sort(array)[::-1]
    assert "nan" not in knee_plot("k", np.arange(1.0, len(ordered) + 1), ordered, len(ordered))


def test_a_map_shows_every_label_and_escapes_names():
    points = np.random.default_rng(0).normal(size=(50, 2))
    page = scatter("m", points, np.tile([0, 1], 25).astype(np.int32), ["<b>", "two"])
    assert page.count("<li>") == 2
    assert "<b>" not in page
