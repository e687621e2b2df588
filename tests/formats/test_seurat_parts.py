"""From a Seurat object's tree to an experiment: cells, genes, reductions, graphs, scaled values and the misc list."""

import numpy as np
import pytest
from tests.formats.seurat_drafts import draft_from_seurat

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical
from cellworker.formats.r.rds.build import data_frame, doubles, factor, integers, logicals, named_list, strings
from cellworker.formats.r.rds.model import RS4, RList, RVector, Skipped

NA = -(2**31)


def labels(column: Categorical) -> list[str | None]:
    return [None if code < 0 else column.categories[code] for code in column.codes]


# --- cells ---


@pytest.mark.parametrize("ids", [integers([5, 0, 3, 9, 1, 2]), doubles([5, 0, 3, 9, 1, 2])])
def test_cell_ids_may_be_stored_as_integers_or_doubles(trees, ids):
    draft = draft_from_seurat(trees.seurat(**{"meta.data": trees.metadata(cells_id=ids)}))
    assert draft.cell_ids.dtype == np.int32
    assert draft.cell_ids.tolist() == [5, 0, 3, 9, 1, 2]


def test_without_cell_ids_cells_are_numbered(trees):
    assert draft_from_seurat(trees.seurat()).cell_ids.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (integers([0, 1, 2, 3, 4, 4]), "1 repeated ids"),
        (integers([0, 1, 2, 3, 4, NA]), "1 values that are missing or not whole"),
        (doubles([0, 1, 2, 3, 4, 4.5]), "1 values that are missing or not whole"),
        (integers([0, 1, 2, 3, 4, -5]), "the id -5"),
        (integers([0, 1, 2, 3, 4, 2_000_000_000]), "the id 2000000000"),
        (doubles([0, 1, 2, 3, 4, 1e18]), "the id 1000000000000000000"),
    ],
)
def test_cell_ids_that_cannot_be_are_refused_naming_the_column(trees, ids, words):
    with pytest.raises(WorkerError, match=f"meta.data cells_id: found {words}") as caught:
        draft_from_seurat(trees.seurat(**{"meta.data": trees.metadata(cells_id=ids)}))
    assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE


def test_text_in_a_users_own_column_of_that_name_is_no_cell_id(trees):
    root = trees.seurat(**{"meta.data": trees.metadata(cells_id=strings(list("abcdef")))})
    draft = draft_from_seurat(root)
    assert draft.cell_ids.tolist() == [0, 1, 2, 3, 4, 5]
    kept = draft.metadata["cells_id (column)"]
    assert [kept.categories[code] for code in kept.codes] == list("abcdef")
    assert any("the column is kept as cells_id (column)" in note for note in draft.origin.fallbacks)


def test_text_where_the_platform_keeps_its_cell_ids_is_refused(trees):
    root = trees.platform(**{"meta.data": trees.metadata(cells_id=strings(list("abcdef")))})
    with pytest.raises(WorkerError, match=r"meta\.data cells_id: found text"):
        draft_from_seurat(root)


def test_columns_of_every_kind_are_kept_with_their_missing_values(trees):
    columns = {
        "whole": integers([1, 2, 3, 4, 5, 6]), "gappy": integers([1, NA, 3, 4, 5, 6]),
        "number": doubles([1.5, np.nan, 3, 4, 5, 6]), "truth": logicals([True, False] * 3),
        "perhaps": RVector(np.array([1, NA, 0, 1, 1, 0], np.int32), "logical"),
        "text": strings(["b", "a", None, "b", "b", "a"]),
        "levels": factor(np.array([2, 0, -1, 2, 2, 0]), ["low", "unused", "high"]),
        "big": RVector(
            np.array([2**40, 1, 2, 3, 4, 5], np.int64).view(np.float64), "double", {"class": strings("integer64")}
        ),
    }  # fmt: skip
    found = draft_from_seurat(trees.seurat(**{"meta.data": trees.metadata(**columns)})).metadata
    assert (found["whole"].dtype, found["whole"].tolist()) == (np.int64, [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(found["gappy"], [1, np.nan, 3, 4, 5, 6])
    np.testing.assert_array_equal(found["number"], [1.5, np.nan, 3, 4, 5, 6])
    assert (found["truth"].dtype, found["truth"].tolist()) == (np.bool_, [True, False] * 3)
    assert labels(found["perhaps"]) == ["TRUE", None, "FALSE", "TRUE", "TRUE", "FALSE"]
    assert (labels(found["text"]), found["text"].categories) == (["b", "a", None, "b", "b", "a"], ["b", "a"])
    assert labels(found["levels"]) == ["high", "low", None, "high", "high", "low"]
    assert found["levels"].categories == ["low", "unused", "high"]
    assert (found["big"].dtype, found["big"][0]) == (np.int64, 2**40)


def test_what_is_no_column_is_left_out_and_named(trees):
    columns = {"nested": RList([doubles([1])] * 6), "code": Skipped("closure"), "short": doubles([1, 2])}
    draft = draft_from_seurat(trees.seurat(**{"meta.data": trees.metadata(**columns)}))
    assert not set(columns) & set(draft.metadata)
    note = next(note for note in draft.origin.fallbacks if note.startswith("meta.data: columns"))
    assert all(name in note for name in columns)


def test_metadata_rows_belong_to_cells_by_name_not_by_order(trees):
    rows = trees.cells[::-1]
    table = data_frame({"n": integers([5, 4, 3, 2, 1, 0]), "orig.ident": strings(list("fedcba"))}, rows)
    draft = draft_from_seurat(trees.seurat(**{"meta.data": table}))
    assert draft.metadata["n"].tolist() == [0, 1, 2, 3, 4, 5]
    assert labels(draft.metadata["orig.ident"]) == list("abcdef")


def test_metadata_of_more_cells_than_the_assay_has_is_cut_to_it(trees):
    table = data_frame({"n": integers([9, 0, 1, 2, 3, 4, 5])}, ["elsewhere", *trees.cells])
    draft = draft_from_seurat(trees.seurat(**{"meta.data": table}))
    assert draft.metadata["n"].tolist() == [0, 1, 2, 3, 4, 5]
    assert any("7 cells in the object, 6 in the assay RNA" in note for note in draft.origin.fallbacks)


def test_metadata_of_other_cells_is_refused(trees):
    table = data_frame({"n": integers(range(6))}, [f"other{i}" for i in range(6)])
    with pytest.raises(WorkerError, match=r"meta\.data: found 6 rows that do not match the 6 cells"):
        draft_from_seurat(trees.seurat(**{"meta.data": table}))


def test_repeated_barcodes_are_distinguished(trees):
    cells = ["a", "b", "a", "a.1", "a", "c"]
    assay = trees.assay(counts=trees.sparse(trees.counts, cells=cells), data=trees.sparse(trees.data, cells=cells))
    table = data_frame({"n": integers(range(6))}, None, 6)
    draft = draft_from_seurat(
        trees.seurat(**{"assays": named_list({"RNA": assay}), "meta.data": table, "reductions": RList([])})
    )
    assert draft.barcodes == ["a", "b", "a.2", "a.1", "a.3", "c"]
    assert any("2 repeated barcodes" in note for note in draft.origin.fallbacks)


def test_samples_come_from_samples_else_orig_ident_else_a_column_named_so_else_are_one(trees):
    def samples(**columns):
        table = data_frame(columns, trees.cells, 6) if columns else data_frame({"x": doubles([0] * 6)}, trees.cells)
        return labels(draft_from_seurat(trees.seurat(**{"meta.data": table})).metadata["samples"])

    two, three, one = strings(list("aaabbb")), strings(list("xyzxyz")), strings(["demo"] * 6)
    assert samples(**{"samples": three, "orig.ident": two}) == list("xyzxyz")
    assert samples(**{"orig.ident": two, "sample": three}) == list("aaabbb")
    assert samples(**{"orig.ident": one, "Sample": three}) == ["demo"] * 6  # 3 labels of 6 cells are no samples
    assert samples(**{"orig.ident": one, "Sample": two}) == list("aaabbb")
    assert samples(**{"orig.ident": one}) == ["demo"] * 6
    assert samples() == ["demo"] * 6


def test_identities_belong_to_cells_by_name(trees):
    names = trees.cells[::-1]
    ident = factor(np.array([2, 2, 1, 1, 0, 0]), ["B", "T", "NK"], names=names)
    draft = draft_from_seurat(trees.seurat(**{"active.ident": ident}))
    assert labels(draft.identities) == ["B", "B", "T", "T", "NK", "NK"]


def test_totals_are_computed_where_columns_lack_them(trees):
    draft = draft_from_seurat(trees.seurat(**{"meta.data": data_frame({"x": doubles([0] * 6)}, trees.cells)}))
    np.testing.assert_array_equal(draft.metadata["nCount_RNA"], trees.counts.sum(axis=1))
    np.testing.assert_array_equal(draft.metadata["nFeature_RNA"], (trees.counts > 0).sum(axis=1))


# --- genes ---


def annotated(trees, **columns):
    usual = {"input": strings(trees.genes[::-1]), "name": strings(list("dcba")), "original_name": strings(list("DCBA"))}
    table = data_frame({k: v for k, v in (usual | columns).items() if v is not None}, trees.genes[::-1])
    return trees.seurat(misc=named_list({"gene_annotations": table}))


def test_gene_names_are_looked_up_by_id_whatever_the_row_order(trees):
    genes = draft_from_seurat(annotated(trees)).genes
    assert (genes.ids, genes.names, genes.original_names) == (trees.genes, list("abcd"), list("ABCD"))


def test_genes_without_a_row_or_a_name_go_by_their_ids(trees):
    genes = draft_from_seurat(
        annotated(trees, input=strings(["LYZ", "other", "MS4A1", "CD3D"]), name=strings(["d", "x", None, "a"]))
    ).genes
    assert genes.names == ["a", "MS4A1", "NKG7", "d"]
    assert genes.original_names == ["A", "B", "NKG7", "D"]


def test_without_annotations_ids_are_names(trees):
    genes = draft_from_seurat(trees.seurat()).genes
    assert genes.names == genes.original_names == trees.genes


def test_ids_with_underscores_find_their_rows(trees):
    ids = ["CD3D", "MS4A1", "NKG7", "HLA-A"]
    assay = trees.assay(counts=trees.sparse(trees.counts, ids), data=trees.sparse(trees.data, ids))
    root = annotated(trees, input=strings(["HLA_A", "NKG7", "MS4A1", "CD3D"]))
    root.slots["assays"] = named_list({"RNA": assay})
    assert draft_from_seurat(root).genes.names == list("abcd")


def dispersed(trees, columns, names=None):
    table = data_frame(columns, [f"r{i}" for i in range(3)])
    if names is not None:
        table.attributes["names"] = strings(names)
    draft = draft_from_seurat(trees.seurat(misc=named_list({"gene_dispersion": table})))
    return draft.dispersions


SYMBOLS = {"SYMBOL": strings(["c", "a", "b"]), "ENSEMBL": strings(["3", "1", "2"])}


def test_the_dispersion_table_keeps_its_own_order(trees):
    found = dispersed(trees, {"variance.standardized": doubles([1, 3, 2]), **SYMBOLS})
    assert (found.names, found.ids, found.dispersions.tolist()) == (["c", "a", "b"], ["3", "1", "2"], [1, 3, 2])


def test_residual_variance_goes_before_standardised_variance(trees):
    columns = {"variance.standardized": doubles([1, 3, 2]), "residual_variance": doubles([7, 8, 9]), **SYMBOLS}
    assert dispersed(trees, columns).dispersions.tolist() == [7, 8, 9]


def test_a_table_that_lost_its_fourth_column_name_is_repaired(trees):
    columns = {
        "mean": doubles([0] * 3),
        "variance": doubles([0] * 3),
        "x": doubles([1, 1, 1]),
        "y": doubles([4, 5, 6]),
        **SYMBOLS,
    }
    names = ["mean", "variance", "variance.standardized", None, "SYMBOL", "ENSEMBL"]
    assert dispersed(trees, columns, names).dispersions.tolist() == [4, 5, 6]


def test_rows_without_a_symbol_are_left_out_of_the_gene_list(trees):
    columns = {"variance.standardized": doubles([1, 3, 2]), **SYMBOLS, "SYMBOL": strings(["c", None, "b"])}
    found = dispersed(trees, columns)
    assert (found.names, found.dispersions.tolist()) == (["c", "b"], [1, 2])


def test_variable_features_of_the_assay_stand_in_for_the_table(trees):
    features = data_frame(
        {"vst.mean": doubles([0] * 4), "vst.variance.standardized": doubles([1, np.nan, 3, 4])}, trees.genes
    )
    assay = trees.assay(**{"meta.features": features})
    found = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay}))).dispersions
    np.testing.assert_array_equal(found.dispersions, [1, np.nan, 3, 4])
    assert found.names == trees.genes


def test_variable_features_of_split_layers_are_averaged(trees):
    assay = trees.assay5({"counts": trees.sparse(trees.counts, None, None)})
    assay.slots["meta.data"] = data_frame(
        {"vf_vst_counts.1_variance.standardized": doubles([1, np.nan, 3, 4]),
         "vf_vst_counts.2_variance.standardized": doubles([3, np.nan, np.nan, 4])},
        trees.genes,
    )  # fmt: skip
    found = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay}))).dispersions
    np.testing.assert_array_equal(found.dispersions, [2, np.nan, 3, 4])


def test_without_variable_features_the_variance_of_normalised_values_stands_in(trees):
    draft = draft_from_seurat(trees.seurat())
    np.testing.assert_allclose(draft.dispersions.dispersions, trees.data.var(axis=0, ddof=1), rtol=1e-6)
    assert any("variance of the normalised values" in note for note in draft.origin.fallbacks)


# --- reductions, graphs, scaled values, misc ---


def test_reductions_belong_to_cells_by_name_with_gaps(trees):
    values = np.arange(10.0).reshape(5, 2)
    umap = trees.reduction(values, trees.cells[:0:-1], "UMAP_")
    found = draft_from_seurat(trees.seurat(reductions=named_list({"umap": umap}))).reductions["umap"]
    np.testing.assert_array_equal(found.values, [[np.nan] * 2, *values[::-1]])
    assert found.key == "UMAP_"


def test_a_reduction_of_other_cells_is_left_out(trees):
    strange = trees.reduction(np.ones((6, 2)), list("uvwxyz"))
    assert draft_from_seurat(trees.seurat(reductions=named_list({"umap": strange}))).reductions == {}


@pytest.mark.parametrize(
    ("names", "default"),
    [(["pca", "tsne", "UMAP"], "UMAP"), (["pca", "TSNE"], "TSNE"), (["pca"], "pca"), (["lsi"], "")],
)
def test_the_default_reduction_is_what_seurat_would_plot(trees, names, default):
    reductions = named_list({name: trees.reduction(np.ones((6, 2))) for name in names})
    assert draft_from_seurat(trees.seurat(reductions=reductions)).misc.default_reduction == default


def graph(trees, dense, cells="own"):
    names = trees.cells if cells == "own" else cells
    found = trees.sparse(dense, names, names)
    return RS4("Graph", "SeuratObject", found.slots | {"assay.used": strings("RNA")})


def rows_of(matrix):
    out = np.zeros((6, 6))
    out[np.repeat(np.arange(6), np.diff(matrix.indptr)), matrix.columns] = matrix.values
    return out


def test_graphs_come_row_by_row_and_in_the_cells_order(trees):
    asymmetric = np.triu(np.arange(36.0).reshape(6, 6), 1)
    symmetric = asymmetric + asymmetric.T
    backwards = graph(trees, symmetric[::-1, ::-1], trees.cells[::-1])
    # `sparse` takes cells x genes and R stores genes x cells: R's matrix is the transpose.
    graphs = {"RNA_nn": graph(trees, asymmetric.T), "RNA_snn": graph(trees, symmetric), "x_snn": backwards}
    found = draft_from_seurat(trees.seurat(graphs=named_list(graphs))).graphs
    np.testing.assert_array_equal(rows_of(found["RNA_nn"]), asymmetric)
    np.testing.assert_array_equal(rows_of(found["RNA_snn"]), symmetric)
    np.testing.assert_array_equal(rows_of(found["x_snn"]), symmetric)


def test_a_graph_of_other_cells_is_left_out(trees):
    small = trees.sparse(np.eye(5), trees.cells[:5], trees.cells[:5])
    assert draft_from_seurat(trees.seurat(graphs=named_list({"RNA_snn": small}))).graphs == {}


def test_scaled_values_are_taken_from_the_assay_that_the_platform_prefers(trees):
    own = {"RNA": "CD3D", "SCT": "MS4A1", "integrated": "NKG7"}
    scaled = {
        name: trees.matrix(np.full((1, 6), float(i)), [gene], trees.cells) for i, (name, gene) in enumerate(own.items())
    }
    for names, gene, value in ((["RNA", "SCT", "integrated"], 2, 2), (["RNA", "SCT"], 1, 1), (["RNA"], 0, 0)):
        assays = named_list({name: trees.assay(**{"scale.data": scaled[name]}) for name in names})
        draft = draft_from_seurat(trees.seurat(assays=assays))
        assert (draft.scaled_genes.tolist(), np.unique(draft.scaled_values).tolist()) == ([gene], [value])


def test_scaled_values_of_a_v5_assay_cover_the_genes_of_their_map(trees):
    values = np.arange(12.0).reshape(2, 6)
    layers = {"counts": trees.sparse(trees.counts, None, None), "scale.data": trees.matrix(values)}
    assay = trees.assay5(layers, features={"scale.data": [0, 1, 0, 1]})
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    assert draft.scaled_genes.tolist() == [1, 3]
    np.testing.assert_array_equal(draft.scaled_values, values.T)


def test_scaled_values_of_a_sketch_leave_gaps_for_the_other_cells(trees):
    scaled = trees.matrix(np.arange(4.0).reshape(2, 2), ["LYZ", "elsewhere"], ["cell4", "cell1"])
    assays = named_list({"RNA": trees.assay(), "sketch": trees.assay(**{"scale.data": scaled})})
    draft = draft_from_seurat(trees.seurat(assays=assays))
    assert draft.scaled_genes.tolist() == [3]
    np.testing.assert_array_equal(draft.scaled_values[:, 0], [np.nan, 1, np.nan, np.nan, 0, np.nan])


def test_the_misc_list_has_the_platforms_defaults(trees):
    misc = draft_from_seurat(trees.seurat()).misc
    assert (misc.num_pcs, misc.active_reduction, misc.technology, misc.microns_per_pixel) == (30, "pca", "", None)
    assert misc.color_pool[:6] == ["#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99"]
    assert len(set(misc.color_pool)) == len(misc.color_pool) >= 40


def test_the_misc_list_is_read(trees):
    items = {"numPCs": integers([12]), "active.reduction": strings("harmony"), "technology": strings("xenium"),
             "microns_per_pixel": doubles([0.5]), "experimentId": strings("e1"), "ingestionDate": strings("2026"),
             "color_pool": strings(["#010203", None, "red"])}  # fmt: skip
    misc = draft_from_seurat(trees.seurat(misc=named_list(items))).misc
    assert (misc.num_pcs, misc.active_reduction) == (12, "harmony")
    assert (misc.technology, misc.microns_per_pixel) == ("xenium", 0.5)
    assert (misc.experiment_id, misc.ingestion_date, misc.color_pool) == ("e1", "2026", ["#010203"])


def test_parts_whose_names_do_not_fit_their_size_are_left_out(trees):
    few, many = trees.cells[:4], [*trees.cells, "cell7"]
    reductions = {"few": trees.reduction(np.ones((6, 2)), few), "many": trees.reduction(np.ones((6, 2)), many)}
    scaled = trees.matrix(np.ones((2, 6)), [*trees.genes, "CD3D"], trees.cells)
    ident = factor(np.zeros(6, np.int64), ["a"], names=many)
    root = trees.seurat(**{
        "reductions": named_list(reductions), "active.ident": ident,
        "assays": named_list({"RNA": trees.assay(**{"scale.data": scaled})}),
    })  # fmt: skip
    draft = draft_from_seurat(root)
    assert (draft.reductions, draft.identities, draft.scaled_values) == ({}, None, None)


def test_a_version_that_is_no_version_is_no_obstacle(trees):
    root = trees.seurat(version=RList([doubles([np.inf])]))
    assert draft_from_seurat(root).origin.writer == "Seurat"
