"""The writer of R's format, judged by R itself where it is installed, and by our reader."""

import gzip
import io
import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RValue, RVector, Skipped
from cellworker.formats.r.rds.reader import read_rds
from cellworker.formats.r.rds.writer import write_rds

RSCRIPT = shutil.which("Rscript")
needs_r = pytest.mark.skipif(RSCRIPT is None, reason="Rscript is not installed")


def serialised(value: RValue, version: int = 3) -> bytes:
    buffer = io.BytesIO()
    write_rds(value, buffer, compression="none", version=version)
    return buffer.getvalue()


def run_r(code: str) -> str:
    done = subprocess.run([RSCRIPT, "--vanilla", "-e", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same(found: RValue, expected: RValue, where: str = "root") -> None:
    assert type(found) is type(expected), where
    if isinstance(expected, RVector):
        assert found.kind == expected.kind, where
        expected_values = expected.values.reshape(-1, order="F")
        np.testing.assert_array_equal(found.values, expected_values, err_msg=where)
    elif isinstance(expected, RStrings):
        assert found.tolist() == expected.tolist(), where
    elif isinstance(expected, RList):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found.items, expected.items, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(expected, RSymbol):
        assert found.name == expected.name, where
    elif isinstance(expected, RS4):
        assert (found.class_name, found.package) == (expected.class_name, expected.package), where
        assert list(found.slots) == list(expected.slots), where
        for name, slot in expected.slots.items():
            assert_same(found.slots[name], slot, f"{where}@{name}")
    for name, attribute in getattr(expected, "attributes", {}).items():
        assert_same(found.attributes[name], attribute, f"{where}:{name}")


BYTE_FOR_BYTE = {
    "c(1.5, NA, NaN, Inf, -Inf, 0)": lambda: RVector(
        np.array([1.5, np.uint64(0x7FF00000000007A2).view(np.float64), np.nan, np.inf, -np.inf, 0]), "double"
    ),
    "c(3L, NA, -7L)": lambda: build.integers([3, build.NA_INTEGER, -7]),
    "c(TRUE, NA, FALSE)": lambda: RVector(np.array([1, build.NA_INTEGER, 0], np.int32), "logical"),
    "as.raw(c(0, 255, 7))": lambda: RVector(np.array([0, 255, 7], np.uint8), "raw"),
    "c(1+2i, -3.5-1i)": lambda: RVector(np.array([1 + 2j, -3.5 - 1j]), "complex"),
    'c("a", NA, "", "na\\u00efve \\u03b2")': lambda: build.strings(["a", None, "", "naïve β"]),
    "c(x = 1.5, y = 2.5)": lambda: build.doubles([1.5, 2.5], names=["x", "y"]),
    "NULL": RNull,
    "list(a = 1, 'b', list())": lambda: RList(
        [build.doubles(1), build.strings("b"), RList([])], {"names": build.strings(["a", "", ""])}
    ),
    "as.symbol('hello')": lambda: RSymbol("hello"),
    "factor(c('u', NA, 'v'))": lambda: build.factor(np.array([0, -1, 1]), ["u", "v"]),
    "list(NULL, list(a = 1L, b = list(names = 'n')))": lambda: RList(
        [
            RNull(),
            build.named_list({"a": build.integers(1), "b": build.named_list({"names": build.strings("n")})}),
        ]
    ),
    "data.frame(n = c(2L, 5L), s = c('p', 'q'), row.names = c('r1', 'r2'))": lambda: build.data_frame(
        {"n": build.integers([2, 5]), "s": build.strings(["p", "q"])}, ["r1", "r2"]
    ),
    "matrix(c(1, 2, 3, 4, 5, 6), 2)": lambda: build.matrix(np.array([[1, 3, 5], [2, 4, 6]])),
    "package_version('4.1.3')": lambda: build.package_version("4.1.3"),
}


@needs_r
def test_what_we_write_is_byte_for_byte_what_r_writes():
    lines = "\n".join(
        f"cat(paste(as.character(serialize({code}, NULL, version = {version}L)), collapse=''), '\\n')"
        for code in BYTE_FOR_BYTE
        for version in (2, 3)
    )
    answers = iter(run_r(lines).split())
    for code, make in BYTE_FOR_BYTE.items():
        for version in (2, 3):
            # The writer's R version in the header differs from machine to machine.
            expected = bytes.fromhex(next(answers))
            found = serialised(make(), version)
            assert (found[:6], found[10:]) == (expected[:6], expected[10:]), code


@needs_r
def test_r_finds_identical_objects(tmp_path):
    sparse = build.dgc_matrix(
        np.array([0, 2, 2, 3]),
        np.array([0, 3, 1]),
        np.array([1, 2, 7], np.float32),
        4,
        row_names=["g1", "g2", "g3", "g4"],
        column_names=["c1", "c2", "c3"],
    )
    frame = build.data_frame(
        {"x": build.doubles([1, 2, 3]), "f": build.factor(np.array([1, 0, 1]), ["lo", "hi"])}, n_rows=3
    )
    write_rds(build.named_list({"sparse": sparse, "frame": frame}), tmp_path / "a.rds")
    out = run_r(
        f"""
        suppressMessages(library(Matrix)); a <- readRDS("{tmp_path}/a.rds"); invisible(validObject(a$sparse))
        m <- sparseMatrix(i=c(1,4,2), p=c(0,2,2,3), x=c(1,2,7), dims=c(4,3),
                          dimnames=list(paste0("g",1:4), paste0("c",1:3)))
        f <- data.frame(x=c(1,2,3), f=factor(c("hi","lo","hi"), levels=c("lo","hi")))
        cat(identical(a$sparse, m), identical(a$frame, f))
        """
    )
    assert out.split() == ["TRUE", "TRUE"]


@needs_r
@pytest.mark.parametrize(
    ("compression", "level"), [("gzip", 6), ("gzip", 1), ("gzip", 9), ("bzip2", None), ("xz", None), ("none", None)]
)
def test_r_reads_every_compression(tmp_path, compression, level):
    values = np.random.default_rng(1).poisson(2, 400_000).astype(np.float64)
    write_rds(build.doubles(values), tmp_path / "v.rds", compression=compression, level=level)
    out = run_r(f'v <- readRDS("{tmp_path}/v.rds"); cat(length(v), sum(v), sum(v * seq_along(v)))')
    assert [float(word) for word in out.split()] == pytest.approx(
        [len(values), values.sum(), (values * np.arange(1, len(values) + 1)).sum()], rel=1e-6
    )


@needs_r
def test_an_empty_slot_is_null_in_r(tmp_path):
    dim_reduc = RS4("Assay", "SeuratObject", {"assay.orig": RNull(), "key": build.strings("rna_")})
    write_rds(dim_reduc, tmp_path / "s.rds")
    out = run_r(f'a <- readRDS("{tmp_path}/s.rds"); cat(is.null(attr(a, "assay.orig")), attr(class(a), "package"))')
    assert out.split()[-1] == "SeuratObject"


def nested_object() -> RList:
    return build.named_list(
        {
            "numbers": build.doubles([1, 2.5, np.inf], names=["a", "b", "c"]),
            "words": build.strings(["x", None, "β", ""]),
            "frame": build.data_frame({"k": build.integers([1, 2])}, ["r", "s"]),
            "object": RS4("Thing", "pkg", {"empty": RNull(), "values": build.integers([4, 5])}),
            "flags": build.logicals([True, False]),
        }
    )


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "none"])
@pytest.mark.parametrize("version", [2, 3])
def test_our_reader_gets_back_what_was_written(tmp_path, compression, version):
    path = tmp_path / "o.rds"
    write_rds(nested_object(), path, compression=compression, version=version)
    read = read_rds(path, tmp_path)
    assert read.version == version
    assert_same(read.root, nested_object())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))))
def test_any_text_is_read_back_unchanged(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("text")
    write_rds(build.strings(texts), folder / "t.rds", level=1)
    assert read_rds(folder / "t.rds", folder).root.tolist() == texts


def test_long_arrays_are_written_in_pieces_with_bounded_memory(tmp_path):
    n = 4_000_000
    values = np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float32, (n,))
    values[:] = np.arange(n) % 1000
    grid = np.lib.format.open_memmap(tmp_path / "g.npy", "w+", np.float32, (1000, 2000))
    grid[:] = np.arange(2000)
    tracemalloc.start()
    root = RList([RVector(values, "double"), build.matrix(np.zeros((0, 0))), RVector(grid, "double")])
    write_rds(root, tmp_path / "v.rds", compression="gzip", level=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
    with gzip.open(tmp_path / "v.rds") as file:
        content = file.read()
    assert len(content) > 8 * (n + grid.size)
    payload = np.frombuffer(content, ">f8", 4000, 23 + 8 + 8)
    np.testing.assert_array_equal(payload, np.arange(4000) % 1000)
    # R stores matrices column after column: the last column of the grid comes last.
    np.testing.assert_array_equal(np.frombuffer(content[-8 * 1000 :], ">f8"), 1999)


def test_the_same_object_gives_the_same_bytes(tmp_path):
    write_rds(nested_object(), tmp_path / "1.rds")
    write_rds(nested_object(), tmp_path / "2.rds")
    assert (tmp_path / "1.rds").read_bytes() == (tmp_path / "2.rds").read_bytes()


def test_what_was_skipped_in_reading_is_refused_in_words():
    with pytest.raises(WorkerError, match="a function") as caught:
        serialised(RList([Skipped("a function")]))
    assert caught.value.code == ErrorCode.EXPERIMENT_UNSUPPORTED


def test_integers_that_do_not_fit_are_refused_rather_than_wrapped():
    with pytest.raises(OverflowError):
        serialised(RVector(np.array([2**40]), "integer"))


def test_a_missing_string_with_text_is_a_mistake():
    with pytest.raises(ValueError, match="missing"):
        serialised(RStrings(b"abc", np.array([0, 3]), np.array([True])))


@pytest.mark.shared
@needs_r
def test_a_real_seurat_object_read_and_written_is_the_same_in_r(shared, tmp_path):
    source = shared / "data/experiments/pbmcsmall/v4/r.rds"
    root = read_rds(source, tmp_path).root
    root.slots["commands"] = RList([])  # what Seurat remembers of its calls holds closures, which are never read
    write_rds(root, tmp_path / "again.rds")
    code = f"""
        suppressMessages(library(Matrix))
        a <- readRDS("{source}"); b <- readRDS("{tmp_path}/again.rds")
        for (s in names(attributes(a))) cat(s, identical(attr(a, s), attr(b, s)), "\\n")
        cat("assays", isTRUE(all.equal(a@assays, b@assays, tolerance = 1e-6)), "\\n")
    """
    lines = [line.split() for line in run_r(code).splitlines()]
    assert len(lines) == 15
    # The reader keeps long sparse values in single precision, as the store does, hence the second look at the assays.
    assert [name for name, same in lines if same != "TRUE"] == ["assays", "commands"]
