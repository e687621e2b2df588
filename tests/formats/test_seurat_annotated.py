"""Writing objects back: what the survey finds, layers from folders, and objects that cannot be annotated."""

import hashlib
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RNull, RVector
from cellworker.formats.r.rds.reader import read_rds
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.write.annotated import LOOKING, write_annotated
from cellworker.formats.seurat.write.annotated_value import annotate_value, write_value
from cellworker.formats.seurat.write.annotation import Annotation, Embedding
from cellworker.formats.seurat.write.survey import survey_seurat
from cellworker.settings import Settings

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from builders import small_experiment  # noqa: E402

DENSE = np.array([[0, 1, 0], [2, 0, 5], [0, 0, 3], [1, 3, 0]], np.float32)
CELLS = ["CELL0-1", "CELL1-1", "CELL2-1", "CELL3-1"]
LABELS = Categorical(np.array([1, -1, 0, 1], np.int32), ["zero", "one"])
ANNOTATION = Annotation(
    {"seurat_clusters": LABELS, "custom_cellset-a": np.array([True, False, True, False])},
    "seurat_clusters",
    Embedding("umap", np.array([[1.0, 2], [3, 4], [5, 6], [np.nan, np.nan]])),
)


def sparse(indptr: list[int], rows: list[int], values: list[float]) -> RS4:
    return build.dgc_matrix(np.array(indptr), np.array(rows), np.array(values), 3)


def on_disk(name: str) -> RS4:
    """A matrix in a BPCells folder, as an object holds it."""
    inner = RS4("MatrixDir", "BPCells", {"dir": build.strings("/data/matrix_dir"), "type": build.strings(name)})
    return RS4("ConvertMatrixType", "BPCells", {"matrix": inner, "dim": build.integers([3, 4])})


def seurat(assays=None, table=None, **slots) -> RS4:
    layers = build.named_list({"counts": sparse([0, 1, 1], [0], [2.5]), "data": RNull()})
    plain = RS4("Assay5", "SeuratObject", {"layers": layers, "key": build.strings("rna_")})
    table = table or build.data_frame(
        {"seurat_clusters": build.factor(np.array([0, 0, 1, 1]), ["x", "y"]), "n": build.integers([1, 2, 3, 4])}, CELLS
    )
    return RS4(
        "Seurat",
        "SeuratObject",
        {
            "assays": assays or build.named_list({"RNA": plain}),
            "meta.data": table,
            "active.assay": build.strings("RNA"),
            "active.ident": build.factor(np.zeros(4, int), ["x"], CELLS),
            "graphs": RList([]),
            "reductions": RList([]),
            "misc": build.named_list({"levels": build.strings("z")}),
            **slots,
        },
    )


@pytest.fixture
def annotated(tmp_path):
    """Write an object to a file, annotate it, and read what comes out."""

    def run(root, annotation=ANNOTATION, **parts):
        source, target, spool = tmp_path / "r.rds", tmp_path / "out.rds", tmp_path / "spool"
        write_rds(root, source)
        spool.mkdir()
        key = hashlib.sha256(source.read_bytes()).hexdigest()
        experiment = small_experiment(DENSE, **({"key": key, "barcodes": CELLS} | parts))
        write_annotated(source, target, experiment, annotation)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.rds", "r.rds", "spool"]
        return read_rds(target, spool).root

    return run


def test_columns_identities_and_embedding_are_added_to_an_object_without_any(annotated):
    root = annotated(seurat())
    table = root.slots["meta.data"]
    assert table.names == ["n", "seurat_clusters", "custom_cellset-a"]
    assert table.get("seurat_clusters").tolist() == ["one", None, "zero", "one"]
    assert table.get("custom_cellset-a").values.tolist() == [1, 0, 1, 0]
    identities = root.slots["active.ident"]
    assert list(identities.attributes["levels"]) == ["one", "zero"]
    assert identities.values.tolist() == [1, -(2**31), 2, 1]
    assert root.slots["reductions"].names == ["umap"]
    assert list(root.slots["misc"].get("levels")) == ["z"]


def test_rows_are_matched_by_name_and_cells_of_other_assays_get_na(annotated):
    names = ["other", *reversed(CELLS)]
    table = build.data_frame({"n": build.integers(range(5))}, names)
    root = annotated(seurat(table=table))
    assert root.slots["meta.data"].get("seurat_clusters").tolist() == [None, "one", "zero", None, "one"]
    assert root.slots["meta.data"].get("custom_cellset-a").values.tolist() == [0, 0, 1, 0, 1]
    values = root.slots["reductions"].get("umap").slots["cell.embeddings"]
    np.testing.assert_array_equal(values.values[:5], [np.nan, np.nan, 5, 3, 1])
    assert values.attributes["dimnames"].items[0].tolist() == names


@pytest.mark.parametrize("count", [-4, 4])
def test_numbered_rows_are_in_the_cells_order(annotated, count):
    table = build.data_frame({"n": build.integers(range(4))}, n_rows=4)
    table.attributes["row.names"] = build.integers([build.NA_INTEGER, count])
    root = annotated(seurat(table=table))
    assert root.slots["meta.data"].get("seurat_clusters").tolist() == ["one", None, "zero", "one"]
    assert root.slots["active.ident"].attributes["names"].tolist() == CELLS


def test_without_clusters_or_embedding_those_stay(annotated):
    root = annotated(seurat(), Annotation({"samples": LABELS}))
    assert list(root.slots["active.ident"].attributes["levels"]) == ["x"]
    assert root.slots["reductions"].names == []
    assert root.slots["meta.data"].names == ["seurat_clusters", "n", "samples"]


def written_again(source: Path, tmp_path: Path):
    """Open a file, annotate it, and read what comes out."""
    experiment = open_experiment(source, Settings(store_dir=tmp_path / "store")).experiment
    annotation = Annotation({"custom_cellset-all": np.ones(experiment.n_cells, np.bool_)})
    write_annotated(source, tmp_path / "out.rds", experiment, annotation)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (tmp_path / "spool").mkdir()
    return experiment, read_rds(tmp_path / "out.rds", tmp_path / "spool").root


@pytest.mark.shared
def test_layers_in_bpcells_folders_are_written_into_the_object(shared, tmp_path):
    experiment, root = written_again(shared / "data/bpcells/AML_BPCells.rds", tmp_path)
    for assay in ("RNA", "AB"):
        layers = root.slots["assays"].get(assay).slots["layers"]
        assert {"counts", "data"} <= {*layers.names}
        for name, layer in layers.pairs():
            assert name == "scale.data" or (layer.class_name, layer.package) == ("dgCMatrix", "Matrix")
    data = root.slots["assays"].get("RNA").slots["layers"].get("data").slots
    np.testing.assert_array_equal(data["p"].values, experiment.data_by_cell.indptr)
    np.testing.assert_array_equal(data["i"].values, experiment.data_by_cell.genes)
    np.testing.assert_array_equal(data["x"].values, experiment.data_by_cell.values)
    assert root.slots["meta.data"].names[-1] == "custom_cellset-all"


def test_a_folder_that_is_not_there_is_reported(annotated):
    sketch = RS4("Assay5", "SeuratObject", {"layers": build.named_list({"counts": on_disk("uint32_t")})})
    with pytest.raises(WorkerError, match="assay sketch counts"):
        annotated(seurat(build.named_list({"sketch": sketch})))


@pytest.mark.shared
def test_a_qs_file_is_written_as_rds_without_its_code(shared, tmp_path):
    experiment, root = written_again(shared / "data/qs/pbmc3k_seurat.qs", tmp_path)
    assert (root.class_name, root.slots["meta.data"].names[-1]) == ("Seurat", "custom_cellset-all")
    values = root.slots["assays"].get("RNA").slots["data"].slots["x"]
    assert values.values.astype(np.float32).tolist() == np.asarray(experiment.data_by_cell.values).tolist()


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (RS4("seurat", "Seurat", {"meta.data": build.data_frame({}, CELLS)}), "object of class seurat"),
        (RList([]), "something else"),
        (seurat(table=build.data_frame({"n": build.integers([1])}, ["nobody"])), "not named like its 4 cells"),
        (seurat(table=build.data_frame({"n": build.integers([1, 2, 3])}, n_rows=3)), "3 rows"),
    ],
)
def test_objects_that_cannot_be_annotated_are_refused(annotated, tmp_path, root, said):
    with pytest.raises(WorkerError, match=said) as caught:
        annotated(root)
    assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED
    assert not (tmp_path / "out.rds").exists()


def test_a_file_of_another_content_is_refused(annotated):
    with pytest.raises(WorkerError, match="changed since") as caught:
        annotated(seurat(), key="0" * 64)
    assert caught.value.code is ErrorCode.EXPERIMENT_OUT_OF_DATE


def test_the_survey_passes_over_everything_and_finds_the_names(tmp_path):
    rna = RS4("Assay5", "SeuratObject", {"layers": build.named_list({"counts": on_disk("x"), "d": RList([])})})
    reductions = build.named_list({"pca": RS4("DimReduc", "SeuratObject", {"misc": RList([])}), "umap": RNull()})
    path = tmp_path / "r.rds"
    write_rds(seurat(build.named_list({"RNA": rna, "ADT": RNull()}), reductions=reductions), path)
    survey = survey_seurat(path)
    assert (survey.package, survey.assay, survey.reductions) == ("SeuratObject", "RNA", ["pca", "umap"])
    assert (survey.columns, survey.rows, survey.n_rows) == (["seurat_clusters", "n"], CELLS, 4)
    assert [(assay.name, assay.layers) for assay in survey.assays] == [
        ("RNA", [("counts", "BPCells"), ("d", "")]), ("ADT", []),
    ]  # fmt: skip


def test_a_survey_that_was_made_before_is_not_made_again_and_must_be_of_the_same_content(tmp_path):
    path, out = tmp_path / "r.rds", [tmp_path / "a.rds", tmp_path / "b.rds"]
    write_rds(seurat(), path)
    survey = survey_seurat(path)
    experiment = small_experiment(DENSE, key=hashlib.sha256(path.read_bytes()).hexdigest(), barcodes=CELLS)
    told: list[float] = []
    write_annotated(path, out[0], experiment, ANNOTATION)
    write_annotated(path, out[1], experiment, ANNOTATION, survey=survey, progress=told.append)
    assert out[0].read_bytes() == out[1].read_bytes()
    assert min(told) >= LOOKING
    write_rds(seurat(misc=RList([])), path)
    other = small_experiment(DENSE, key=hashlib.sha256(path.read_bytes()).hexdigest(), barcodes=CELLS)
    with pytest.raises(WorkerError, match="changed since"):
        write_annotated(path, tmp_path / "c.rds", other, ANNOTATION, survey=survey)


def test_memory_does_not_grow_with_the_object(tmp_path):
    path = tmp_path / "r.rds"
    n = 6_000_000
    heavy = np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float32, (n,))
    heavy[:] = np.arange(n) % 7
    write_rds(seurat(misc=RList([RVector(heavy, "double")])), path, level=1)
    experiment = small_experiment(DENSE, key=hashlib.sha256(path.read_bytes()).hexdigest(), barcodes=CELLS)
    tracemalloc.start()
    write_annotated(path, tmp_path / "out.rds", experiment, ANNOTATION, threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45e6  # of 48 MB: a few blocks of the compressor


# --- objects that were read as values ---


def test_a_value_is_annotated_as_its_file_is(annotated, tmp_path):
    reductions = build.named_list({"umap": RList([]), "pca": RList([build.doubles([1])])})
    root = seurat(reductions=reductions)
    streamed = annotated(root)
    changed = annotate_value(root, ANNOTATION, CELLS)
    write_value(changed, tmp_path / "value.rds")
    again = read_rds(tmp_path / "value.rds", tmp_path / "spool").root
    write_rds(streamed, tmp_path / "a.rds")
    write_rds(again, tmp_path / "b.rds")
    assert (tmp_path / "a.rds").read_bytes() == (tmp_path / "b.rds").read_bytes()
    assert root.slots["meta.data"].names == ["seurat_clusters", "n"]
    assert list(tmp_path.glob(".*")) == []


def test_a_value_without_the_parts_is_refused():
    with pytest.raises(WorkerError, match="class seurat"):
        annotate_value(RS4("seurat", "Seurat", {}), ANNOTATION, CELLS)
