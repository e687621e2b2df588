"""What a source says beside its elements is kept or listed: attributes of any node, other objects, files beside."""

import gzip
import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.formats import foreign_files as files
from tests.formats.anndata_files import write
from tests.formats.conftest import COUNTS
from tests.formats.rformats.conftest import FIXTURES
from tests.formats.test_copying_anndata import rich
from tests.formats.test_nothing_lost import covered, told
from tests.formats.test_tissue_pixels import library, spatial

from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RList
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.settings import Settings

FOREIGN = FIXTURES.parent / "foreign"
pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def stores(tmp_path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1, make_missing=False)


def copied(source: Path, folder: Path) -> Path:
    shutil.copyfile(source, folder / f"in-{source.name}")
    return folder / f"in-{source.name}"


SOURCES = {
    "10x": lambda folder: files.tenx_h5(folder / "in.h5"),
    "10x version 2": lambda folder: files.tenx_h5_2(folder / "in.h5"),
    "loom": lambda folder: copied(FOREIGN / "spec3.loom", folder),
    "MuData": lambda folder: copied(FOREIGN / "two.h5mu", folder),
    "old AnnData": lambda folder: copied(FOREIGN / "old.h5ad", folder),
    "AnnData": lambda folder: write(rich(), folder, "h5ad", "in"),
    "h5Seurat": lambda folder: copied(FIXTURES / "object.h5seurat", folder),
}


def marked(path: Path) -> list[str]:
    """Put an attribute on every node of a file; returns the nodes."""
    nodes = [""]
    with h5py.File(path, "r+") as file:
        file.visit(nodes.append)
        for node in nodes:
            file[node or "/"].attrs["mine"] = f"at <{node}>"
    return nodes


def shown_as(node: str) -> str:
    """Return what a node is called once another reader has shown its file as AnnData."""
    for before, after in (("mod/rna", ""), ("raw.X", "raw/X"), ("uns/neighbors/connectivities", "obsp/connectivities")):
        if node.startswith(before):
            return f"{after}{node.removeprefix(before)}".lstrip("/")
    return node


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".rds" else path.read_bytes()


@pytest.mark.parametrize(
    ("source", "ending"),
    [*((source, ending) for source in SOURCES for ending in ("rds", "h5ad")), ("AnnData", "h5"), ("h5Seurat", "h5")],
)
def test_an_attribute_of_any_node_is_kept_or_listed(tmp_path, stores, source, ending):
    path = SOURCES[source](tmp_path)
    nodes = marked(path)
    report = convert(path, tmp_path / f"out.{ending}", stores)
    written = content(tmp_path / f"out.{ending}")
    lines = {line.partition(" (")[0].partition(": ")[0] for line in report.lost}
    listed = {line.removesuffix(", attribute mine") for line in lines if line.endswith(", attribute mine")}
    gone = {line for line in lines if ", attribute " not in line}
    missing = []
    for node in nodes:
        names = {node, shown_as(node), *(["uns/mine"] if source == "loom" and not node else [])}
        if f"at <{node}>".encode() in written or {name or "the root" for name in names} & listed:
            continue
        if not any(covered(name, gone) for name in names):
            missing.append(node)
    assert missing == []


SAID = {
    "chemistry": "SC3Pv3",
    "gem_groups": np.array([1, 2]),
    "libraries": ["a", "b"],
    "depth": 2.5,
    "pairs": [[1, 2], [3, 4], [5, 6]],
}


@pytest.mark.parametrize(("source", "place"), [("10x", "10x"), ("10x version 2", "10x"), ("loom", "")])
@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_what_a_foreign_file_says_of_itself_is_kept_in_uns(tmp_path, stores, source, place, ending):
    path = SOURCES[source](tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs.update(SAID)
        if source == "loom":
            file["attrs"].create_dataset("taken", data="of attrs")
            file.attrs["taken"] = "of the root"
    report = convert(path, tmp_path / f"out.{ending}", stores)
    uns = (anndata.read_h5ad if ending == "h5ad" else anndata.read_zarr)(tmp_path / f"out.{ending}").uns
    held = uns[place] if place else uns
    assert held["chemistry"] == "SC3Pv3"
    assert held["depth"] == 2.5
    assert held["gem_groups"].tolist() == [1, 2]
    assert held["libraries"].tolist() == ["a", "b"]
    assert held["pairs"].tolist() == SAID["pairs"]
    where = "/".join(("uns", place, "depth") if place else ("uns", "depth"))
    assert f"the attribute 'depth' is {where}" in report.renamed
    assert not [line for line in report.lost if "depth" in line]
    if source == "loom":
        assert held["taken"] == "of attrs"
        assert any(line.startswith("the root, attribute taken") for line in report.lost)


def test_what_an_h5seurat_file_holds_beside_the_object_is_listed(tmp_path, stores):
    path = copied(FIXTURES / "object.h5seurat", tmp_path)
    plain = convert(path, tmp_path / "plain.h5ad", stores)
    assert not [line for line in plain.lost if "no part of a Seurat object" in line]
    image = np.arange(24.0).reshape(2, 3, 4)
    with h5py.File(path, "r+") as file:
        file["notes/today"] = [1, 2, 3]
        file["graphs/odd/x"] = [1.0]
        file["misc/cube"] = image
    report = convert(path, tmp_path / "out.h5ad", stores)
    assert {line.partition(": no part")[0] for line in report.lost} == {"notes/today", "graphs/odd/x"}
    held = anndata.read_h5ad(tmp_path / "out.h5ad").uns["seurat"]["misc"]["cube"]
    np.testing.assert_array_equal(held, image.T)  # a file of R's has its sides the other way round


@pytest.mark.parametrize("ending", ["h5ad", "rds", "sce.rds", "h5"])
def test_other_objects_of_a_workspace_are_listed(tmp_path, ending):
    stores = Settings(store_dir=tmp_path / "stores", threads=1, make_missing=False, object_name="sce")
    report = convert(FIXTURES / "several.RData", tmp_path / f"out.{ending}", stores)
    assert any(line.startswith("seurat (") and "another object" in line for line in report.lost)


def test_how_layers_were_split_is_kept_or_listed(tmp_path, stores, trees):
    halves = {
        f"{kind}.{part}": trees.sparse(values[rows], None, None)
        for kind, values in (("counts", COUNTS), ("data", trees.data))
        for part, rows in (("x", slice(3)), ("y", slice(3, 6)))
    }
    cells = {name: np.array([1, 1, 1, 0, 0, 0] if name.endswith("x") else [0, 0, 0, 1, 1, 1.0]) for name in halves}
    rna = trees.assay5(halves, cells=cells)
    rna.slots["meta.data"] = build.data_frame({"counts_mean": build.doubles(range(4))}, trees_genes(trees))
    write_rds(trees.seurat(assays=build.named_list({"RNA": rna})), tmp_path / "in.rds")
    report = convert(tmp_path / "in.rds", tmp_path / "out.h5ad", stores)
    for name in halves:
        (line,) = [line for line in report.renamed if line.startswith(f"assays/RNA/layers/{name} is ")]
        assert "which cells it has is in uns/seurat/assays/RNA/cells" in line
    held = anndata.read_h5ad(tmp_path / "out.h5ad").uns["seurat"]["assays"]["RNA"]["cells"]
    where = dict(zip(held["columns"], held["values"].T.tolist(), strict=True))
    assert {name: where[name] for name in halves} == {name: mask.tolist() for name, mask in cells.items()}
    report = convert(tmp_path / "in.rds", tmp_path / "out.h5", stores)
    lines = {line for line in report.renamed if " is matrix/data" in line}
    assert {line.partition(" is ")[0] for line in lines} == {"assays/RNA/layers/counts.x", "assays/RNA/layers/counts.y"}
    assert all("joined" in line and "not kept" in line for line in lines)
    assert covered("assays/RNA/meta.data/counts_mean", told(report))


def trees_genes(trees) -> list[str]:
    return trees.sparse(COUNTS).slots["Dimnames"].items[0].tolist()


@pytest.mark.parametrize("ending", ["rds", "sce.rds"])
def test_pixels_of_tissues_come_back_from_objects_of_r(tmp_path, stores, ending):
    rng = np.random.default_rng(2)
    bytes_, shares = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8), rng.random((6, 4, 3)).astype(np.float32)
    of = pd.Categorical(["one", "two", "one", "two", "two", "one"])
    known = {**library(bytes_), "metadata": {"chemistry": "v1"}}
    known["scalefactors"] |= {"spot_diameter_fullres": 8.0, "fiducial_diameter_fullres": 12.0}
    source = spatial(tmp_path / "in.h5ad", {"one": known, "two": library(shares, which="lowres")}, library_id=of)
    report = convert(source, tmp_path / f"out.{ending}", stores)
    assert any(line.startswith("uns/spatial/one/images/hires is ") for line in report.renamed)
    convert(tmp_path / f"out.{ending}", tmp_path / "again.h5ad", stores)
    first = open_experiment(source, stores).experiment.images
    for path in (tmp_path / f"out.{ending}", tmp_path / "again.h5ad"):
        found = open_experiment(path, stores).experiment.images
        assert list(found) == list(first)
        for name, image in first.items():
            np.testing.assert_array_equal(found[name].pixels, image.pixels)
            np.testing.assert_array_equal(found[name].points, image.points)
            assert found[name].scale == image.scale
    root = read_exactly(tmp_path / f"out.{ending}", tmp_path, lambda _done, _total: None).root
    if ending == "rds":
        images = root.slots["images"]
        assert images.get("one").class_name == "VisiumV1"
        assert images.get("one").slots["image"].values.max() <= 1
        factors = images.get("one").slots["scale.factors"]
        assert {name: value.values.tolist() for name, value in factors.pairs()} == {
            "spot": [8.0], "fiducial": [12.0], "hires": [0.1], "lowres": [0.1]
        }  # fmt: skip
        uns = root.slots["misc"].get("anndata").get("uns").get("spatial")
        assert uns.get("one").get("images") is None  # the image of the object has them exactly
        assert uns.get("two").get("images") is not None  # rounded to bytes there
        assert isinstance(uns.get("one").get("metadata"), RList)


def test_files_of_a_folder_that_are_not_read_and_comments_in_text_are_listed(tmp_path, stores):
    folder = files.tenx_folder(tmp_path / "run", packed=False)
    (folder / "web_summary.html").write_text("<html>")
    (folder / "analysis" / "clusters").mkdir(parents=True)
    (folder / "analysis" / "clusters" / "c.csv").write_text("a,b\n1,2\n")
    lines = (folder / "matrix.mtx").read_text().split("\n", 1)
    (folder / "matrix.mtx").write_text(f'{lines[0]}\n%metadata_json: {{"software_version": "x"}}\n{lines[1]}')
    names = (folder / "barcodes.tsv").read_text().split()
    (folder / "barcodes.tsv").write_text("".join(f"{name}\tlane1\n" for name in names))
    lost = "\n".join(convert(folder, tmp_path / "out.h5ad", stores).lost)
    for word in ("web_summary.html", "analysis/", 'metadata_json: {"software_version"', "barcodes.tsv: fields beyond"):
        assert word in lost, word
    assert "features.tsv" not in lost


def test_columns_of_genes_that_joined_samples_do_not_keep_are_listed(tmp_path, stores):
    for number in (1, 2):
        sample = tmp_path / "run" / f"s{number}"
        sample.mkdir(parents=True)
        with h5py.File(files.tenx_h5(sample / "m.h5"), "r+") as file:
            file["matrix/features/pattern"] = np.array(["5PNN"] * files.N_GENES, "S")
            file.attrs["chemistry"] = "SC3Pv3"
    lost = convert(tmp_path / "run", tmp_path / "out.h5ad", stores).lost
    for name in ("s1_m", "s2_m"):
        assert {f"{name}: pattern of its genes", f"{name}: the attribute 'chemistry' of its file"} <= set(lost)


def test_a_stores_companions_in_an_archive_are_listed(tmp_path, stores):
    made = anndata.AnnData(sparse.csr_matrix(files.COUNTS.astype(np.float32)))
    write(made, tmp_path / "pack", "zarr-2", "a")
    (tmp_path / "pack" / "README.txt").write_text("how it was made")
    archive = shutil.make_archive(str(tmp_path / "in.zarr"), "zip", tmp_path / "pack")
    lost = convert(Path(archive), tmp_path / "out.h5ad", stores).lost
    assert [line.partition(":")[0] for line in lost] == ["README.txt"]
