"""Matrices of BPCells in every form, and the operations that objects put on them."""

import importlib.util
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.bpcells import layer
from cellworker.formats.bpcells.layer import read_disk_backed
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds.build import dgc_matrix, doubles, integers, logicals, named_list, strings
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RS4, RList
from cellworker.formats.r.rds.writer import write_rds
from cellworker.settings import Settings

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bpcells"
COUNTS = np.random.default_rng(4).poisson(0.3, (70, 50)).astype(np.uint32)


def peers_values() -> np.ndarray:
    spec = importlib.util.spec_from_file_location("bpcells_fixture", FIXTURES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.values()


def peers_files(order: str) -> dict[str, bytes]:
    content = zstandard.decompress((FIXTURES / "peer.tar.zst").read_bytes(), max_output_size=1 << 24)
    import io

    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [member for member in archive.getmembers() if member.name.startswith(f"{order}/")]
        return {member.name.split("/")[1]: archive.extractfile(member).read() for member in members}


def dense(draft) -> np.ndarray:
    """cells x genes"""
    out = np.zeros((len(draft.indptr) - 1, draft.n_columns), np.float64)
    rows = np.repeat(np.arange(len(out)), np.diff(draft.indptr))
    out[rows, draft.columns] = draft.values
    return out


@pytest.fixture
def evaluate(tmp_path):
    """Reads a tree whose matrices lie in ``tmp_path``; returns cells x genes."""

    def evaluated(tree: RS4, folder: Path = tmp_path) -> np.ndarray:
        spool = tmp_path / "spool"
        spool.mkdir(exist_ok=True)
        findings = Findings()
        try:
            return dense(read_disk_backed(tree, Outside(folder, spool, Limits()), "layer", findings, Scratch(spool)))
        except PartBrokenError:
            findings.raise_errors()
            raise

    return evaluated


# ---- forms ----


@pytest.mark.parametrize("order", ["col", "row"])
def test_what_the_package_itself_wrote_is_read(bp, evaluate, tmp_path, order):
    bp.folder(tmp_path / "matrix_dir", peers_files(order))
    counts = peers_values()
    found = evaluate(bp.directory(counts.shape, turned=order == "row"))
    assert np.array_equal(found, counts.T.astype(np.float32))
    assert counts.max() > 2**26


@pytest.mark.parametrize("order", ["col", "row"])
def test_the_writer_of_these_tests_writes_what_the_package_writes(bp, order):
    assert bp.files(peers_values(), row_major=order == "row") == peers_files(order)


@pytest.mark.parametrize("row_major", [False, True])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("kind", ["uint", "float", "double"])
def test_every_form_is_read(bp, evaluate, tmp_path, kind, is_packed, version, row_major):
    values = COUNTS if kind == "uint" else COUNTS * 0.37
    files = bp.files(values, kind=kind, is_packed=is_packed, version=version, row_major=row_major)
    bp.folder(tmp_path / "matrix_dir", files)
    found = evaluate(bp.directory(values.shape, turned=row_major))
    assert np.array_equal(found, values.T.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 400), columns=st.integers(1, 12), seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 32),
    density=st.sampled_from([0.0, 0.05, 0.9]), row_major=st.booleans(), block=st.sampled_from([1, 100, 1 << 21]),
)  # fmt: skip
def test_any_numbers_come_back(bp, tmp_path_factory, rows, columns, seed, bits, density, row_major, block):
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, 2**bits, (rows, columns)) * (rng.random((rows, columns)) < density)).astype(np.uint32)
    folder = tmp_path_factory.mktemp("any")
    bp.folder(folder / "matrix_dir", bp.files(values, row_major=row_major))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "_BLOCK", block)
        draft = read_disk_backed(
            bp.directory(values.shape, turned=row_major), Outside(folder, folder, Limits()), "x", Findings(), Scratch()
        )
    assert np.array_equal(dense(draft), values.T)


@pytest.mark.shared
def test_the_reference_folders_are_read(bp, shared, evaluate, tmp_path):
    with tarfile.open(shared / "golden" / "algorithms" / "bpcells_dirs.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    small = np.array([[0, 5], [2, 0], [1, 7]])
    assert np.array_equal(evaluate(bp.directory((3, 2), "/x/t")), small.T)
    assert np.array_equal(evaluate(bp.directory((3, 2), "/x/tr", turned=True)), small.T)
    assert evaluate(bp.directory((40, 30), "/x/md")).shape == (30, 40)


# ---- operations ----


def tree_of(bp, tmp_path, *, turned: bool = False) -> RS4:
    bp.folder(tmp_path / "matrix_dir", bp.files(COUNTS, row_major=turned))
    return bp.directory(COUNTS.shape, turned=turned)


@pytest.mark.parametrize("turned", [False, True])
def test_log_normalisation_is_carried_out_in_single_precision(bp, evaluate, tmp_path, turned):
    tree = bp.log_normalised(tree_of(bp, tmp_path, turned=turned), COUNTS, turned=turned)
    scaled = COUNTS / np.maximum(COUNTS.sum(axis=0), 1) * 1e4
    found = evaluate(tree)
    assert np.allclose(found, np.log1p(scaled).T, rtol=2e-7, atol=0)
    assert np.array_equal(found == 0, COUNTS.T == 0)


def test_selections_reorder_and_leave_out(bp, evaluate, tmp_path):
    rng = np.random.default_rng(8)
    genes, cells = rng.permutation(70)[:33], rng.permutation(50)[:21]
    slots = {"row_selection": integers(genes + 1), "col_selection": integers(cells + 1)}
    tree = bp.node("MatrixSubset", (33, 21), matrix=tree_of(bp, tmp_path), zero_dims=logicals([False, False]), **slots)
    assert np.array_equal(evaluate(tree), COUNTS[genes][:, cells].T)
    every = bp.node(
        "MatrixSubset", (70, 50), matrix=bp.directory(COUNTS.shape), row_selection=integers(np.zeros(0)),
        col_selection=integers(np.zeros(0)), zero_dims=logicals([False, False]),
    )  # fmt: skip
    assert np.array_equal(evaluate(bp.node("RenameDims", (70, 50), matrix=every)), COUNTS.T)


def test_a_transposed_selection_refers_to_the_matrix_on_disk(bp, evaluate, tmp_path):
    genes = np.array([5, 3, 60])
    tree = bp.node(
        "MatrixSubset", (3, 50), turned=True, matrix=tree_of(bp, tmp_path, turned=True),
        row_selection=integers(np.zeros(0)), col_selection=integers(genes + 1), zero_dims=logicals([False, False]),
    )  # fmt: skip
    assert np.array_equal(evaluate(tree), COUNTS[genes].T)


def test_matrices_are_bound_by_columns_and_rows(bp, evaluate, tmp_path):
    parts = [COUNTS[:, :20], COUNTS[:, 20:]]
    for i, part in enumerate(parts):
        bp.folder(tmp_path / f"sample{i}", bp.files(part))
    inner = RList([bp.directory(part.shape, f"/was/here/sample{i}") for i, part in enumerate(parts)])
    bound = bp.node("ColBindMatrices", COUNTS.shape, matrix_list=inner, threads=integers([0]))
    assert np.array_equal(evaluate(bound), COUNTS.T)
    stacked = bp.node(
        "RowBindMatrices", (140, 50), matrix_list=RList([bound, tree_of(bp, tmp_path)]), threads=integers([0])
    )
    assert np.array_equal(evaluate(stacked), np.vstack([COUNTS, COUNTS]).T)


def test_a_matrix_in_memory_takes_part(bp, evaluate):
    import scipy.sparse

    values = scipy.sparse.csc_matrix(COUNTS.astype(np.float64))
    inner = dgc_matrix(values.indptr, values.indices, values.data, 70)
    inner.slots["x"].values = inner.slots["x"].values.astype(np.float32)
    tree = bp.node("Iterable_dgCMatrix_wrapper", COUNTS.shape, mat=inner)
    assert np.array_equal(evaluate(tree), COUNTS.T)


def test_values_are_cut_squared_binarised_and_scaled(bp, evaluate, tmp_path):
    inner = tree_of(bp, tmp_path)
    shape = COUNTS.shape

    def of(name: str, **slots) -> np.ndarray:
        return evaluate(bp.node(name, shape, matrix=inner, **slots))

    limits = np.linspace(0.5, 3, 70)
    x = COUNTS.T.astype(np.float64)
    assert np.allclose(of("TransformMin", global_params=doubles([1.5])), np.minimum(x, 1.5))
    assert np.allclose(of("TransformMinByRow", row_params=bp.table(limits[None])), np.minimum(x, limits))
    per_cell = np.linspace(0.5, 3, 50)
    assert np.allclose(of("TransformMinByCol", col_params=bp.table(per_cell[None])), np.minimum(x, per_cell[:, None]))
    assert np.allclose(of("TransformSquare"), x**2)
    assert np.allclose(of("TransformPow", global_params=doubles([0.5])), np.sqrt(x))
    assert np.allclose(of("TransformExpm1"), np.expm1(x))
    assert np.allclose(of("TransformLog1pSlow"), np.log1p(x))
    assert np.array_equal(of("TransformBinarize", global_params=doubles([1, 1])), x > 1)
    assert np.array_equal(of("TransformBinarize", global_params=doubles([1, 0])), x >= 1)
    factors = np.linspace(1, 2, 70)
    assert np.allclose(evaluate(bp.scale(inner, shape, rows=factors, columns=per_cell, whole=3.0)),
                       x * factors * per_cell[:, None] * 3)  # fmt: skip
    halves = bp.scale(inner, shape, whole=0.5)
    assert np.array_equal(
        evaluate(bp.node("ConvertMatrixType", shape, matrix=halves, type=strings("uint32_t"))), np.floor(x / 2)
    )


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("SCTransformPearson", {}),
        ("MatrixMultiply", {}),
        ("MatrixMask", {}),
        ("TransformPow", {"global_params": doubles([-1])}),
        ("TransformMin", {"global_params": doubles([0])}),
        ("TransformBinarize", {"global_params": doubles([-1, 1])}),
        ("ConvertMatrixType", {"type": strings("int8")}),
        ("PackedMatrixMem_uint32_t", {}),
    ],
)
def test_any_other_operation_is_named(bp, evaluate, name, slots):
    with pytest.raises(WorkerError, match=f"operation {name}.*as\\(x, 'dgCMatrix'\\)") as caught:
        evaluate(bp.node(name, COUNTS.shape, matrix=bp.directory(COUNTS.shape), **slots))
    assert caught.value.code == ErrorCode.EXPERIMENT_UNSUPPORTED


def test_what_adds_to_zeros_is_refused(bp, evaluate):
    with pytest.raises(WorkerError, match="TransformScaleShift that adds to zeros"):
        evaluate(bp.scale(bp.directory(COUNTS.shape), COUNTS.shape, whole=1.0, shift=True))


# ---- experiments ----


@pytest.fixture
def stores(tmp_path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1, load_memory_gb=1.0, load_timeout_s=60.0)


@pytest.fixture
def disk_backed(bp, tmp_path, trees):
    """Writes an experiment whose counts and data lie in ``matrix_dir``; returns its folder."""

    def write(*, archived: bool, counts: np.ndarray = trees.counts) -> Path:
        folder = tmp_path / "experiment"
        folder.mkdir(exist_ok=True)
        genes_first = counts.T.astype(np.uint32)
        inner = bp.directory(genes_first.shape, "/data/abc/matrix_dir")
        layers = {"counts": bp.node("RenameDims", genes_first.shape, matrix=inner)}
        layers["data"] = bp.log_normalised(layers["counts"], genes_first)
        if not (folder / "r.rds").exists():
            write_rds(trees.seurat(assays=named_list({"RNA": trees.assay5(layers)})), folder / "r.rds")
        files = bp.files(genes_first)
        shutil.rmtree(folder / "matrix_dir", ignore_errors=True)
        if archived:
            bp.archive(folder / "matrix_dir.tar.zst", {f"matrix_dir/{name}": one for name, one in files.items()})
        else:
            bp.folder(folder / "matrix_dir", files)
        return folder

    return write


@pytest.mark.parametrize("archived", [True, False])
def test_an_experiment_with_its_matrix_in_another_file_is_served(disk_backed, trees, stores, archived):
    folder = disk_backed(archived=archived)
    before = sorted(folder.rglob("*"))
    opened = open_experiment(folder, stores)
    counts = opened.experiment.counts
    assert counts is not None
    assert sorted(folder.rglob("*")) == before  # nothing was unpacked there
    found = np.zeros(trees.counts.shape)
    cells = np.repeat(np.arange(len(found)), np.diff(counts.indptr))
    found[cells, counts.genes] = counts.values
    assert np.array_equal(found, trees.counts)
    assert open_experiment(folder, stores).store == opened.store


@pytest.mark.parametrize("ending", ["rds", "h5ad", "sce.rds", "h5"])
def test_a_conversion_tells_of_matrices_that_were_in_another_file(disk_backed, trees, tmp_path, stores, ending):
    report = convert(disk_backed(archived=False), tmp_path / f"out.{ending}", stores)
    lines = [*report.renamed, *report.lost]
    wanted = ["counts", "data"] if ending != "h5" else ["counts"]
    for name in wanted:
        found = [line for line in lines if line.startswith(f"assays/RNA/layers/{name}")]
        assert found or any(line.startswith("assays is ") for line in lines), lines
    if ending == "rds":
        assert [line for line in lines if "no longer in a folder of BPCells" in line] == [
            f"assays/RNA/layers/{name} is a matrix of the object, no longer in a folder of BPCells" for name in wanted
        ]
    again = open_experiment(tmp_path / f"out.{ending}", stores).experiment
    assert again.counts is not None
    assert sorted(np.asarray(again.counts.values).tolist()) == sorted(trees.counts[trees.counts != 0].tolist())


@pytest.mark.parametrize("archived", [True, False])
def test_a_changed_matrix_is_not_answered_from_an_old_store(disk_backed, trees, stores, archived):
    first = open_experiment(disk_backed(archived=archived), stores)
    second = open_experiment(disk_backed(archived=archived, counts=trees.counts * 2), stores)
    assert second.store != first.store
    assert second.experiment.counts.values.sum() == 2 * first.experiment.counts.values.sum()


def test_an_archive_that_appears_goes_before_the_folder(disk_backed, trees, stores):
    folder = disk_backed(archived=False)
    first = open_experiment(folder, stores)
    kept = folder.parent / "kept"
    (folder / "matrix_dir").rename(kept)
    disk_backed(archived=True, counts=trees.counts * 3)
    kept.rename(folder / "matrix_dir")
    assert open_experiment(folder, stores).experiment.counts.values.sum() == 3 * first.experiment.counts.values.sum()


def test_a_matrix_that_is_nowhere_is_asked_for(disk_backed, stores):
    folder = disk_backed(archived=False)
    shutil.rmtree(folder / "matrix_dir")
    with pytest.raises(WorkerError, match=r"no folder 'matrix_dir' beside the object.*matrix_dir\.tar\.zst"):
        open_experiment(folder, stores)


@pytest.mark.shared
def test_the_reference_object_is_served(shared, stores, evaluate):
    opened = open_experiment(shared / "data" / "bpcells" / "AML_BPCells.rds", stores)
    found = opened.experiment
    assert (found.n_cells, len(found.genes)) == (250, 462)
    assert found.origin.assay == "RNA"
    raw = np.fromfile(shared / "data/bpcells/AML_BPCells/RNA_data/val", "<f8", offset=8)
    assert np.isclose(found.data.values.astype(np.float64).sum(), raw.sum(), rtol=1e-6)
