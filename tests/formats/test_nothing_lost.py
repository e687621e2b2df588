"""Conversions from one format to another: every element of the source's tree is kept, or the report names it."""

import re
import shutil
import subprocess

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.anndata_files import load, write
from tests.formats.conftest import CELLS, COUNTS, GENES
from tests.formats.test_converting import has_seurat
from tests.formats.test_copying_anndata import rich

from cellworker.formats.anndata.to_r import numbers
from cellworker.formats.common.ledger import Element, Ledger, renamed_names
from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RVector
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.r.values import NA_INTEGER, slot
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.settings import Settings

CELL_PARTS = {"codes", "categories", "indptr", "indices", "data", "values", "mask"}
KINDS = ("h5ad", "zarr", "rds")


@pytest.fixture
def stores(tmp_path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1)


def told(report) -> set[str]:
    """Return the paths that a report speaks of."""
    out = {re.split(r" is ", line)[0] for line in report.renamed}
    out |= {re.split(r" \(|: |, attribute", line)[0] for line in report.lost}
    for line in report.kept:
        place, _, names = line.partition(": ")
        if names:
            place = place.partition(", in ")[0]
            out |= {f"{place}/{name}" for name in names.split(", ")}
    return out


def covered(path: str, paths: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[: n + 1]) in paths for n in range(len(parts)))


def element(path: str) -> str:
    """Return what AnnData counts as one element: without the parts of a column or of a sparse matrix."""
    head, _, leaf = path.rpartition("/")
    return head if leaf in CELL_PARTS and head.count("/") >= 1 else path


def value_at(root, *names):
    for name in names:
        root = root.get(name) if isinstance(root, RList) else slot(root, name)
        assert root is not None, names
    return root


@pytest.fixture(scope="module")
def rich_object(tmp_path_factory):
    """An AnnData file with everything in it, as a Seurat object."""
    folder = tmp_path_factory.mktemp("rich")
    source = write(rich(), folder, "h5ad", "in")
    settings = Settings(store_dir=folder / "stores", threads=1)
    report = convert(source, folder / "out.rds", settings)
    return source, folder / "out.rds", report, settings


def test_every_dataset_of_an_anndata_file_is_in_the_report(rich_object):
    source, _, report, _ = rich_object
    assert report.lost == []
    paths = told(report)
    with h5py.File(source) as file:
        datasets: list[str] = []
        file.visititems(lambda name, item: datasets.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(datasets) > 60
    assert [path for path in datasets if not covered(path, paths) and path != "X" and "X" in paths] == []


def test_values_of_an_anndata_file_are_in_the_seurat_object(rich_object, tmp_path):
    source, target, _, _ = rich_object
    made, root = load(source), read_exactly(target, tmp_path, lambda _done, _total: None).root
    table = value_at(root, "meta.data")
    ordered = value_at(table, "ordered")
    assert ordered.attributes["class"].tolist() == ["ordered", "factor"]
    assert ordered.attributes["levels"].tolist() == ["lo", "mid", "hi"]
    assert value_at(table, "maybe").kind == "logical"
    assert value_at(table, "maybe").values.tolist() == [1, -(2**31), 0, 1, -(2**31), 0]
    assert value_at(table, "whole").attributes["class"].tolist() == ["integer64"]
    assert value_at(table, "whole").values.view(np.int64).tolist() == [1, -(2**63), 3, 4, 5, 2**40]
    assert value_at(table, "text").tolist() == list(made.obs["text"])
    assert value_at(table, "single").values.tolist() == made.obs["single"].tolist()
    features = value_at(value_at(root, "assays", "RNA"), "meta.features")
    assert value_at(features, "highly_variable").values.tolist() == [1, 0, 1, 0]
    assert value_at(features, "biotype").attributes["class"].tolist() == ["ordered", "factor"]
    assert sorted(value_at(root, "assays", "RNA", "var.features").tolist()) == ["CD3D", "NKG7"]
    pca = value_at(root, "reductions", "pca")
    np.testing.assert_array_equal(value_at(pca, "feature.loadings").values, made.varm["PCs"].ravel(order="F"))
    np.testing.assert_array_equal(value_at(pca, "stdev").values, np.sqrt(made.uns["pca"]["variance"]))
    held = value_at(root, "misc", "anndata")
    spliced = value_at(held, "layers", "spliced")
    dense = made.layers["spliced"].toarray()
    assert spliced.class_name == "dgRMatrix"
    np.testing.assert_array_equal(spliced.slots["x"].values, dense.T[dense.T != 0])
    uns = value_at(held, "uns")
    assert value_at(uns, "complex").values.tolist() == [1 + 2j, 3j]
    assert value_at(uns, "cube").values.tolist() == made.uns["cube"].ravel(order="F").tolist()
    assert value_at(uns, "rank_genes_groups", "names", "1").tolist() == ["g2", "g1"]
    assert value_at(uns, "rank_genes_groups", "params", "groupby").tolist() == ["ordered"]
    assert isinstance(value_at(uns, "empty"), RList)
    assert value_at(uns, "truth").values.tolist() == [1]
    assert [name for name, _ in value_at(uns).pairs()] == sorted(made.uns)
    assert isinstance(uns.get("none"), RNull)
    assert value_at(held, "obsm", "frame", "y").tolist() == list("abcdef")
    assert value_at(held, "raw", "var", "k").values.tolist() == list(range(8))
    assert value_at(held, "varp", "links").class_name == "dgCMatrix"
    graph = value_at(root, "graphs", "connectivities")
    assert sorted(graph.slots["x"].values.tolist()) == sorted(made.obsp["connectivities"].data.tolist())


R_CHECK = """
suppressMessages(library(SeuratObject)); made <- readRDS(commandArgs(TRUE)[1]); stopifnot(validObject(made))
m <- made@meta.data
stopifnot(is.ordered(m$ordered), identical(levels(m$ordered), c("lo", "mid", "hi")))
stopifnot(identical(m$maybe, c(TRUE, NA, FALSE, TRUE, NA, FALSE)), is.integer(m$byte))
f <- made[["RNA"]]@meta.features
stopifnot(is.logical(f$highly_variable), is.ordered(f$biotype), identical(rownames(f), rownames(made)))
stopifnot(identical(dim(Loadings(made, "pca")), c(4L, 2L)), length(Stdev(made, "pca")) == 2)
h <- made@misc$anndata
stopifnot(validObject(h$layers$spliced), identical(dim(h$layers$spliced), c(4L, 6L)), validObject(h$varp$links))
stopifnot(identical(Re(h$uns$complex), c(1, 0)), identical(dim(h$uns$cube), 2:4), h$uns$cube[2, 3, 4] == 23)
stopifnot(is.data.frame(h$uns$rank_genes_groups$names), is.data.frame(h$raw$var), is.null(h$uns$none))
stopifnot(all(sapply(names(made@graphs), function(g) validObject(made@graphs[[g]]))))
cat("as it should be")
"""


def test_r_finds_it_all(rich_object, tmp_path):
    if not has_seurat():
        pytest.skip("Rscript with Seurat is not on this machine")
    (tmp_path / "check.R").write_text(R_CHECK)
    command = [shutil.which("Rscript"), "--vanilla", str(tmp_path / "check.R"), str(rich_object[1])]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert found.stdout.endswith("as it should be"), found.stderr


def test_genes_whose_names_collide_keep_their_own_values(tmp_path, stores):
    names = ["A_1", "A-1", "DUP", "DUP"]
    made = rich()
    del made.raw
    made.var_names = names
    source = write(made, tmp_path, "h5ad", "in")
    report = convert(source, tmp_path / "out.rds", stores)
    for old, new in (("'A_1'", "'A-1.1'"), ("'DUP' (number 4)", "'DUP.1'")):
        assert any(old in line and new in line for line in report.renamed), old
    assert not any(line.startswith("genes: 'A-1' is") for line in report.renamed)
    opened = open_experiment(tmp_path / "out.rds", stores).experiment
    first = open_experiment(source, stores).experiment
    assert opened.genes.ids == ["A-1.1", "A-1", "DUP", "DUP.1"]
    assert opened.genes.names == first.genes.names
    for gene in range(4):
        np.testing.assert_array_equal(opened.data.dense(gene), first.data.dense(gene))


# ---- from Seurat ----


def strange(trees, *, assay5: bool = False) -> RS4:
    """An object with all that metadata and slots may hold."""
    day = RVector(np.array([19727.0, np.nan, 19728, 19729, 0, -1]), "double", {"class": build.strings("Date")})
    moment = RVector(np.array([1.7e9, 1.7e9 + 0.5, 0, 1, 2, np.nan]), "double",
                     {"class": build.strings(["POSIXct", "POSIXt"]), "tzone": build.strings("UTC")})  # fmt: skip
    span = RVector(np.arange(6.0), "double", {"class": build.strings("difftime"), "units": build.strings("days")})
    levels = build.strings(["a", None, "b"])
    na_level = RVector(np.array([1, 2, 3, -(2**31), 2, 1], np.int32), "integer",
                       {"levels": levels, "class": build.strings("factor")})  # fmt: skip
    ordered = build.factor(np.array([0, 1, 2, 0, -1, 2]), ["lo", "mid", "hi"])
    ordered.attributes["class"] = build.strings(["ordered", "factor"])
    na = -(2**31)
    columns = {
        "day": day,
        "moment": moment,
        "span": span,
        "na_level": na_level,
        "ordered": ordered,
        "lgl": RVector(np.array([1, 0, na, 1, na, 0], np.int32), "logical"),
        "int": RVector(np.array([1, na, 3, 4, 5, 6], np.int32), "integer"),
        "text": build.strings(["x", None, "y", "x", "\N{SNOWMAN}", ""]),
        "complex": RVector(np.arange(6) * (1 + 1j), "complex"),
        "list": RList([build.integers([i, i]) for i in range(6)]),
        "matrix": trees.matrix(np.arange(12.0).reshape(6, 2), None, ["p", "q"]),
        "table": build.data_frame({"u": build.doubles(range(6)), "v": build.strings(list("abcdef"))}, CELLS),
        "raw": RVector(np.arange(6, dtype=np.uint8), "raw"),
        "with/slash": build.integers(range(6)),
        "unused": build.factor(np.zeros(6, np.int64), ["one", "never"]),
        "nothing": build.factor(np.full(6, -1), []),
    }
    features = build.data_frame(
        {"biotype": build.strings(["coding", "lnc", None, "coding"]), "vst.mean": build.doubles([1, 2, 3, 4]),
         "name": build.strings(list("wxyz")), "ok": build.logicals([1, 0, 1, 0])}, GENES
    )  # fmt: skip
    if assay5:
        rna = trees.assay5({"counts": trees.sparse(COUNTS, None, None), "data": trees.sparse(trees.data, None, None),
                            "spliced": trees.sparse(COUNTS * 2, None, None)})  # fmt: skip
        rna.slots["meta.data"] = features
    else:
        rna = trees.assay(**{"meta.features": features, "var.features": build.strings(["LYZ", "CD3D"])})
    pca = trees.reduction(np.arange(12.0).reshape(6, 2))
    pca.slots |= {
        "feature.loadings": trees.matrix(np.arange(4.0).reshape(2, 2), ["LYZ", "CD3D"], ["PC_1", "PC_2"]),
        "stdev": build.doubles([3, 2]), "misc": build.named_list({"total": build.doubles([9.5])}),
    }  # fmt: skip
    misc = {
        "deep": build.named_list({"er": build.named_list({"est": build.strings("value")})}),
        "unnamed": RList([build.integers(1), build.strings("b")]), "null": RNull(),
        "cube": RVector(np.arange(24.0), "double", {"dim": build.integers([2, 3, 4])}),
        "named": build.doubles([1, 2], ["a", "b"]), "T/NK": build.integers(7),
        "many": RList([build.integers(i) for i in range(20_001)]),
        "same": RList([build.integers(1), build.integers(2)], {"names": build.strings(["x", "x"])}),
    }  # fmt: skip
    neighbor = RS4("Neighbor", "SeuratObject", {"nn.idx": trees.matrix(np.ones((6, 2))), "alg.info": RNull()})
    return trees.seurat(
        **{
            "assays": build.named_list({"RNA": rna, "ADT": trees.assay(key=build.strings("adt_"))}),
            "meta.data": trees.metadata(**columns),
            "reductions": build.named_list({"pca": pca}),
            "graphs": build.named_list({"RNA_nn": trees.sparse(np.eye(6), CELLS, CELLS)}),
            "neighbors": build.named_list({"RNA.nn": neighbor}),
            "misc": build.named_list(misc),
            "tools": build.named_list({"T": build.data_frame({"z": build.doubles([1])}, n_rows=1)}),
        }
    )


def leaves(value, path=()):
    """Walk over an object without cellworker's own walk: lists and slots, down to what holds none."""
    inner = []
    if isinstance(value, RS4) and value.class_name != "dgCMatrix":
        inner = list(value.slots.items())
    elif isinstance(value, RList):
        inner = [(name or f"[[{i}]]", item) for i, (name, item) in enumerate(value.pairs(), 1)]
    if not inner:
        yield "/".join(path)
    for name, item in inner:
        yield from leaves(item, (*path, name))


@pytest.mark.parametrize("assay5", [False, True])
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_every_leaf_of_a_seurat_object_is_in_the_report(tmp_path, stores, trees, kind, assay5):
    root = strange(trees, assay5=assay5)
    source, target = tmp_path / "in.rds", tmp_path / f"out.{kind}"
    write_rds(root, source)
    report = convert(source, target, stores)
    assert report.lost == []
    paths = told(report)
    assert [path for path in leaves(root) if not covered(path, paths)] == []
    made = load(target)
    obs = made.obs
    assert obs["ordered"].cat.ordered
    assert list(obs["ordered"].cat.categories) == ["lo", "mid", "hi"]
    assert obs["lgl"].tolist()[:2] == [True, False]
    assert obs["lgl"].isna().tolist() == [False, False, True, False, True, False]
    assert obs["int"].dtype == "Int32"
    assert list(obs["day"].astype(object).fillna("?")) == [
        "2024-01-05", "?", "2024-01-06", "2024-01-07", "1970-01-01", "1969-12-31"
    ]  # fmt: skip
    assert obs["day"].cat.ordered
    assert obs["moment"].iloc[1] == "2023-11-14T22:13:20.500000Z"
    assert obs["complex"].tolist() == [i * (1 + 1j) for i in range(6)]
    assert list(obs["unused"].cat.categories) == ["one", "never"]
    assert obs["with_slash"].tolist() == list(range(6))
    assert any("'with/slash' is 'with_slash'" in line for line in report.renamed)
    assert made.obsm["matrix"]["q"].tolist() == [1, 3, 5, 7, 9, 11]
    assert made.obsm["table"]["v"].tolist() == list("abcdef")
    assert made.var["biotype"].tolist()[:2] == ["coding", "lnc"]
    assert made.var["ok"].tolist() == [True, False, True, False]
    np.testing.assert_array_equal(made.varm["PCs"][3], [0, 1])
    np.testing.assert_array_equal(made.varm["PCs"][0], [2, 3])
    held = made.uns["seurat"]
    np.testing.assert_array_equal(held["meta.data"]["day"][:1], [19727])
    assert held["meta.data"]["span"]["@units"].tolist() == ["days"]
    assert held["meta.data"]["raw"].tolist() == list(range(6))
    assert len(held["meta.data"]["list"]) == 6
    assert pd.Series(held["meta.data"]["na_level"]["codes"]).fillna(0).tolist() == [1, 2, 3, 0, 2, 1]
    assert held["reductions"]["pca"]["stdev"].tolist() == [3, 2]
    assert held["reductions"]["pca"]["misc"]["total"].tolist() == [9.5]
    adt = held["assays"]["ADT"]["counts"]
    np.testing.assert_array_equal(adt["values"].toarray(), COUNTS.T)
    assert list(adt["rows"]) == GENES
    assert held["misc"]["deep"]["er"]["est"].tolist() == ["value"]
    assert held["misc"]["cube"][1, 2, 3] == 23
    assert held["misc"]["named"]["names"].tolist() == ["a", "b"]
    assert held["misc"]["same"].keys() == {"x", "x[[2]]"}
    assert held["misc"]["many"].dtype == np.uint8
    if assay5:
        spliced = held["assays"]["RNA"]["layers"]["spliced"]
        np.testing.assert_array_equal(spliced.toarray(), COUNTS.T * 2)
    else:
        assert held["assays"]["RNA"]["var.features"].tolist() == ["LYZ", "CD3D"]
        assert made.var["highly_variable"].tolist() == [True, False, False, True]


def test_what_is_code_is_lost_and_named(tmp_path, stores, root):
    report = convert(root / "tests/fixtures/pbmcsmall/v4", tmp_path / "out.h5ad", stores)
    assert {line.partition(" (")[0] for line in report.lost} == {
        f"commands/FindVariableFeatures.RNA/params/{name}.function" for name in ("mean", "dispersion")
    }
    load(tmp_path / "out.h5ad")


def test_a_seurat_object_is_copied_byte_for_byte(tmp_path, stores, trees):
    import gzip

    source = tmp_path / "in.rds"
    write_rds(strange(trees), source)
    report = convert(source, tmp_path / "out.rds", stores)
    assert report.lost == []
    assert gzip.decompress((tmp_path / "out.rds").read_bytes()) == gzip.decompress(source.read_bytes())


# ---- the ledger ----


PATHS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple), min_size=1, unique=True)


@given(paths=PATHS, data=st.data())
def test_a_report_that_forgets_something_cannot_be_made(paths, data):
    ledger = Ledger([Element(path, "x") for path in paths])
    settled = data.draw(st.lists(st.sampled_from(paths), unique=True))
    for path in settled:
        if ledger.is_open(path):
            data.draw(st.sampled_from([ledger.keep, lambda p: ledger.lose(p, "why"), lambda p: ledger.rename(p, "y")]))(
                path
            )
        with pytest.raises(RuntimeError, match="settled twice"):
            ledger.keep(path)
    if ledger.open_paths():
        with pytest.raises(RuntimeError, match="the conversion does not report"):
            ledger.close()
    else:
        report = ledger.close()
        assert report.kept or report.renamed or report.lost
    with pytest.raises(RuntimeError):
        ledger.keep(("unknown",))


def test_repeated_names_are_reported_by_position():
    assert renamed_names("genes", ["a", "b", "a"], ["a", "b", "a.1"]) == ["genes: 'a' (number 3) is 'a.1'"]


WHOLE = [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64]


def back(value):
    """Return what a vector of R holds, as Python's numbers; None for NA."""
    if isinstance(value, RStrings):
        return [None if text is None else int(text) for text in value.tolist()]
    raw = np.asarray(value.values)
    if "class" in value.attributes:
        return [None if number == np.iinfo(np.int64).min else number for number in raw.view(np.int64).tolist()]
    missing = raw == NA_INTEGER if value.kind in {"integer", "logical"} else np.isnan(raw)
    return [None if gone else int(number) for number, gone in zip(raw, missing, strict=True)]


@given(data=st.data(), dtype=st.sampled_from(WHOLE))
def test_whole_numbers_of_any_size_are_in_r_what_they_were(data, dtype):
    info = np.iinfo(dtype)
    edges = [info.min, info.max, *(n for n in (2**31, 2**53 + 1, 2**63 - 1, -(2**31)) if info.min <= n <= info.max)]
    number = st.one_of(st.integers(info.min, info.max), st.sampled_from(edges))
    values = np.array(data.draw(st.lists(number, min_size=1, max_size=5)), dtype)
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    expected = [None if gone else value for value, gone in zip(values.tolist(), missing.tolist(), strict=True)]
    assert back(numbers(values, missing)) == expected


def test_numbers_that_r_cannot_hold_are_text_and_the_report_says_so(tmp_path, stores):
    made = rich()
    made.obs["address"] = np.arange(made.n_obs, dtype=np.uint64) + np.uint64(2**63)
    report = convert(write(made, tmp_path, "h5ad"), tmp_path / "out.rds", stores)
    column = value_at(
        read_exactly(tmp_path / "out.rds", tmp_path, lambda _done, _total: None).root, "meta.data", "address"
    )
    assert column.tolist() == [str(2**63 + i) for i in range(made.n_obs)]
    assert any(line.startswith("obs/address is text") for line in report.renamed)


@pytest.mark.parametrize("target", ["h5ad", "zarr", "rds"])
@pytest.mark.parametrize("source", ["h5ad", "rds"])
def test_large_counts_are_exact_and_no_rounding_of_them_is_reported(tmp_path, stores, trees, source, target):
    counts = trees.counts.astype(np.float64)
    counts[0, :2] = 2**24 + 1, 2**40 + 3
    if source == "rds":
        slots = {name: trees.sparse(counts) for name in ("counts", "data")}
        path = tmp_path / "in.rds"
        write_rds(trees.seurat(assays=build.named_list({"RNA": trees.assay(**slots)})), path)
    else:
        path = write(anndata.AnnData(counts), tmp_path, "h5ad")
    report = convert(path, tmp_path / f"out.{target}", stores)
    found = open_experiment(tmp_path / f"out.{target}", stores).experiment.counts
    assert found is not None
    assert sorted(np.asarray(found.values).tolist()) == sorted(counts[counts != 0].tolist())
    assert not any("rounded" in line and "counts" in line for line in report.renamed)
