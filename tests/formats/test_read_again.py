"""Whatever we write, we read again, equal: any object, every pair of formats, conversions and downloads."""

import gzip
import shutil
import struct
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.formats.anndata_files import CONTAINERS, write

from cellworker.errors import WorkerError
from cellworker.experiment.model import Categorical, Experiment
from cellworker.formats.convert.converting import convert, write_annotated_copy
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RVector
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.write.annotated import write_annotated
from cellworker.formats.seurat.write.annotation import Annotation, Embedding
from cellworker.settings import Settings

NA = -(2**31)
KINDS = ("rds", "h5ad", "zarr")
MAKING = st.sampled_from((False, False, False, True))
"""Whether what a file lacks is made: each making costs more than all the rest of an example."""
WRITTEN = (*KINDS, "sce.rds")
"""What conversions write, but for a matrix of 10x, which holds less."""


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6
).filter(lambda name: name.strip() == name)  # fmt: skip


@dataclass
class Made:
    """An object in the making: what it holds, cells x genes."""

    cells: list[str]
    genes: list[str]
    data: NDArray[np.float64]
    counts: NDArray[np.float64] | None
    columns: dict[str, Any]
    embedding: NDArray[np.float64]
    assay: str
    spatial: bool
    graph: bool


@st.composite
def objects(draw: st.DrawFn) -> Made:
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cells = draw(st.lists(NAMES, min_size=n, max_size=n, unique=True))
    genes = draw(st.lists(st.sampled_from(["A_1", "A-1", "G", "G", "H|x", "\N{GREEK SMALL LETTER BETA}2m"]) | NAMES,
                          min_size=m, max_size=m))  # fmt: skip
    counts = rng.poisson(1.5, (n, m)).astype(np.float64)
    kind = draw(st.sampled_from(["log", "negative", "whole", "zeros", "large"]))
    data = {
        "log": np.log1p(counts), "negative": np.round(rng.normal(size=(n, m)), 3), "whole": counts + 1,
        "zeros": np.zeros((n, m)), "large": counts * 1e3 + 0.5,
    }[kind]  # fmt: skip
    integrated = kind == "negative" and draw(st.booleans())
    columns: dict[str, Any] = {}
    for number, what in enumerate(draw(st.lists(st.sampled_from(COLUMNS), max_size=4))):
        columns[draw(st.sampled_from([f"c{number}", f"c {number}/x", f"\N{SNOWMAN}{number}"]))] = (what, rng)
    return Made(
        cells=cells,
        genes=genes,
        data=data.astype(np.float32).astype(np.float64),
        counts=counts if not integrated and draw(st.booleans()) else None,
        columns=columns,
        embedding=np.round(rng.normal(size=(n, 2)), 3),
        assay="integrated" if integrated else draw(st.sampled_from(["RNA", "Spatial"])),
        spatial=draw(st.booleans()),
        graph=draw(st.booleans()),
    )


COLUMNS = ("labels", "ordered", "empty", "whole", "gaps", "real", "truth", "maybe", "text", "day", "na_level")


def column(what: str, rng: np.random.Generator, n: int) -> Any:
    """Make one column of ``meta.data``."""
    codes = rng.integers(-1, 2, n)
    if what in {"labels", "ordered", "empty", "na_level"}:
        levels = ["b", None if what == "na_level" else "a", "unused"]
        values = np.full(n, NA) if what == "empty" else np.where(codes < 0, NA, codes + 1)
        classes = ["ordered", "factor"] if what == "ordered" else ["factor"]
        return RVector(values.astype(np.int32), "integer",
                       {"levels": build.strings(levels), "class": build.strings(classes)})  # fmt: skip
    if what in {"whole", "gaps"}:
        values = rng.integers(-5, 5, n)
        return RVector(np.where((codes < 0) & (what == "gaps"), NA, values).astype(np.int32), "integer")
    if what == "real":
        return build.doubles(np.where(codes < 0, np.nan, rng.normal(size=n)))
    if what in {"truth", "maybe"}:
        return RVector(np.where((codes < 0) & (what == "maybe"), NA, codes > 0).astype(np.int32), "logical")
    if what == "day":
        return RVector(np.where(codes < 0, np.nan, 19_000.0 + rng.integers(0, 9, n)), "double",
                       {"class": build.strings("Date")})  # fmt: skip
    return build.strings([None if code < 0 else f"t{code}\N{SNOWMAN}" for code in codes.tolist()])


def sparse(dense: NDArray[np.float64], rows: list[str], columns: list[str]) -> RS4:
    cells, genes = np.nonzero(dense)
    indptr = np.searchsorted(cells, np.arange(len(dense) + 1)).astype(np.int32)
    return build.dgc_matrix(indptr, genes.astype(np.int32), dense[cells, genes], dense.shape[1], row_names=rows,
                            column_names=columns)  # fmt: skip


def seurat(made: Made) -> RS4:
    n = len(made.cells)
    empty = build.matrix(np.zeros((0, 0)))
    assay = RS4("Assay", "SeuratObject", {
        "counts": sparse(made.counts, made.genes, made.cells) if made.counts is not None else empty,
        "data": sparse(made.data, made.genes, made.cells), "scale.data": empty, "key": build.strings("rna_"),
    })  # fmt: skip
    columns = {name: column(what, rng, n) for name, (what, rng) in made.columns.items()}
    pca = RS4("DimReduc", "SeuratObject", {
        "cell.embeddings": build.matrix(made.embedding, made.cells, ["PC_1", "PC_2"]), "key": build.strings("PC_"),
    })  # fmt: skip
    places = build.data_frame({"x": build.doubles(range(n)), "y": build.doubles(range(n)),
                               "cells": build.strings(made.cells)}, made.cells)  # fmt: skip
    image = RS4("SlideSeq", "Seurat", {"coordinates": places, "assay": build.strings("Spatial")})
    graph = sparse(np.eye(n) + np.eye(n, k=1), made.cells, made.cells)
    return RS4("Seurat", "SeuratObject", {
        "assays": build.named_list({made.assay: assay}), "meta.data": build.data_frame(columns, made.cells),
        "active.assay": build.strings(made.assay),
        "active.ident": build.factor(np.zeros(n, np.int64), ["only"], made.cells),
        "graphs": build.named_list({"nn": graph}) if made.graph else RList([]),
        "reductions": build.named_list({"pca": pca}),
        "images": build.named_list({"slice \N{SNOWMAN}/1": image}) if made.spatial else RList([]),
        "project.name": build.strings("p"), "misc": RList([]), "version": build.package_version("4.1.3"),
    })  # fmt: skip


def same_values(one: Any, other: Any) -> bool:
    if isinstance(one, Categorical):
        return (
            isinstance(other, Categorical)
            and one.categories == other.categories
            and np.array_equal(one.codes, other.codes)
        )
    return (
        not isinstance(other, Categorical)
        and one.dtype == other.dtype
        and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )


def assert_same(one: Experiment, other: Experiment, *, without: frozenset[str] = frozenset({"cells_id"})) -> None:
    assert one.barcodes == other.barcodes
    assert one.genes.names == other.genes.names
    assert one.cell_ids.tolist() == other.cell_ids.tolist()
    for name in ("data_by_cell", "counts"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert first.indptr.tolist() == second.indptr.tolist(), name
            assert first.genes.tolist() == second.genes.tolist(), name
            np.testing.assert_array_equal(np.asarray(first.values), np.asarray(second.values), name)
    metadata = {name: item for name, item in other.metadata.items() if name not in without}
    names = {name.replace("/", "_"): item for name, item in one.metadata.items() if name not in without}
    assert names.keys() == {name.replace("/", "_") for name in metadata}
    for name, item in metadata.items():
        assert same_values(names[name.replace("/", "_")], item), name
    assert one.reductions.keys() == other.reductions.keys()
    for name, reduction in one.reductions.items():
        np.testing.assert_array_equal(reduction.values, other.reductions[name].values)
        assert reduction.key == other.reductions[name].key
    assert one.graphs.keys() == other.graphs.keys()
    for name, graph in one.graphs.items():
        assert graph.indptr.tolist() == other.graphs[name].indptr.tolist()
        assert graph.cells.tolist() == other.graphs[name].cells.tolist()
        assert graph.weights.tolist() == other.graphs[name].weights.tolist()
    assert list(one.images) == list(other.images)
    for name, image in one.images.items():
        assert image.cells.tolist() == other.images[name].cells.tolist()
        assert image.points.tolist() == other.images[name].points.tolist()
        assert image.scale == other.images[name].scale
        assert (image.pixels is None) == (other.images[name].pixels is None)
        if image.pixels is not None:
            np.testing.assert_array_equal(image.pixels, other.images[name].pixels)
    assert (one.identities is None) == (other.identities is None)
    if one.identities is not None and other.identities is not None:
        assert same_values(one.identities, other.identities)
    assert one.dispersions is not None
    assert other.dispersions is not None
    np.testing.assert_array_equal(one.dispersions.dispersions, other.dispersions.dispersions)
    assert one.misc == other.misc


@pytest.mark.usefixtures("in_process")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=objects(), first=st.sampled_from(WRITTEN), second=st.sampled_from(WRITTEN), making=MAKING)
def test_any_object_goes_through_any_two_formats(made, first, second, making):
    folder = Path(tempfile.mkdtemp())
    try:
        stores = Settings(store_dir=folder / "stores", threads=1, make_missing=making)
        source = folder / "in.rds"
        write_rds(seurat(made), source)
        convert(source, folder / f"one.{first}", stores)
        convert(folder / f"one.{first}", folder / f"two.{second}", stores)
        opened = open_experiment(source, stores).experiment
        for path in (folder / f"one.{first}", folder / f"two.{second}"):
            assert_same(opened, open_experiment(path, stores).experiment)
    finally:
        shutil.rmtree(folder)


@pytest.mark.usefixtures("in_process")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=objects(), between=st.sampled_from(KINDS), kind=st.sampled_from(KINDS), making=MAKING)
def test_any_download_is_read_again(made, between, kind, making):
    folder = Path(tempfile.mkdtemp())
    try:
        stores = Settings(store_dir=folder / "stores", threads=1, make_missing=making)
        write_rds(seurat(made), folder / "in.rds")
        source = folder / f"between.{between}"
        convert(folder / "in.rds", source, stores)
        opened = open_experiment(source, stores).experiment
        n = opened.n_cells
        labels = Categorical(np.zeros(n, np.int32), ["x \N{SNOWMAN}"])
        points = np.arange(2.0 * n).reshape(n, 2)
        target = folder / f"out.{kind}"
        if between == kind == "rds":  # as the task does
            annotation = Annotation({"seurat_clusters": labels}, "seurat_clusters", Embedding("umap", points))
            write_annotated(source, target, opened, annotation)
        else:
            write_annotated_copy(
                source, opened, {"seurat_clusters": labels}, target, identities="seurat_clusters",
                embedding=("umap", points),
            )  # fmt: skip
        again = open_experiment(target, stores).experiment
        assert again.metadata["seurat_clusters"].categories == ["x \N{SNOWMAN}"]
        np.testing.assert_array_equal(again.reductions["umap"].values, points)
        assert again.genes.names == opened.genes.names
        np.testing.assert_array_equal(again.data_by_cell.values, opened.data_by_cell.values)
        assert (again.counts is None) == (opened.counts is None)
        assert list(again.images) == list(opened.images)
    finally:
        shutil.rmtree(folder)


def annotated(made: Made) -> Any:
    """Return the same as an AnnData object of scanpy's making."""
    import anndata
    import pandas as pd
    from scipy.sparse import csc_matrix, csr_matrix

    n = len(made.cells)
    obs: dict[str, Any] = {}
    for name, (what, rng) in made.columns.items():
        codes = rng.integers(-1, 2, n)
        texts = np.array(["a", "b", None], object)[codes]
        columns = {
            "labels": pd.Categorical(texts), "ordered": pd.Categorical(texts, ["b", "a", "unused"], ordered=True),
            "empty": pd.Categorical([None] * n, ["a"]), "whole": rng.integers(-(2**40), 2**40, n),
            "gaps": pd.array([None if code < 0 else int(code) for code in codes], dtype="Int64"),
            "real": np.where(codes < 0, np.nan, rng.normal(size=n)), "truth": codes > 0,
            "maybe": pd.array([None if code < 0 else bool(code) for code in codes], dtype="boolean"),
            "text": [f"t{code}\N{SNOWMAN}" for code in codes], "day": codes.astype(np.float32),
            "na_level": codes.astype(np.uint8),
        }  # fmt: skip
        obs[name.replace("/", "_")] = columns[what]
    genes = [name.replace("/", "|") for name in made.genes]
    frame = pd.DataFrame(obs, index=made.cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of repeated names
        values = csr_matrix(np.abs(made.data).astype(np.float32))
        out = anndata.AnnData(values, obs=frame, var=pd.DataFrame(index=genes))
    if made.counts is not None:
        out.layers["counts"] = csc_matrix(made.counts.astype(np.float32))
    out.obsm["X_pca"] = made.embedding
    if made.spatial:
        out.obsm["spatial"] = made.embedding + 1
        pixels = np.random.default_rng(n).integers(0, 256, (3, 2, 3)).astype(np.uint8)
        scale = {"tissue_hires_scalef": 0.25}
        out.uns["spatial"] = {"slice \N{SNOWMAN}": {"images": {"hires": pixels}, "scalefactors": scale}}
    if made.graph:
        out.obsp["connectivities"] = csr_matrix(np.eye(n) + np.eye(n, k=1))
    return out


@pytest.mark.usefixtures("in_process")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=objects(), container=st.sampled_from(CONTAINERS), kind=st.sampled_from(WRITTEN), making=MAKING)
def test_any_file_of_scanpy_is_the_same_in_every_format(made, container, kind, making):
    folder = Path(tempfile.mkdtemp())
    try:
        stores = Settings(store_dir=folder / "stores", threads=1, make_missing=making)
        source = write(annotated(made), folder, container, "in")
        opened = open_experiment(source, stores).experiment
        convert(source, folder / f"out.{kind}", stores)
        assert_same(opened, open_experiment(folder / f"out.{kind}", stores).experiment)
    finally:
        shutil.rmtree(folder)


# ---- other sources, and a matrix of 10x ----


def workspace(root: RS4, path: Path) -> Path:
    """Save an object as R's `save` does: a pairlist of names and values, which is how attributes are written."""
    write_rds(RList([], {"seurat": root}), path)
    content = gzip.decompress(path.read_bytes())
    version, encoding = struct.unpack_from(">i", content, 2)[0], struct.unpack_from(">i", content, 14)[0]
    begin = 18 + encoding if version == 3 else 14
    empty_list = 8  # bytes of its type and length
    path.write_bytes(gzip.compress(b"RDX3\n" + content[:begin] + content[begin + empty_list :], 1))
    return path


def loom(made: Made, path: Path) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        matrix = made.data if made.counts is None else made.counts
        file["matrix"] = np.abs(matrix).T
        file["layers/other"] = made.data.T
        for table, name, texts in (("col_attrs", "CellID", made.cells), ("row_attrs", "Gene", made.genes)):
            file.create_dataset(f"{table}/{name}", data=texts, dtype=h5py.string_dtype())
        for name, (what, rng) in made.columns.items():
            if what in {"whole", "real", "labels", "text"}:
                is_text = what in {"labels", "text"}
                values = rng.normal(size=len(made.cells)) if what == "real" else rng.integers(-5, 5, len(made.cells))
                texts = [f"{value} \N{SNOWMAN}" for value in values.tolist()]
                place = f"col_attrs/{name.replace('/', '_')}"
                file.create_dataset(
                    place, data=texts if is_text else values, dtype=h5py.string_dtype() if is_text else None
                )
        file["col_attrs/points"] = made.embedding
        if made.graph:
            n = len(made.cells)
            file["col_graphs/near/a"], file["col_graphs/near/b"] = np.arange(n), np.arange(n)[::-1]
            file["col_graphs/near/w"] = np.linspace(0.5, 1, n)
    return path


def mudata(made: Made, path: Path) -> Path:
    import h5py
    from anndata.io import write_elem

    with h5py.File(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.attrs["encoding-type"] = "MuData"
        for name in ("rna", "prot"):
            write_elem(file.require_group("mod"), name, annotated(made))
    return path


SOURCES = {
    "rda": lambda made, folder: workspace(seurat(made), folder / "in.rda"),
    "loom": lambda made, folder: loom(made, folder / "in.loom"),
    "mudata": lambda made, folder: mudata(made, folder / "in.h5mu"),
}


@pytest.mark.usefixtures("in_process")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=objects(), source=st.sampled_from(sorted(SOURCES)), kind=st.sampled_from(WRITTEN))
def test_any_file_of_another_program_is_the_same_in_every_format(made, source, kind):
    folder = Path(tempfile.mkdtemp())
    try:
        stores = Settings(store_dir=folder / "stores", threads=1, make_missing=False)
        path = SOURCES[source](made, folder)
        opened = open_experiment(path, stores).experiment
        convert(path, folder / f"out.{kind}", stores)
        assert_same(opened, open_experiment(folder / f"out.{kind}", stores).experiment)
    finally:
        shutil.rmtree(folder)


@pytest.mark.usefixtures("in_process")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=objects(), source=st.sampled_from(["h5ad", *sorted(SOURCES)]), kind=st.sampled_from(WRITTEN))
def test_any_counts_go_through_a_matrix_of_10x(made, source, kind):
    folder = Path(tempfile.mkdtemp())
    try:
        stores = Settings(store_dir=folder / "stores", threads=1, make_missing=False)
        path = write(annotated(made), folder, "h5ad", "in") if source == "h5ad" else SOURCES[source](made, folder)
        opened = open_experiment(path, stores).experiment
        if opened.counts is None or not np.any(opened.counts.values):
            with pytest.raises(WorkerError, match="a matrix of 10x holds raw counts, and"):
                convert(path, folder / "one.h5", stores)
            assert not (folder / "one.h5").exists()
            return
        convert(path, folder / "one.h5", stores)
        matrix = open_experiment(folder / "one.h5", stores).experiment
        convert(folder / "one.h5", folder / f"two.{kind}", stores)
        for found in (matrix, open_experiment(folder / f"two.{kind}", stores).experiment):
            assert found.barcodes == opened.barcodes
            assert found.genes.names == opened.genes.names
            assert found.counts is not None
            assert found.counts.indptr.tolist() == opened.counts.indptr.tolist()
            assert found.counts.genes.tolist() == opened.counts.genes.tolist()
            np.testing.assert_array_equal(np.asarray(found.counts.values), np.asarray(opened.counts.values))
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(("value", "says"), [(2.0, ""), (2.5, ""), (2.1, "float64 rounded to float32")])
def test_decimals_in_a_matrix_of_10x_are_exact_or_reported(tmp_path, value, says):
    import anndata

    stores = Settings(store_dir=tmp_path / "stores", threads=1, make_missing=False)
    values = np.random.default_rng(3).poisson(3, (20, 8)).astype(np.float64)
    values[:, 0] = value
    source = write(anndata.AnnData(np.log1p(values), layers={"counts": values}), tmp_path, "h5ad")
    report = convert(source, tmp_path / "out.h5", stores)
    (line,) = [line for line in report.renamed if line.startswith("layers/counts is ")]
    assert line == f"layers/counts is matrix/data{f' ({says})' if says else ''}"
    found = open_experiment(tmp_path / "out.h5", stores).experiment.counts
    assert found is not None
    np.testing.assert_array_equal(np.sort(np.asarray(found.values)), np.sort(values[values != 0].astype(np.float32)))
