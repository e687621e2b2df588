"""A store holds what was written, lets AnnData read it, and is there whole or not at all."""

import dataclasses
import os
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.count_layers import CountLayers
from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.model import Categorical, Dispersions, Genes, Misc, Origin, Reduction, TissueImage
from cellworker.experiment.store.store import open_store, write_store

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sparse(dense, *, zeros=False, shuffle=None, n_columns=None):
    """Compressed rows of a dense matrix; stored zeros and shuffled rows on demand."""
    columns, values, bounds = [], [], [0]
    for row in np.asarray(dense, np.float32):
        where = np.arange(len(row)) if zeros else np.flatnonzero(row != 0)
        if shuffle is not None:
            where = shuffle.permutation(where)
        columns.extend(where)
        values.extend(row[where])
        bounds.append(len(columns))
    width = np.asarray(dense).shape[1] if n_columns is None else n_columns
    return SparseDraft(np.array(bounds, np.int64), np.array(columns, np.int32), np.array(values, np.float32), width)


def draft_of(data, **parts):
    data = data if isinstance(data, SparseDraft) else sparse(data)
    n_cells, n_genes = len(data.indptr) - 1, data.n_columns
    genes = Genes(
        [f"ENSG{i}" for i in range(n_genes)],
        [f"name{i}" for i in range(n_genes)],
        [f"symbol{i}" for i in range(n_genes)],
    )
    ids = np.arange(n_cells, dtype=np.int32)[::-1] * 2
    return ExperimentDraft(ids, [f"AAAC-{i}" for i in range(n_cells)], genes, data, **parts)


def written(path, draft, **options):
    write_store(draft, path, key="k" * 64, **options)
    return open_store(path)


@pytest.mark.parametrize(("resident", "takes_more"), [(1 << 20, False), (6 * 210, False), (6 * 210 - 1, True)])
def test_what_is_claimed_and_what_is_given_back_are_counted_alike(tmp_path, monkeypatch, resident, takes_more):
    from cellworker.experiment.store import sorted_side as store_sorted

    monkeypatch.setattr(store_sorted, "_RESIDENT", resident)
    data = sparse(np.tri(20, 20), zeros=True)  # 400 entries are in the file, 210 of them are not 0
    told = []
    written(tmp_path / "a.h5ad", draft_of(data), claim=lambda *said: told.append(said))
    ((n_bytes, beside, spent),) = told
    assert beside == (6 * 210 if takes_more else 0)  # a gene in two bytes, a value in four
    assert 0 < n_bytes - beside <= (tmp_path / "a.h5ad").stat().st_size
    assert {id(array) for array in spent} == {id(data.columns), id(data.values)}


def test_columns_that_two_matrices_share_are_claimed_once(tmp_path):
    counts = sparse(np.tri(20, 20))
    values = np.arange(1, 211, dtype=np.float32)  # no count tells its value: both matrices are written
    data = SparseDraft(counts.indptr, counts.columns, values, counts.n_columns)
    told = []
    written(tmp_path / "a.h5ad", draft_of(data, counts=counts), claim=lambda *said: told.append(said))
    ((_, _, spent),) = told
    freed = {id(array) for array in (counts.columns, counts.values, data.values)}
    assert [len(spent), {id(array) for array in spent}] == [3, freed]


def dense_of(matrix):
    out = np.zeros((matrix.n_cells, matrix.n_genes), matrix.values.dtype)
    for row in range(matrix.n_cells):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        out[row, matrix.genes[entries]] = matrix.values[entries]
    return out


def same_bits(one, other):
    return np.array_equal(one, other, equal_nan=True)


special = st.sampled_from(
    [0.0, -0.0, 1.0, 1.0, 2.5, -3.0, 1e-42, -1e-45, 3.4e38, np.inf, -np.inf, np.nan, 255.0, 70000.0]
)
matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 9)),
    elements=st.one_of(special, st.floats(width=32)),
    fill=st.just(0.0),
)


@SLOW
@given(dense=matrices, zeros=st.booleans(), seed=st.none() | st.integers(0, 9))
def test_both_sides_hold_the_matrix_whatever_its_order(tmp_path, dense, zeros, seed):
    shuffle = None if seed is None else np.random.default_rng(seed)
    experiment = written(tmp_path / "a.h5ad", draft_of(sparse(dense, zeros=zeros, shuffle=shuffle)), threads=1)

    cells = experiment.data_by_cell
    assert same_bits(dense_of(cells), dense)
    assert not np.any(cells.values == 0)
    for row in range(cells.n_cells):
        assert np.all(np.diff(cells.genes[cells.indptr[row] : cells.indptr[row + 1]]) > 0)

    for gene in range(dense.shape[1]):
        stored = np.flatnonzero(dense[:, gene] != 0)
        order = stored[np.argsort(dense[stored, gene], kind="stable")]
        found_cells, found_values = experiment.data.gene(gene)
        assert np.array_equal(found_cells, order)
        assert same_bits(found_values, dense[order, gene])
        assert same_bits(experiment.data.dense(gene), dense[:, gene] + 0.0)


@pytest.mark.parametrize("n_cells", [30, 150, 700, 3000, 9000])
def test_genes_of_every_length_are_sorted(tmp_path, n_cells):
    random = np.random.default_rng(n_cells)
    dense = np.stack(
        [
            random.normal(size=n_cells),
            random.integers(1, 4, n_cells),
            random.lognormal(size=n_cells),
            np.full(n_cells, 2.5),
            random.normal(size=n_cells) * 10.0 ** random.integers(-44, 38, n_cells),
        ],
        axis=1,
    ).astype(np.float32)
    experiment = written(tmp_path / "a.h5ad", draft_of(dense))
    for gene in range(dense.shape[1]):
        stored = np.flatnonzero(dense[:, gene])
        order = stored[np.argsort(dense[stored, gene], kind="stable")]
        assert np.array_equal(experiment.data.gene(gene)[0], order)
        assert np.array_equal(experiment.data.gene(gene)[1], dense[order, gene])


def test_missing_values_come_last_whatever_their_sign_and_in_the_order_of_the_cells(tmp_path):
    column = np.array([np.inf, np.nan, -np.inf, -np.nan, 1, np.nan], np.float32)[:, None]
    cells, values = written(tmp_path / "a.h5ad", draft_of(column)).data.gene(0)
    assert cells.tolist() == [2, 4, 0, 1, 3, 5]
    assert np.isnan(values[3:]).all()


@pytest.fixture
def rich():
    """A draft with every part, and names that HDF5 does not take as they are."""
    random = np.random.default_rng(3)
    counts = random.poisson(0.6, (40, 25)).astype(np.float32)
    counts[7] = 0
    counts[:, 4] = 0
    counts[3, 3] = 300
    neighbours = (random.random((40, 40)) < 0.2) * random.random((40, 40))
    return draft_of(
        np.log1p(counts).astype(np.float32),
        counts=sparse(counts),
        scaled_genes=np.array([5, 0, 9], np.int32),
        scaled_values=np.asfortranarray(random.normal(size=(40, 3)).astype(np.float32)),
        metadata={
            "samples": Categorical(random.integers(-1, 3, 40).astype(np.int32), ["b", "a", "ü"]),
            "percent.mt": random.random(40),
            "n": random.integers(0, 9, 40),
            "is/doublet": random.random(40) < 0.5,
            "is_doublet": random.random(40) < 0.5,
            "cells_id": np.arange(40.0),
            "": np.zeros(40),
            "..": np.ones(40),
        },
        reductions={
            "pca": Reduction(random.normal(size=(40, 5)), "PC_"),
            "integrated/cca": Reduction(np.full((40, 2), np.nan), ""),
        },
        graphs={"RNA_snn": sparse(neighbours)},
        images={
            "slice/1": TissueImage(np.array([3, 3, 0], np.int32), random.normal(size=(3, 2)), 0.25),
            "empty": TissueImage(np.zeros(0, np.int32), np.zeros((0, 2))),
        },
        dispersions=Dispersions(["x", "y"], ["ENSG1", "ENSG0"], np.array([1.5, np.nan])),
        identities=Categorical(np.zeros(40, np.int32), ["0"]),
        misc=Misc(color_pool=["#ff0000", "#00ff00"], technology="10x", microns_per_pixel=0.5),
        origin=Origin(
            "own",
            writer="Seurat 5.0.2",
            fallbacks=["no cell ids: numbered"],
            count_layers=CountLayers([[0, 2], [-1, 1], [1, 1]], [0]),
        ),
        extra={"note": [1, 2]},
    )


def test_every_part_comes_back_as_it_was(tmp_path, rich):
    experiment = written(tmp_path / "a.h5ad", rich)
    assert experiment.key == "k" * 64
    assert (experiment.n_cells, experiment.n_genes) == (40, 25)
    assert np.array_equal(experiment.cell_ids, rich.cell_ids)
    assert experiment.barcodes == rich.barcodes
    assert experiment.genes == rich.genes
    assert list(experiment.metadata) == list(rich.metadata)
    for name, column in rich.metadata.items():
        found = experiment.metadata[name]
        if isinstance(column, Categorical):
            assert np.array_equal(found.codes, column.codes)
            assert found.categories == column.categories
        else:
            assert found.dtype == column.dtype
            assert np.array_equal(found, column)
    assert list(experiment.reductions) == ["pca", "integrated/cca"]
    assert experiment.reductions["pca"].key == "PC_"
    assert np.array_equal(experiment.reductions["pca"].values, rich.reductions["pca"].values)
    assert np.isnan(experiment.reductions["integrated/cca"].values).all()
    graph = experiment.graphs["RNA_snn"]
    assert np.array_equal(graph.cells, rich.graphs["RNA_snn"].columns)
    assert np.array_equal(graph.weights, rich.graphs["RNA_snn"].values)
    assert list(experiment.images) == ["slice/1", "empty"]
    for name, image in rich.images.items():
        assert np.array_equal(experiment.images[name].cells, image.cells)
        assert np.array_equal(experiment.images[name].points, image.points)
        assert experiment.images[name].scale == image.scale
    assert np.array_equal(experiment.scaled.genes, rich.scaled_genes)
    assert np.array_equal(experiment.scaled.values, rich.scaled_values)
    assert experiment.dispersions.names == ["x", "y"]
    assert experiment.dispersions.ids == ["ENSG1", "ENSG0"]
    assert np.array_equal(experiment.dispersions.dispersions, [1.5, np.nan], equal_nan=True)
    assert experiment.identities.categories == ["0"]
    assert experiment.misc == rich.misc
    assert experiment.origin == rich.origin
    assert experiment.extra == {"note": [1, 2]}
    assert "nothing" not in experiment.metadata
    with pytest.raises(ValueError, match="read-only"):
        experiment.cell_ids[0] = 1


def test_an_experiment_without_the_optional_parts_says_so(tmp_path):
    experiment = written(tmp_path / "a.h5ad", draft_of(np.zeros((2, 3))))
    assert experiment.counts is None
    assert experiment.scaled is None
    assert experiment.dispersions is None
    assert experiment.identities is None
    assert experiment.counts_summary is None
    assert experiment.data.indptr.tolist() == [0, 0, 0, 0]


def test_anndata_opens_the_file_and_sees_the_same(tmp_path, rich):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say while they are imported
        import anndata

    path = tmp_path / "a.h5ad"
    experiment = written(path, rich)
    found = anndata.read_h5ad(path)
    expected = dense_of(experiment.data_by_cell)
    assert np.array_equal(found.X.toarray(), expected)
    assert np.array_equal(found.layers["counts"].toarray(), dense_of(experiment.counts))
    assert found.obs_names.tolist() == rich.barcodes
    assert found.var_names.tolist() == rich.genes.ids
    assert found.var["name"].tolist() == rich.genes.names
    assert found.var["original_name"].tolist() == rich.genes.original_names
    assert found.obs["cells_id"].tolist() == rich.cell_ids.tolist()
    samples = rich.metadata["samples"]
    assert found.obs["samples"].cat.categories.tolist() == samples.categories
    assert found.obs["samples"].cat.codes.tolist() == samples.codes.tolist()
    assert found.obs["is_doublet"].tolist() == rich.metadata["is/doublet"].tolist()
    assert found.obs["is_doublet_1"].tolist() == rich.metadata["is_doublet"].tolist()
    assert found.obs["percent.mt"].tolist() == rich.metadata["percent.mt"].tolist()
    assert np.array_equal(found.obsm["X_pca"], rich.reductions["pca"].values)
    assert np.array_equal(found.obsm["scaled"], rich.scaled_values)
    assert found.obsp["RNA_snn"].nnz == len(rich.graphs["RNA_snn"].values)
    assert found.uns["gene_dispersion"]["dispersion"].tolist()[0] == 1.5
    assert found.uns["misc"]["color_pool"].tolist() == ["#ff0000", "#00ff00"]
    assert found.uns["origin"]["writer"] == "Seurat 5.0.2"
    assert found.uns["cellworker"]["reductions"]["reduction1"] == "integrated/cca"


def test_counts_share_the_index_arrays_of_the_data_where_they_can(tmp_path, rich):
    path = tmp_path / "a.h5ad"
    experiment = written(path, rich)
    assert np.shares_memory(experiment.counts.genes, experiment.data_by_cell.genes)
    with h5py.File(path) as file:
        assert "by_cell" not in file["layers"]  # counts tell the values
        assert file["layers/counts/indices"].dtype == np.uint16

    other = np.random.default_rng(4).poisson(0.6, (40, 25)).astype(np.float32)
    rich.counts = sparse(other, zeros=True)
    experiment = written(path, rich)
    assert not np.shares_memory(experiment.counts.genes, experiment.data_by_cell.genes)
    assert np.array_equal(dense_of(experiment.counts), other)


def test_sharing_is_found_through_zeros_and_disorder(tmp_path, rich):
    counts = np.array([[0, 2, 3], [4, 0, 1]], np.float32)
    draft = draft_of(counts * 0.5, counts=sparse(counts, zeros=True, shuffle=np.random.default_rng(0)))
    experiment = written(tmp_path / "a.h5ad", draft)
    assert np.shares_memory(experiment.counts.genes, experiment.data_by_cell.genes)
    assert np.array_equal(dense_of(experiment.counts), counts)


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [
        (255, "u1"),
        (256, "u2"),
        (65535, "u2"),
        (65536, "u4"),
        (2**32 - 256, "u4"),
        (2**32, "f4"),
        (0.5, "f4"),
        (-1, "f4"),
        (np.nan, "f4"),
    ],
)
def test_counts_take_the_smallest_type_that_holds_them(tmp_path, largest, dtype):
    counts = np.array([[1, largest]], np.float32)
    experiment = written(tmp_path / "a.h5ad", draft_of(counts, counts=sparse(counts)))
    assert experiment.counts.values.dtype == np.dtype(dtype)
    assert np.array_equal(dense_of(experiment.counts).astype(np.float32), counts, equal_nan=True)


def test_the_summary_reports_what_the_values_are(tmp_path):
    values = np.array([[np.nan, -np.inf, np.inf], [-1.5, -2.0, -0.0], [8388609.0, 0.25, 3e38]], np.float32)
    summary = written(tmp_path / "a.h5ad", draft_of(sparse(values, zeros=True))).data_summary
    assert (summary.stored, summary.kept, summary.nan, summary.infinite) == (9, 8, 1, 2)
    assert (summary.negative, summary.fractional) == (3, 2)
    assert (summary.smallest, summary.largest) == (-np.inf, np.inf)
    empty = written(tmp_path / "b.h5ad", draft_of(np.full((1, 1), np.nan, np.float32))).data_summary
    assert (empty.smallest, empty.largest, empty.negative) == (np.inf, -np.inf, 0)


def test_the_bytes_depend_neither_on_threads_nor_on_blocks(tmp_path, monkeypatch):
    from cellworker.experiment.store import levels as store_levels
    from cellworker.experiment.store import rows as store_rows
    from cellworker.experiment.store import sorted_side as store_sorted

    random = np.random.default_rng(0)
    counts = random.poisson(1.0, (500, 300)).astype(np.float32)
    data = sparse(np.log1p(counts), zeros=True, shuffle=random)
    draft = draft_of(data, counts=sparse(counts), metadata={"s": Categorical(np.zeros(500, np.int32), ["s"])})
    contents = []
    for threads, block, resident in [(1, 1 << 20, 1 << 20), (2, 1000, 1 << 20), (3, 77, 10), (1, 500, 10)]:
        monkeypatch.setattr(store_levels, "_BLOCK", block)
        monkeypatch.setattr(store_rows, "_BLOCK", block)
        monkeypatch.setattr(store_sorted, "_RESIDENT", resident)
        monkeypatch.setattr(store_sorted, "_SHELF", 20 * block)
        monkeypatch.setattr(store_sorted, "_SPLIT_ROWS", 7 * block)
        monkeypatch.setattr(store_sorted, "_MIN_BLOCK", block)
        monkeypatch.setattr(store_sorted, "_ENTRIES_PER_CELL", 0)
        written(tmp_path / "a.h5ad", draft, threads=threads)
        contents.append((tmp_path / "a.h5ad").read_bytes())
    assert all(content == contents[0] for content in contents)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5ad"]


def test_memory_does_not_grow_with_the_matrix(tmp_path, monkeypatch):
    from cellworker.analysis.matrices import gene_sorter, sorting
    from cellworker.experiment.store import levels as store_levels
    from cellworker.experiment.store import rows as store_rows
    from cellworker.experiment.store import sorted_side as store_sorted

    for module in (sorting, gene_sorter):
        monkeypatch.setattr(module, "paged", np.empty)  # which is counted
    for module, name, value in [
        (store_levels, "_BLOCK", 1 << 14),
        (store_rows, "_BLOCK", 1 << 14),
        (store_sorted, "_MIN_BLOCK", 1 << 14),
        (store_sorted, "_ENTRIES_PER_CELL", 1),
        (store_sorted, "_SPLIT_ROWS", 1 << 14),
        (store_sorted, "_SHELF", 1 << 18),
    ]:
        monkeypatch.setattr(module, name, value)
    n_cells, n_genes = 2000, 500
    columns = np.tile(np.arange(n_genes, dtype=np.int32)[::-1], n_cells)
    values = np.arange(n_cells * n_genes, dtype=np.float32) % 7
    draft = draft_of(SparseDraft(np.arange(n_cells + 1, dtype=np.int64) * n_genes, columns, values, n_genes))
    draft.counts = draft.data
    write_store(draft, tmp_path / "warm.h5ad", key="k")
    for resident in (1 << 30, 0):
        monkeypatch.setattr(store_sorted, "_RESIDENT", resident)
        tracemalloc.start()
        write_store(draft, tmp_path / "a.h5ad", key="k")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < columns.nbytes // 2


def test_long_and_strange_strings_come_back(tmp_path):
    draft = draft_of(np.ones((2000, 2)))
    draft.barcodes = ["x" * 100_000, "", "ü\udcff"] + ["short"] * 1997
    draft.genes = Genes(["a", "b\0c"], ["", ""], ["é", "日本"])
    experiment = written(tmp_path / "a.h5ad", draft)
    assert experiment.barcodes == ["x" * 100_000, "", "ü?"] + ["short"] * 1997
    assert (tmp_path / "a.h5ad").stat().st_size < 1_000_000
    assert experiment.genes == Genes(["a", "bc"], ["", ""], ["é", "日本"])


def with_columns(columns):
    return SparseDraft(np.array([0, 2], np.int64), np.array(columns, np.int32), np.ones(2, np.float32), 3)


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (with_columns([0, 3]), "row 0 names a column outside 0 to 2"),
        (with_columns([-1, 2]), "row 0 names a column outside 0 to 2"),
        (with_columns([1, 1]), "row 0 names the same column twice"),
        (dataclasses.replace(with_columns([0, 1]), indptr=np.array([0, 3], np.int64)), "row bounds"),
        (dataclasses.replace(with_columns([0, 1]), indptr=np.array([1, 2], np.int64)), "row bounds"),
        (dataclasses.replace(with_columns([0, 1]), values=np.ones(1, np.float32)), "row bounds"),
        (SparseDraft(np.array([0, 2, 1, 2], np.int64), np.zeros(2, np.int32), np.ones(2, np.float32), 3), "row bounds"),
        (
            SparseDraft(np.array([0, 4], np.int64), np.zeros(4, np.int32), np.ones(4, np.float32), 3),
            "same column twice",
        ),
    ],
)
@pytest.mark.parametrize("part", ["data", "counts", "graph"])
def test_a_broken_matrix_is_refused_by_name_and_nothing_is_left(tmp_path, matrix, sentence, part):
    n_cells = len(matrix.indptr) - 1
    draft = draft_of(np.ones((n_cells, 3)))
    if part == "data":
        draft.data = matrix
    elif part == "counts":
        draft.counts = matrix
    else:
        n_cells = 3
        padded = np.concatenate([matrix.indptr, np.full(4 - len(matrix.indptr), matrix.indptr[-1])])
        draft = draft_of(np.ones((3, 3)), graphs={"RNA_nn": dataclasses.replace(matrix, indptr=padded)})
    with pytest.raises(WorkerError, match=sentence) as error:
        write_store(draft, tmp_path / "a.h5ad", key="k")
    assert error.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    assert {"data": "the normalised data", "counts": "the counts", "graph": "the graph RNA_nn"}[
        part
    ] in error.value.message
    assert list(tmp_path.iterdir()) == []


def test_parts_that_do_not_fit_each_other_are_all_named(tmp_path, rich):
    rich.barcodes = rich.barcodes[:-1]
    rich.metadata = {"s": Categorical(np.full(40, 3, np.int32), ["a"])}
    rich.scaled_genes = np.array([0, 1, 99], np.int32)
    with pytest.raises(WorkerError) as error:
        write_store(rich, tmp_path / "a.h5ad", key="k")
    for words in ("the barcodes: 39 entries, expected 40", "the metadata column s", "the scaled data"):
        assert words in error.value.message


def test_a_failure_in_the_middle_leaves_the_old_store_and_no_rubbish(tmp_path, rich):
    path = tmp_path / "a.h5ad"
    written(path, rich)
    before = path.read_bytes()

    def stop(stage, fraction=None):
        assert 0 <= fraction <= 1
        if stage == "sorting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(rich, path, key="other", progress=stop)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path, rich):
    pytest.importorskip("resource")
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[2]); import test_store as t, numpy as np\n"
        "from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: t.write_store(t.draft_of(np.ones((300, 300))), Path(sys.argv[1], 'a.h5ad'), key='k')\n"
        "except t.WorkerError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("DISK_FULL: there is no room for the store a.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_store_is_refused_with_one_sentence(tmp_path, rich):
    path = tmp_path / "a.h5ad"
    written(path, rich)
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.h5ad"
    with h5py.File(foreign, "w") as file:
        file["X"] = np.zeros(3)
    damaged = {
        "cut": whole[:-1],
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "longer": whole + b"\0",
        "no hdf5": b"\0" + whole[1:],
        "index": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        "version": whole[:-48] + b"\xff" + whole[-47:],
        "foreign": foreign.read_bytes(),
    }
    for name, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(WorkerError, match="open the experiment again") as error:
            open_store(path)
        assert error.value.code == ErrorCode.EXPERIMENT_UNREADABLE, name
    with pytest.raises(WorkerError) as error:
        open_store(tmp_path / "none.h5ad")
    assert error.value.code == ErrorCode.EXPERIMENT_NOT_FOUND


def test_arrays_outside_the_file_are_refused(tmp_path):
    from cellworker.experiment.store.index import ArrayPlace, append_index, read_index

    for place in [
        ArrayPlace(8, "<i4", (1000,)),
        ArrayPlace(-8, "<i4", (1,)),
        ArrayPlace(8, "<i4", (-1,)),
        ArrayPlace(8, "|O", (0,)),
    ]:
        path = tmp_path / "a"
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
        descriptor = os.open(path, os.O_RDWR)
        append_index(descriptor, {"a": place}, {})
        with pytest.raises(WorkerError, match="cannot be used"):
            read_index(descriptor, path)
        os.close(descriptor)


def test_a_store_opens_without_the_hdf5_library(tmp_path, rich):
    path = tmp_path / "a.h5ad"
    written(path, rich)
    script = (
        "import sys; from pathlib import Path; from cellworker.experiment.store.store import open_store\n"
        "e = open_store(Path(sys.argv[1])); e.data, e.counts, e.genes, e.barcodes, dict(e.metadata)\n"
        "assert 'h5py' not in sys.modules; print(e.n_cells)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "40\n"


def test_every_flipped_byte_is_found(tmp_path, rich):
    from cellworker.experiment.store import checksums

    path = tmp_path / "a.h5ad"
    stored = written(path, rich)
    assert stored.damage() is None
    whole = path.read_bytes()
    for place in range(0, stored._index.data_bytes, max(1, len(whole) // 97)):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([whole[place] ^ 0x10]))
        assert "are not what was written" in stored.damage(), place
        with path.open("r+b") as file:
            file.seek(place)
            file.write(whole[place : place + 1])
    assert stored.damage() is None
    assert len(stored._index.checksums) == -(-stored._index.data_bytes // checksums.BLOCK_BYTES)


def test_a_store_cut_short_is_found_and_not_touched(tmp_path, rich):
    path = tmp_path / "a.h5ad"
    stored = written(path, rich)
    assert stored.is_whole
    os.truncate(path, 4096)
    assert not stored.is_whole
    assert "cut short" in stored.damage()


def test_a_store_that_was_replaced_is_not_in_place_but_whole(tmp_path, rich):
    path = tmp_path / "a.h5ad"
    stored = written(path, rich)
    written(path, draft_of(np.eye(3)))
    assert not stored.is_in_place
    assert stored.damage() is None


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 24])
def test_checksums_are_those_of_zlib_for_any_length_and_threads(tmp_path, size, monkeypatch):
    import zlib

    from cellworker.experiment.store import checksums

    monkeypatch.setattr(checksums, "BLOCK_BYTES", 8)
    content = bytes(range(1, size + 1))
    path = tmp_path / "a"
    path.write_bytes(content + b"more")
    descriptor = os.open(path, os.O_RDONLY)
    wanted = [zlib.crc32(content[i : i + 8]) for i in range(0, size, 8)]
    for threads in (1, 3):
        assert checksums.block_checksums(descriptor, size, threads).tolist() == wanted
    assert checksums.first_damage(descriptor, size, np.array(wanted, np.uint32)) is None
    assert checksums.first_damage(descriptor, size + 9, np.array([*wanted, 0, 0], np.uint32)) is not None
    os.close(descriptor)


def test_an_open_store_holds_a_lock_until_its_last_array_is_freed(tmp_path, rich):
    import fcntl

    path = tmp_path / "a.h5ad"

    def is_locked():
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    stored = written(path, rich)
    assert is_locked()
    values = stored.data_by_cell.values
    del stored
    assert is_locked()
    del values
    assert not is_locked()
