"""Cell sets made from an object's own metadata."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.comparisons import resolve_comparison
from cellworker.experiment.model import Categorical
from cellworker.formats.common.cells.derive import derive_cell_sets
from cellworker.formats.common.palette import palette

IDS = np.array([7, 0, 3, 9, 4, 2], np.int32)


def labels(text: str, categories: str | None = None) -> Categorical:
    """Make a column from letters; `.` is missing."""
    levels = list(categories if categories is not None else dict.fromkeys(text.replace(".", "")))
    return Categorical(np.array([-1 if c == "." else levels.index(c) for c in text], np.int32), levels)


def derive(identities=None, **metadata) -> CellSets:
    return derive_cell_sets(IDS, {"samples": labels("aaabbb"), **metadata}, identities)


def sets(cell_sets: CellSets, key: str) -> dict[str, list[int]]:
    return {child.name: child.cell_ids.tolist() for child in cell_sets.find_class(key).children}


def test_the_first_classes_are_clusters_custom_sets_and_samples():
    found = derive(labels("012012"))
    assert [(item.key, item.type) for item in found.classes] == [
        ("identities", "cellSets"), ("scratchpad", "cellSets"), ("sample", "metadataCategorical")
    ]  # fmt: skip
    assert sets(found, "identities") == {"Cluster 0": [7, 9], "Cluster 1": [0, 4], "Cluster 2": [2, 3]}
    assert [child.key for child in found.clusters.children] == ["identities-0", "identities-1", "identities-2"]
    assert sets(found, "scratchpad") == {}
    assert sets(found, "sample") == {"a": [0, 3, 7], "b": [2, 4, 9]}


def test_clusters_with_names_keep_them():
    found = derive(labels("TTBBNN", "NTB"))
    assert list(sets(found, "identities")) == ["N", "T", "B"]
    assert found.clusters.name == "identities"


def test_numbered_clusters_are_in_the_order_of_their_numbers():
    identities = Categorical(np.array([0, 1, 2, 0, 1, 2], np.int32), ["10", "2", "1"])
    assert list(sets(derive(identities), "identities")) == ["Cluster 1", "Cluster 2", "Cluster 10"]


@pytest.mark.parametrize(
    ("identities", "metadata", "source"),
    [
        (labels("xyxyxy"), {"seurat_clusters": labels("012012")}, "identities"),
        (labels("aaabbb"), {"seurat_clusters": labels("012012")}, "seurat_clusters"),
        (labels("qqqqqq"), {"seurat_clusters": labels("012012")}, "seurat_clusters"),
        (labels("qqqqqq"), {"other": labels("012012"), "cell_type": labels("TBTBTB")}, "cell_type"),
        (labels("qqqqqq"), {"leiden": np.array([3, 1, 3, 1, 3, 1])}, "leiden"),
        (labels("qqqqqq"), {"other": labels("012012")}, "identities"),
        (None, {}, "all cells"),
    ],
)
def test_clusters_come_from_the_column_that_separates_the_cells(identities, metadata, source):
    assert derive(identities, **metadata).clusters.key == source


def test_a_column_that_is_constant_in_every_sample_is_a_metadata_track():
    found = derive_cell_sets(IDS, {"samples": labels("aabbcc"), "condition": labels("xxyyxx")}, None)
    assert found.find_class("condition").type == "metadataCategorical"
    assert [child.key for child in found.find_class("condition").children] == ["condition-x", "condition-y"]


def test_other_clusterings_and_labels_follow_as_classes_of_their_own():
    found = derive(labels("012012"), **{"RNA_snn_res.1": labels("010101"), "phase": labels("GSGSMM")})
    assert found.find_class("RNA_snn_res.1").type == "cellSets"
    assert [child.key for child in found.find_class("RNA_snn_res.1").children] == ["RNA_snn_res.1-0", "RNA_snn_res.1-1"]
    phase = next(item for item in found.classes if item.name == "phase")
    assert phase.type == "CLM"
    assert {child.name: child.cell_ids.tolist() for child in phase.children} == {"G": [3, 7], "S": [0, 9], "M": [2, 4]}


def test_numbers_and_columns_of_one_label_are_no_classes():
    found = derive(
        labels("012012"),
        **{"orig.ident": labels("xxxyyy"), "seurat_clusters": labels("012012"), "one": labels("eeeeee"),
           "nCount_RNA": np.array([1, 2, 3, 4, 5, 6]), "percent.mt": np.linspace(0, 1, 6), "cells_id": IDS},
    )  # fmt: skip
    # The clusters are the column that says the same; whoever names the other grouping of the samples finds it.
    assert [item.key for item in found.classes] == ["seurat_clusters", "scratchpad", "sample", "orig.ident"]


def test_a_column_of_more_than_fifty_labels_is_no_class():
    cells = 60
    many = Categorical(np.arange(cells, dtype=np.int32), [str(i) for i in range(cells)])
    few = Categorical(np.arange(cells, dtype=np.int32) % 50, [str(i) for i in range(50)])
    found = derive_cell_sets(np.arange(cells, dtype=np.int32), {"barcode": many, "plate": few}, None)
    assert [item.name for item in found.classes] == ["all cells", "Custom cell sets", "plate"]


def test_cells_without_a_label_are_in_no_set():
    assert sets(derive(labels("01.01."), phase=labels("......", "G")), "identities") == {
        "Cluster 0": [7, 9],
        "Cluster 1": [0, 4],
    }


def test_truth_values_are_two_sets():
    found = derive(labels("012012"), doublet=np.array([True, False, True, True, False, True]))
    doublet = next(item for item in found.classes if item.name == "doublet")
    assert [child.name for child in doublet.children] == ["FALSE", "TRUE"]


def test_keys_are_unique_and_the_same_each_time():
    columns = {"louvain": labels("xyxyxy"), "sample": labels("ababab"), "a": labels("uvuvuv"), "a-u": labels("mnnmmn")}
    first, second = derive(labels("012012"), **columns), derive(labels("012012"), **columns)
    assert first.encode() == second.encode()
    assert first.repeated_keys == []


def test_sample_ids_of_the_platform_stay_the_keys():
    ids = ["00000abc-0001-4000-8000-000000000001", "00000abc-0002-4000-8000-000000000002"]
    found = derive_cell_sets(IDS, {"samples": Categorical(np.array([0, 0, 0, 1, 1, 1], np.int32), ids)}, None)
    assert [child.key for child in found.find_class("sample").children] == ids


def test_derived_sets_obey_the_format():
    found = derive(labels("012012"), phase=labels("GSGSMM"))
    assert CellSets.parse(found.encode()).encode() == found.encode()


def test_colours_are_taken_in_order_and_differ_within_a_class():
    found = derive(labels("012012"))
    colors = [child.color for _, child in found.sets()]
    assert colors == palette()[: len(colors)]


def test_the_built_in_colours_all_differ():
    colors = palette(380)
    assert len(set(colors)) == 380
    assert all(len(color) == 7 and int(color[1:], 16) >= 0 for color in colors)


def test_custom_sets_of_an_annotated_object_are_custom_sets_again():
    metadata = {
        "samples": Categorical(np.zeros(4, np.int32), ["s"]),
        "custom_cellset-my cells": np.array([True, False, True, False]),
    }
    found = derive_cell_sets(np.array([7, 5, 3, 1], np.int32), metadata, None)
    (custom,) = found.find_class("scratchpad").children
    assert (custom.name, custom.cell_ids.tolist()) == ("my cells", [3, 7])
    assert "custom_cellset-my cells" not in found.keys


def test_colours_of_the_object_come_before_those_of_the_pool():
    labels = Categorical(np.array([0, 1, 2, 0], np.int32), ["a", "b", "c"])
    found = derive_cell_sets(
        np.arange(4, dtype=np.int32), {"leiden": labels}, None, ["#000001"], {"leiden": ["#aa0000", "#00aa00"]}
    )
    assert [child.color for child in found.find_class("leiden").children] == ["#aa0000", "#00aa00", "#000001"]


OWN = st.sampled_from(
    ["louvain", "leiden", "sample", "samples", "scratchpad", "all", "Rest", "background", "leiden-0", "seurat_clusters",
     "cell_type", "donor", "a", "a-b", "identities", "all cells", "louvain (column)", "sample (column)"]
)  # fmt: skip
COLUMNS = st.lists(st.integers(0, 2), min_size=6, max_size=6).map(
    lambda codes: labels("".join("abc"[c] for c in codes))
)
PLATFORM_WORDS = {"sample", "scratchpad", "all", "Rest", "background"}


@given(columns=st.dictionaries(OWN, COLUMNS, min_size=1), chosen=st.sampled_from(["samples", "donor", "sample"]))
def test_every_grouping_of_a_file_answers_to_its_own_name(columns, chosen):
    columns = {chosen: labels("aabbcc"), **columns}
    found = derive_cell_sets(IDS, columns, None, samples=chosen)
    assert found.repeated_keys == []
    assert found.encode() == derive_cell_sets(IDS, columns, None, samples=chosen).encode()
    for name, column in columns.items():
        used = np.unique(column.codes)
        mine = columns[chosen]
        copied = name == "samples" and chosen != name and column.categories == mine.categories
        if copied and np.array_equal(column.codes, mine.codes):
            continue  # readers put a copy of the column of samples there
        if len(used) < 2:
            continue
        key = f"{name} (column)" if name in PLATFORM_WORDS and name != chosen else name
        answering = found.find_class(key)
        if f"{name} (column)" in columns and key != name:
            continue  # the file has a column of that name, too, which comes first or second
        assert answering is not None, name
        if not name.endswith("(column)"):
            assert {tuple(child.cell_ids) for child in answering.children} == {
                tuple(np.sort(IDS[column.codes == code])) for code in used
            }
            child = f"{key}-{column.categories[used[0]]}"
            assert child in columns or found.find_set(child) in answering.children


def test_louvain_is_another_name_of_the_clusters_in_use_on_the_wire_only():
    found = derive(leiden=labels("012012"))
    assert found.clusters.key == "leiden"
    assert found.find_class("louvain") is None
    with pytest.raises(WorkerError, match="its classes are leiden, scratchpad, sample"):
        found.cells_of("louvain-0")
    wire = found.for_wire()
    assert wire.find_class("louvain") is wire.find_class("leiden")
    assert wire.cells_of("louvain-1").tolist() == found.cells_of("leiden-1").tolist() == [0, 4]
    assert CellSets.parse(found.encode()).clusters.key == "leiden"


def test_a_column_louvain_that_is_not_in_use_answers_to_its_name_on_the_wire_too():
    found = derive(leiden=labels("012012"), louvain=labels("xyxyxy")).for_wire()
    assert found.clusters.key == "leiden"
    assert sets(found, "louvain") == {"x": [3, 4, 7], "y": [0, 2, 9]}
    # Engine requests know the clusters in use as louvain, which cell types are told for.
    classes = found.by_platform_key()
    assert classes["louvain"] is found.clusters
    assert classes["louvain (column)"] is found.find_class("louvain")


def test_the_class_of_samples_is_named_after_its_column_and_answers_to_it():
    found = derive_cell_sets(IDS, {"donor": labels("ppqqrr"), "samples": labels("ppqqrr")}, None, samples="donor")
    samples = found.find_class("donor")
    assert (samples.key, samples.name, samples.column) == ("sample", "Samples (donor)", "donor")
    assert [item.key for item in found.classes] == ["all cells", "scratchpad", "sample"]
    assert found.cells_of("donor-q").tolist() == found.cells_of("sample-q").tolist() == [3, 9]
    rest = resolve_comparison(found, cell_set="donor-q", compare_with="rest", basis=None).background
    assert rest.tolist() == [0, 2, 4, 7]
