"""From a Seurat object's tree to an experiment: the matrices, the assays, and what is refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats.seurat_drafts import draft_from_seurat

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.build import data_frame, doubles, integers, logicals, named_list, strings
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RVector, Skipped
from cellworker.formats.seurat.read.reader import read_seurat


def dense(matrix):
    """Spell out a sparse draft, cells x genes."""
    out = np.zeros((len(matrix.indptr) - 1, matrix.n_columns))
    rows = np.repeat(np.arange(len(out)), np.diff(matrix.indptr))
    out[rows, matrix.columns] = matrix.values
    return out


def problems(root):
    """All that is wrong, as sentences."""
    findings = Findings()
    assert read_seurat(root, findings, Scratch()) is None
    return [problem.sentence for problem in findings.errors]


def test_an_assay_of_seurat_3_and_4_is_read_as_it_is(trees):
    draft = draft_from_seurat(trees.seurat())
    assert draft.barcodes == trees.cells
    assert draft.genes.ids == trees.genes
    np.testing.assert_array_equal(dense(draft.counts), trees.counts)
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)
    assert (draft.origin.kind, draft.origin.writer, draft.origin.assay_class) == ("own", "Seurat 4.1.3", "Assay")


def test_an_object_of_the_platform_needs_no_stand_in(trees):
    draft = draft_from_seurat(trees.platform())
    assert draft.origin.kind == "platform"
    assert draft.origin.fallbacks == []
    assert draft.cell_ids.tolist() == [5, 0, 3, 9, 1, 2]
    assert (draft.misc.color_pool, draft.misc.num_pcs) == (["#112233"] * 2, 2)


def test_layers_of_seurat_5_are_read_by_the_assays_maps(trees):
    layers = {"counts": trees.sparse(trees.counts, None, None), "data": trees.sparse(trees.data, None, None)}
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay5(layers)})))
    assert (draft.barcodes, draft.genes.ids) == (trees.cells, trees.genes)
    np.testing.assert_array_equal(dense(draft.counts), trees.counts)


def test_split_layers_are_joined_in_cell_order(trees):
    first, second = np.array([1, 0, 1, 1, 0, 0]), np.array([0, 1, 0, 0, 1, 1])
    layers = {
        "counts.1": trees.sparse(trees.counts[first == 1], None, None),
        "counts.sampleB": trees.sparse(trees.counts[second == 1], None, None),
    }
    assay = trees.assay5(layers, cells={"counts.1": first, "counts.sampleB": second})
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    np.testing.assert_array_equal(dense(draft.counts), trees.counts)
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)
    assert any("split into 2 layers (counts.1, counts.sampleB)" in note for note in draft.origin.fallbacks)
    assert draft.origin.count_layers is not None
    assert draft.origin.count_layers.by_cell().tolist() == [0, 1, 0, 0, 1, 1]
    assert draft.origin.count_layers.not_in_all == []


def test_split_layers_may_each_lack_genes(trees):
    halves = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 1, 1, 1])
    kept = np.array([1, 0, 1, 1]), np.array([1, 1, 0, 1])
    parts = [trees.sparse(trees.counts[c == 1][:, g == 1], None, None) for c, g in zip(halves, kept, strict=True)]
    layers = {"counts.1": parts[0], "counts.2": parts[1]}
    assay = trees.assay5(layers, dict(zip(layers, kept, strict=True)), dict(zip(layers, halves, strict=True)))
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    wanted = trees.counts.copy()
    wanted[:3, 1] = 0
    wanted[3:, 2] = 0
    np.testing.assert_array_equal(dense(draft.counts), wanted)
    assert draft.origin.count_layers is not None
    assert draft.origin.count_layers.not_in_all == [1, 2]


def test_a_cell_in_two_split_layers_is_refused(trees):
    layers = {"counts.1": trees.sparse(trees.counts, None, None), "counts.2": trees.sparse(trees.counts, None, None)}
    with pytest.raises(WorkerError, match=r"6 cells in more than one of counts.1, counts.2.*JoinLayers"):
        draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay5(layers)})))


def test_a_layer_that_its_map_does_not_fit_is_refused(trees):
    layers = {"counts": trees.sparse(trees.counts, None, None)}
    assay = trees.assay5(layers, features={"counts": [1, 1, 0, 1]})
    with pytest.raises(WorkerError, match=r"3 features x 6 cells in the assay's maps, expected 4 x 6"):
        draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))


def dense_r(trees):
    return trees.matrix(trees.counts.T, trees.genes, trees.cells)


def triplets(trees):
    cells, genes = np.nonzero(trees.counts)
    halves = np.tile(trees.counts[cells, genes] / 2, 2)
    order = np.random.default_rng(0).permutation(len(halves))
    i, j = np.tile(genes, 2)[order].astype(np.int32), np.tile(cells, 2)[order].astype(np.int32)
    return RS4("dgTMatrix", "Matrix", {
        "i": RVector(i, "integer"), "j": RVector(j, "integer"), "x": doubles(halves[order]), "Dim": integers([4, 6]),
        "Dimnames": RList([strings(trees.genes), strings(trees.cells)]),
    })  # fmt: skip


def by_row(trees):
    genes, cells = np.nonzero(trees.counts.T)
    return RS4("dgRMatrix", "Matrix", {
        "p": integers(np.searchsorted(genes, np.arange(5))), "j": integers(cells),
        "x": doubles(trees.counts[cells, genes]), "Dim": integers([4, 6]),
        "Dimnames": RList([strings(trees.genes), strings(trees.cells)]),
    })  # fmt: skip


def dge(trees):
    return RS4("dgeMatrix", "Matrix", {
        "x": doubles(trees.counts.ravel()), "Dim": integers([4, 6]),
        "Dimnames": RList([strings(trees.genes), strings(trees.cells)]),
    })  # fmt: skip


@pytest.mark.parametrize("form", [dense_r, triplets, by_row, dge])
def test_every_form_of_a_matrix_gives_the_same_counts(trees, form):
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay(counts=form(trees))})))
    np.testing.assert_array_equal(dense(draft.counts), trees.counts)
    for start, end in itertools.pairwise(draft.counts.indptr):
        assert np.all(np.diff(draft.counts.columns[start:end]) > 0)


def test_a_matrix_of_presence_counts_ones(trees):
    counts = trees.sparse(trees.counts)
    presence = RS4("ngCMatrix", "Matrix", {k: v for k, v in counts.slots.items() if k != "x"})
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay(counts=presence)})))
    np.testing.assert_array_equal(dense(draft.counts), trees.counts > 0)


def test_counts_in_another_order_than_data_are_put_into_its_order(trees):
    genes, cells = [2, 0, 3, 1], [5, 3, 0, 1, 2, 4]
    shuffled = trees.sparse(
        trees.counts[cells][:, genes], [trees.genes[i] for i in genes], [trees.cells[i] for i in cells]
    )
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay(counts=shuffled)})))
    np.testing.assert_array_equal(dense(draft.counts), trees.counts)


@pytest.mark.parametrize("empty", ["matrix", "sparse", "null"])
def test_raw_counts_alone_are_log_normalised_and_reported_to_be(trees, empty):
    layer = {"matrix": trees.empty(), "sparse": trees.sparse(np.zeros((0, 0)), None, None), "null": RNull()}[empty]
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay(data=layer)})))
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)
    assert any("log-normalised" in note for note in draft.origin.fallbacks)


def test_data_that_are_the_counts_again_are_log_normalised(trees):
    assay = trees.assay(data=trees.sparse(trees.counts))
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)
    assert any("the raw counts again" in note for note in draft.origin.fallbacks)


def test_normalised_values_in_both_places_are_served_as_they_are(trees):
    assay = trees.assay(counts=trees.sparse(trees.data))
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)


def test_data_without_counts_are_served_without_counts(trees):
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay(counts=trees.empty())})))
    assert draft.counts is None
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)


def test_a_cell_without_counts_is_normalised_to_zeros(trees):
    counts = trees.counts.copy()
    counts[2] = 0
    assay = trees.assay(counts=trees.sparse(counts), data=trees.empty())
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    assert np.all(dense(draft.data)[2] == 0)


def test_counts_below_zero_that_cannot_be_normalised_are_refused(trees):
    counts = trees.counts.copy()
    counts[0, 0] = -1.0
    assay = trees.assay(counts=trees.sparse(counts), data=trees.empty())
    with pytest.raises(WorkerError, match="counts that are negative \\(1 of 12 values\\)"):
        draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_count_that_is_no_number_spoils_its_gene_and_nothing_else(trees, bad):
    counts = trees.counts.copy()
    counts[0, 0] = bad
    assay = trees.assay(counts=trees.sparse(counts), data=trees.empty())
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    counts[0, 0] = 0
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    found = dense(draft.data)
    assert not np.isfinite(found[0, 0])
    found[0, 0] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_assay_rna_is_served_whichever_is_active(trees):
    assays = named_list({"ADT": trees.assay(), "RNA": trees.assay()})
    draft = draft_from_seurat(trees.seurat(**{"assays": assays, "active.assay": strings("ADT")}))
    assert draft.origin.assay == "RNA"
    assert "assays: the active assay is ADT; the assay RNA is served." in draft.origin.fallbacks


def test_without_rna_the_active_assay_is_served(trees):
    assays = named_list({"ADT": trees.assay(), "Spatial": trees.assay()})
    draft = draft_from_seurat(trees.seurat(**{"assays": assays, "active.assay": strings("Spatial")}))
    assert draft.origin.assay == "Spatial"


def test_an_assay_of_chromatin_alone_is_refused_in_words(trees):
    chromatin = RS4("ChromatinAssay", "Signac", trees.assay().slots)
    root = trees.seurat(**{"assays": named_list({"peaks": chromatin}), "active.assay": strings("peaks")})
    with pytest.raises(WorkerError, match=r"ChromatinAssay.*gene activities") as caught:
        draft_from_seurat(root)
    assert caught.value.code == ErrorCode.EXPERIMENT_UNSUPPORTED


def test_a_matrix_on_disk_is_refused_in_words(trees):
    folder = RS4("RenameDims", "BPCells", {"matrix": RNull(), "dim": doubles([4, 6])})
    assay = trees.assay5({"counts": folder})
    with pytest.raises(WorkerError, match=r"BPCells.*as\(x, 'dgCMatrix'\)") as caught:
        draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    assert caught.value.code == ErrorCode.EXPERIMENT_UNSUPPORTED


@pytest.mark.parametrize(
    ("root", "words"),
    [
        (RS4("SingleCellExperiment", "SingleCellExperiment", {}), "SingleCellExperiment.*expected a Seurat object"),
        (data_frame({"a": doubles([1])}, ["x"]), "class data.frame"),
        (RList([RNull()]), "a list of 1"),
        (doubles([1, 2]), "a double vector of 2"),
        (strings(["a"]), "a character vector of 1"),
        (RNull(), "NULL"),
        (Skipped("closure"), "a closure"),
    ],
)
def test_what_is_no_seurat_object_is_refused_naming_what_it_is(root, words):
    with pytest.raises(WorkerError, match=words) as caught:
        draft_from_seurat(root)
    assert caught.value.code == ErrorCode.EXPERIMENT_UNSUPPORTED


def test_an_object_of_seurat_2_is_read(trees):
    more = np.vstack([trees.counts, [[1, 1, 1, 1]]])
    root = RS4("seurat", "Seurat", {
        "raw.data": trees.sparse(more, cells=[*trees.cells, "removed"]), "data": trees.sparse(trees.data),
        "scale.data": trees.matrix(trees.data.T, trees.genes, trees.cells), "meta.data": trees.metadata(),
        "ident": trees.seurat().slots["active.ident"], "version": trees.seurat().slots["version"],
        "dr": named_list({"tsne": trees.reduction(np.ones((6, 2)))}), "project.name": strings("old"),
    })  # fmt: skip
    draft = draft_from_seurat(root)
    np.testing.assert_array_equal(dense(draft.counts), trees.counts)
    assert list(draft.reductions) == ["tsne"]
    np.testing.assert_allclose(draft.scaled_values, trees.data, rtol=1e-6)
    assert draft.identities.categories == ["B", "T", "NK"]


DAMAGE = {
    "p falls": ("p", integers([0, 2, 1, 4, 5, 7, 9])),
    "p starts late": ("p", integers([1, 2, 3, 6, 7, 9, 12])),
    "p is short": ("p", integers([0, 2])),
    "p is text": ("p", strings(["0"])),
    "p ends beyond": ("p", integers([0, 2, 3, 6, 7, 9, 4000])),
    "i is short": ("i", integers([0])),
    "i is doubles": ("i", doubles([0] * 12)),
    "x is short": ("x", doubles([1])),
    "x is text": ("x", strings(["1"] * 12)),
    "Dim is negative": ("Dim", integers([-4, 6])),
    "Dim is long": ("Dim", integers([4, 6, 1])),
    "Dim is absurd": ("Dim", doubles([1e300, 6])),
    "names are few": ("Dimnames", RList([strings(["a"]), strings(["b"] * 6)])),
}


@pytest.mark.parametrize("slot", DAMAGE)
def test_a_damaged_matrix_is_refused_naming_the_matrix(trees, slot):
    name, value = DAMAGE[slot]
    counts = trees.sparse(trees.counts)
    counts.slots[name] = value
    with pytest.raises(WorkerError, match="assay RNA counts") as caught:
        draft_from_seurat(trees.seurat(assays=named_list({"RNA": trees.assay(counts=counts)})))
    assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE


def test_a_matrix_without_names_is_refused(trees):
    assay = trees.assay(counts=trees.empty(), data=trees.sparse(trees.data, None, None))
    with pytest.raises(WorkerError, match="a matrix without gene names"):
        draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))


def test_every_problem_of_an_object_is_found_at_once(trees):
    counts = trees.sparse(trees.counts)
    counts.slots["p"] = integers([0])
    root = trees.seurat(**{
        "assays": named_list({"RNA": trees.assay(counts=counts)}),
        "meta.data": trees.metadata(cells_id=integers([0, 0, 1, 2, 3, 4])),
    })  # fmt: skip
    found = problems(root)
    assert len(found) == 2
    assert found[0].startswith("assay RNA counts, slot p:")
    assert found[1].startswith("meta.data cells_id: found 1 repeated ids")
    with pytest.raises(WorkerError, match=r"\(1 more: 'cellworker check' lists all\)"):
        draft_from_seurat(root)


def test_large_temporary_arrays_are_in_the_spool_folder(trees, tmp_path, monkeypatch):
    monkeypatch.setattr("cellworker.formats.common.scratch._IN_MEMORY", 8)
    assay = trees.assay(data=RNull())
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})), tmp_path)
    assert isinstance(draft.data.values, np.memmap)
    # The file has no name: whatever ends this process frees it.
    assert not list(tmp_path.iterdir())
    assert f"{tmp_path}/" in Path("/proc/self/maps").read_text()
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-6)


def values():
    """Anything that might stand in a slot."""
    leaves = st.one_of(
        st.just(RNull()), st.just(Skipped("closure")),
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8).map(lambda v: RVector(np.array(v, np.int32), "integer")),
        st.lists(st.floats(), max_size=8).map(lambda v: RVector(np.array(v, np.float64), "double")),
        st.lists(st.booleans(), max_size=8).map(logicals),
        st.lists(st.one_of(st.none(), st.text("aé1.", max_size=4)), max_size=8).map(strings),
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(RList),
            st.dictionaries(st.sampled_from(["data", "counts", "RNA", "pca", "samples"]), inner, max_size=3).map(
                named_list
            ),
            st.dictionaries(st.sampled_from(["i", "p", "x", "Dim", "Dimnames", "layers"]), inner, max_size=4).map(
                lambda slots: RS4("dgCMatrix", "Matrix", slots)
            ),
        ),
        max_leaves=6,
    )


def slots_of(value, path=()):
    """Every place in a tree that can be overwritten."""
    if isinstance(value, RS4):
        inner = value.slots.items()
    elif isinstance(value, RList):
        inner = [*enumerate(value.items), *value.attributes.items()]
    elif isinstance(value, (RVector, RStrings)):
        inner = value.attributes.items()
    else:
        return
    for name, item in inner:
        yield (*path, name)
        yield from slots_of(item, (*path, name))


def overwrite(value, path, new):
    """Return the tree with one place overwritten."""
    for name in path[:-1]:
        value = (
            value.slots[name]
            if isinstance(value, RS4)
            else value.items[name]
            if isinstance(name, int)
            else value.attributes[name]
        )
    if isinstance(value, RS4):
        value.slots[path[-1]] = new
    elif isinstance(path[-1], int):
        value.items[path[-1]] = new
    else:
        value.attributes[path[-1]] = new


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_content_of_a_slot_is_served_or_refused_in_a_sentence(trees, data):
    layers = {"counts": trees.sparse(trees.counts, None, None), "data": trees.sparse(trees.data, None, None)}
    root = (
        trees.platform() if data.draw(st.booleans()) else trees.seurat(assays=named_list({"RNA": trees.assay5(layers)}))
    )
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(slots_of(root))))
        overwrite(root, path, data.draw(values()))
    try:
        draft = draft_from_seurat(root)
    except WorkerError:
        pass
    else:
        assert len(draft.cell_ids) == len(draft.barcodes) == len(draft.data.indptr) - 1
        assert draft.data.n_columns == len(draft.genes)
