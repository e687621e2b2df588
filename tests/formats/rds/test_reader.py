"""Files that R writes, read without R."""

import bz2
import gzip
import hashlib
import lzma
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RVector, Skipped
from cellworker.formats.r.rds.reader import read_rds

NA_INTEGER = -(2**31)
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


# ---- values ----


def test_vectors_of_numbers_keep_their_values_and_types(r, read):
    root = read(
        r.file(
            r.items(
                [
                    r.logicals([1, 0, NA_INTEGER]),
                    r.ints([5, -7, NA_INTEGER]),
                    r.doubles([1.5, float("inf"), -0.0]),
                    r.complexes([1 + 2j]),
                    r.raw(b"\x00\xff"),
                    r.ints([]),
                    r.NULL,
                ]
            )
        )
    ).root
    logical, integer, double, complex_, raw, empty, null = root.items
    assert [item.kind for item in root.items[:6]] == ["logical", "integer", "double", "complex", "raw", "integer"]
    assert logical.values.tolist() == [1, 0, NA_INTEGER]
    assert logical.values.dtype == integer.values.dtype == np.int32
    assert integer.values.tolist() == [5, -7, NA_INTEGER]
    assert double.values.dtype == np.float64
    assert double.values.tolist() == [1.5, float("inf"), 0.0]
    assert complex_.values.tolist() == [1 + 2j]
    assert raw.values.tobytes() == b"\x00\xff"
    assert len(empty) == 0
    assert null == RNull()


def test_na_of_doubles_keeps_the_bits_that_tell_it_from_nan(r, read):
    na = struct.unpack(">d", words(0x7FF00000, 1954))[0]
    values = read(r.file(r.doubles([na, float("nan")]))).root.values
    assert (values.view(np.uint64) & 0xFFFFFFFF).tolist() == [1954, 0]


def test_strings_and_their_missing_values_are_read(r, read):
    strings = read(r.file(r.strings(["a", None, "", "Zürich", "NA"]))).root
    assert strings.tolist() == ["a", None, "", "Zürich", "NA"]
    assert strings[1] is None
    assert strings.missing.tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize(
    ("content", "mark", "encoding", "expected"),
    [
        (b"caf\xe9", "LATIN1", "UTF-8", "café"),
        (b"\x80", "LATIN1", "UTF-8", "€"),
        (b"\x81", "LATIN1", "UTF-8", "\x81"),
        ("café".encode(), "LATIN1", "UTF-8", "cafÃ©"),
        ("é".encode(), None, "UTF-8", "é"),
        (b"\xe9", None, "CP1252", "é"),
        (b"\xb1", None, "ISO8859-2", "ą"),
        (b"\xe9", None, "UTF-8", "é"),
        (b"\xe9", None, "no such encoding", "é"),
        (b"\xe9", None, "unicode_escape", "é"),
        (b"\xff\xfe", "UTF8", "UTF-8", "\ufffd\ufffd"),
        (b"\xff", "BYTES", "UTF-8", "\\xff"),
        (b"\xed\xa0\x80", "UTF8", "UTF-8", "\ufffd\ufffd\ufffd"),
        ("😀".encode(), "UTF8", "UTF-8", "😀"),
    ],
)
def test_every_encoding_becomes_utf8(r, read, count, content, mark, encoding, expected):
    item = words(16, count) + r.char(content, getattr(r, mark) if mark else 0) * count
    assert read(r.file(item, encoding=encoding)).root.tolist() == [expected] * count


def test_version_2_files_are_read(r, read):
    file = read(r.file(words(16, 2) + r.char(b"\xe9", 0) + r.char("b"), version=2))
    assert file.version == 2
    assert file.root.tolist() == ["é", "b"]


def test_attributes_are_kept_in_their_order(r, read):
    factor = r.ints([1, 2, 1], levels=r.strings(["x", "y"]), **{"class": r.strings(["factor"])})
    root = read(r.file(factor)).root
    assert list(root.attributes) == ["levels", "class"]
    assert root.attributes["levels"].tolist() == ["x", "y"]


def test_lists_and_pairlists_give_elements_by_name(r, read):
    for root in (
        read(r.file(r.named(a=r.ints([1]), b=r.strings(["z"])))).root,
        read(r.file(r.cells([("a", r.ints([1])), ("b", r.strings(["z"]))]))).root,
    ):
        assert isinstance(root, RList)
        assert root.names == ["a", "b"]
        assert root.get("b").tolist() == ["z"]


def test_a_pairlist_of_a_hundred_thousand_cells_is_no_deep_nesting(r, read):
    root = read(r.file(r.cells([("", r.ints([i])) for i in range(100_000)]))).root
    assert len(root) == 100_000
    assert root.items[-1].values.tolist() == [99_999]


def test_s4_objects_give_slots_and_class(r, read):
    root = read(r.file(r.s4("Assay", "SeuratObject", key=r.strings(["rna_"]), misc=r.symbol("\x01NULL\x01")))).root
    assert isinstance(root, RS4)
    assert (root.class_name, root.package) == ("Assay", "SeuratObject")
    assert root.slots["key"].tolist() == ["rna_"]
    assert root.slots["misc"] == RNull()
    assert "class" not in root.slots


def test_only_the_slot_x_of_an_s4_object_becomes_float32(r, read):
    x = r.doubles([0.1, 2.0])
    root = read(
        r.file(
            r.items([r.s4("dgCMatrix", "Matrix", x=x, y=x, misc=r.named(x=x)), r.ints([1], x=x), r.cells([("x", x)])])
        )
    ).root
    matrix, vector, pairs = root.items
    assert matrix.slots["x"].values.dtype == np.float32
    assert matrix.slots["x"].values.tolist() == [np.float32(0.1), 2.0]
    others = [matrix.slots["y"], matrix.slots["misc"].get("x"), vector.attributes["x"], pairs.get("x")]
    assert {item.values.dtype for item in others} == {np.dtype(np.float64)}


def test_doubles_beyond_float32_become_infinite_without_a_warning(r, read):
    assert read(r.file(r.s4("m", "p", x=r.doubles([1e300])))).root.slots["x"].values.tolist() == [float("inf")]


def test_lengths_in_the_long_form_are_read(r, read):
    assert read(r.file(words(13, -1, 0, 2, 8, 9))).root.values.tolist() == [8, 9]


# ---- references ----


def test_every_kind_that_is_counted_takes_one_number(r, read):
    package = words(248, 0, 1) + r.char("package:stats")
    namespace = words(249, 0, 2) + r.char("Matrix") + r.char("1.5")
    pointer = words(22) + r.NULL + r.symbol("inside pointer")
    inside = r.environment(frame=r.cells([("hidden", r.ints([1]))]))
    root = read(
        r.file(
            r.items(
                [r.symbol("one"), inside, package, namespace, pointer, words(23), r.symbol("nine")]
                + [r.reference(i) for i in range(1, 10)]
                + [words(255, 9)]
            )
        )
    ).root
    found = [item.name if isinstance(item, RSymbol) else item.kind for item in root.items[7:]]
    assert found == [
        "one", "environment", "hidden", "package", "namespace", "external pointer", "inside pointer", "weak reference",
        "nine", "nine",
    ]  # fmt: skip


# ---- what is passed over ----


def _code(r):
    call = words(6) + r.symbol("f") + words(2) + r.symbol("x") + r.NULL
    # reps, code, constants: a repeated expression with attributes, a nested body, a plain value
    body = (
        words(21, 2)
        + r.ints([1, 2, 3])
        + words(4)
        + words(244, 0, 240) + r.cells([("srcref", r.ints([1]))]) + r.NULL + words(1) + r.symbol("g") + words(243, 0)
        + words(21) + r.ints([9]) + words(1, 13) + r.ints([5])
        + words(14) + r.doubles([1.0])
        + words(239) + r.cells([("a", r.ints([2]))]) + r.NULL + words(16) + r.strings(["s"]) + words(254) + r.NULL
    )  # fmt: skip
    closure = words(3 | r.TAG) + words(253) + r.cells([("x", words(251))]) + body
    return {
        "closure": closure,
        "byte code": body,
        "language": call,
        "promise": words(5 | r.TAG) + r.environment() + words(252) + call,
        "environment": r.environment(
            frame=r.cells([("long", r.doubles([0.0] * 200_000)), ("words", r.strings(["w"] * 50))]),
            table=r.items([r.NULL, r.cells([("f", closure)]), r.altrep("compact_intseq", r.doubles([3, 1, 1]))]),
            attributes=r.cells([("class", r.strings(["R6"]))]),
        ),
        "external pointer": words(22 | r.ATTRIBUTES) + r.NULL + r.NULL + r.cells([("a", r.ints([1]))]),
        "weak reference": words(23),
        "builtin": words(8, 3) + b"sum",
        "expression": words(20, 2) + call + call,
        "dots": words(17) + r.ints([1]) + r.NULL,
        "namespace": words(249, 0, 1) + r.char("base"),
        "package": words(248, 0, 1) + r.char("package:base"),
        "missing argument": words(251),
        "unbound value": words(252),
    }


@pytest.mark.parametrize(
    "kind",
    ["closure", "byte code", "language", "promise", "environment", "external pointer", "weak reference", "builtin",
     "expression", "dots", "namespace", "package", "missing argument", "unbound value"],
)  # fmt: skip
def test_code_is_passed_over_and_what_follows_is_right(r, read, tmp_path, kind):
    root = read(r.file(r.items([_code(r)[kind], r.ints([42])]))).root
    assert root.items[0] == Skipped(kind)
    assert root.items[1].values.tolist() == [42]
    assert not list((tmp_path / "spool").iterdir()), "nothing inside code is kept, not even in a file"


@pytest.mark.parametrize("word", [241, 242, 250, 253])
def test_environments_that_always_exist_are_one_word(r, read, word):
    assert read(r.file(words(word))).root == Skipped("environment")


def test_strings_with_attributes_are_read_without_them(r, read):
    char = words(9 | r.ATTRIBUTES | r.ASCII, 1) + b"q" + r.cells([("a", r.ints([1]))])
    assert read(r.file(words(16, 30) + char * 30)).root.tolist() == ["q"] * 30


# ---- compact vectors ----


def test_compact_sequences_are_written_out(r, read):
    root = read(
        r.file(
            r.items(
                [
                    r.altrep("compact_intseq", r.doubles([4, 1, 1]), r.cells([("a", r.ints([1]))])),
                    r.altrep("compact_intseq", r.doubles([3, 10, -1])),
                    r.altrep("compact_realseq", r.doubles([3, 1, 1])),
                ]
            )
        )
    ).root
    up, down, real = root.items
    assert (up.values.tolist(), up.values.dtype, list(up.attributes)) == ([1, 2, 3, 4], np.int32, ["a"])
    assert down.values.tolist() == [10, 9, 8]
    assert (real.values.tolist(), real.values.dtype) == ([1.0, 2.0, 3.0], np.float64)


def test_a_long_compact_sequence_goes_to_a_file(r, read, tmp_path):
    values = read(r.file(r.altrep("compact_intseq", r.doubles([1_000_000, 5, 1])))).root.values
    assert np.array_equal(values, np.arange(5, 1_000_005, dtype=np.int32))
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_numbers_that_stand_for_strings_become_strings(r, read):
    sequence = r.altrep("compact_intseq", r.doubles([3, 9, 1]))
    na = struct.unpack(">d", words(0x7FF00000, 1954))[0]

    def deferred(vector, scipen=0):
        return r.altrep("deferred_string", r.cells([("", vector)], end=r.ints([scipen])))

    root = read(
        r.file(
            r.items(
                [
                    deferred(sequence),
                    deferred(r.ints([-4, NA_INTEGER])),
                    deferred(
                        r.doubles(
                            [1.0, 0.1, 1e5, 123456.0, 1e15, 1e-5, 0.0001, 1 / 3, -2.5, float("inf"), float("nan"), na]
                        )
                    ),
                    deferred(r.doubles([1e5, 1e-5]), scipen=3),
                ]
            )
        )
    ).root
    assert [item.tolist() for item in root.items] == [
        ["9", "10", "11"],
        ["-4", None],
        ["1", "0.1", "1e+05", "123456", "1e+15", "1e-05", "1e-04", "0.333333333333333", "-2.5", "Inf", "NaN", None],
        ["100000", "0.00001"],
    ]


def test_wrappers_give_what_they_wrap_with_their_own_attributes(r, read):
    def wrap(name, vector):
        return r.altrep(
            f"wrap_{name}", r.cells([("", vector)], end=r.ints([0, 0])), r.cells([("names", r.strings(["n"]))])
        )

    vectors = {
        "integer": r.ints([1], lost=r.ints([1])),
        "real": r.doubles([2.0]),
        "logical": r.logicals([1]),
        "string": r.strings(["s"]),
        "complex": r.complexes([1j]),
        "raw": r.raw(b"a"),
        "list": r.items([r.NULL]),
    }
    root = read(r.file(r.items([wrap(name, vector) for name, vector in vectors.items()]))).root
    assert [len(item) for item in root.items] == [1] * 7
    assert [list(item.attributes) for item in root.items] == [["names"]] * 7
    assert read(r.file(r.s4("m", "p", x=wrap("real", r.doubles([2.5]))))).root.slots["x"].values.dtype == np.float32


# ---- long vectors ----


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_long_vectors_are_mapped_files_whatever_their_alignment(r, read, tmp_path, shift):
    rng = np.random.default_rng(1)
    ints = rng.integers(-(2**31), 2**31, 900_000).astype(np.int32)
    doubles = rng.normal(size=400_001)
    bytes_ = rng.integers(0, 256, 2_500_001).astype(np.uint8)
    complexes = doubles[:200_000] + 1j
    content = r.file(
        r.s4(
            "m",
            "p" * (shift + 1),
            pad=r.strings(["p" * shift]),
            i=words(13, len(ints)) + ints.astype(">i4").tobytes(),
            x=words(14, len(doubles)) + doubles.astype(">f8").tobytes(),
            y=words(14, len(doubles)) + doubles.astype(">f8").tobytes(),
            z=words(15, len(complexes)) + complexes.astype(">c16").tobytes(),
            w=words(24, len(bytes_)) + bytes_.tobytes(),
            short=r.ints([7]),
        )
    )
    slots = read(gzip.compress(content, 1)).root.slots
    for name, expected in {
        "i": ints,
        "x": doubles.astype(np.float32),
        "y": doubles,
        "z": complexes,
        "w": bytes_,
    }.items():
        values = slots[name].values
        assert isinstance(values, np.memmap)
        assert not values.flags.writeable
        assert values.dtype == expected.dtype
        assert np.array_equal(values, expected)
    assert slots["short"].values.tolist() == [7]
    assert len(list((tmp_path / "spool").iterdir())) == 5


def test_many_strings_are_read_across_the_borders_of_chunks(r, read):
    expected = [f"CELL-{i:06d}-" + "x" * (i % 11) for i in range(150_000)]
    expected[7::1000] = [None] * 150
    expected[3::500] = ["é" * (i % 3) for i in range(300)]
    expected[70_000] = "long" * 600_000
    strings = read(gzip.compress(r.file(r.items([r.strings(expected), r.ints([3])])), 1)).root.items
    assert strings[0].tolist() == expected
    assert strings[1].values.tolist() == [3]


def test_long_runs_of_strings_that_have_to_be_converted_are_read(r, read):
    convert = [5_000 < i < 50_000 or i % 7 == 0 for i in range(60_000)]
    content = b"".join(r.char(b"caf\xe9", r.LATIN1) if latin else r.char(f"c{i}") for i, latin in enumerate(convert))
    expected = ["café" if latin else f"c{i}" for i, latin in enumerate(convert)]
    assert read(r.file(words(16, 60_000) + content)).root.tolist() == expected


@FAST
@given(
    values=st.lists(
        st.none() | st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=12), max_size=40
    )
)
def test_any_strings_come_back(r, read, values):
    root = read(r.file(r.strings(values))).root
    assert root.tolist() == values
    assert len(root.offsets) == len(values) + 1


LEAVES = st.one_of(
    st.none(),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(lambda v: ("ints", v)),
    st.lists(st.floats(allow_nan=False), max_size=5).map(lambda v: ("doubles", v)),
    st.lists(st.none() | st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=5), max_size=9).map(
        lambda v: ("strings", v)
    ),
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4).map(lambda v: ("items", v)), max_leaves=20)


def _encode(r, tree):
    if tree is None:
        return r.NULL
    kind, values = tree
    return r.items([_encode(r, value) for value in values]) if kind == "items" else getattr(r, kind)(values)


def _decode(value):
    if isinstance(value, RNull):
        return None
    if isinstance(value, RList):
        return "items", [_decode(item) for item in value.items]
    if isinstance(value, RStrings):
        return "strings", value.tolist()
    assert isinstance(value, RVector)
    return ("ints" if value.kind == "integer" else "doubles"), value.values.tolist()


@FAST
@given(tree=TREES, version=st.sampled_from([2, 3]))
def test_any_tree_of_values_comes_back(r, read, tree, version):
    assert _decode(read(r.file(_encode(r, tree), version=version)).root) == tree


# ---- the file around it ----

COMPRESSORS = {
    "plain": lambda content: content,
    "gzip": lambda content: gzip.compress(content, 1),
    "gzip in two members": lambda content: gzip.compress(content[:50], 1) + gzip.compress(content[50:], 1),
    "gzip, padded": lambda content: gzip.compress(content, 1) + bytes(700),
    "bzip2": bz2.compress,
    "bzip2 in two members": lambda content: bz2.compress(content[:50]) + bz2.compress(content[50:]),
    "xz": lambda content: lzma.compress(content, preset=0),
    "zstd": zstandard.compress,
    "zstd in two frames": lambda content: zstandard.compress(content[:50]) + zstandard.compress(content[50:]),
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compression_is_recognised_and_the_whole_file_is_hashed(r, read, name):
    values = np.random.default_rng(0).integers(0, 9, 300_000).astype(np.int32)
    content = COMPRESSORS[name](r.file(words(13, len(values)) + values.astype(">i4").tobytes()))
    file = read(content)
    assert np.array_equal(file.root.values, values)
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_without_isal_plain_zlib_reads_the_same(r, read, monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    values = np.arange(600_000, dtype=np.int32)
    content = r.file(words(13, len(values)) + values.astype(">i4").tobytes())
    for packed in (gzip.compress(content, 1), gzip.compress(content[:99], 1) + gzip.compress(content[99:], 1)):
        assert np.array_equal(read(packed).root.values, values)


def test_bytes_after_the_object_are_ignored_but_hashed(r, read):
    content = r.file(r.ints([1])) + b"trailing" * 1_000_000
    file = read(content)
    assert file.root.values.tolist() == [1]
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_progress_counts_compressed_bytes_to_the_end(r, read):
    seen = []
    content = gzip.compress(r.file(words(24, 9_000_000) + np.random.default_rng(0).bytes(9_000_000)), 1)
    read(content, on_bytes=lambda done, total: seen.append((done, total)))
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert seen[-1] == (len(content), len(content))


# ---- real files ----


@pytest.mark.shared
def test_every_real_file_is_read(shared, tmp_path):
    paths = sorted(path for path in (shared / "data").rglob("*.rds") if path.stat().st_size < 4_200_000)
    assert len(paths) > 15
    for path in paths:
        root = read_rds(path, tmp_path).root
        assert isinstance(root, RS4)
        assert root.class_name in ("Seurat", "seurat"), path
        for used in tmp_path.iterdir():
            used.unlink()


@pytest.mark.shared
def test_a_sparse_matrix_of_a_real_file_is_whole(shared, tmp_path):
    root = read_rds(Path(shared / "data/experiments/pbmcsmall/v4/r.rds"), tmp_path).root
    counts = root.slots["assays"].get("RNA").slots["counts"]
    assert counts.class_name == "dgCMatrix"
    assert counts.slots["Dim"].values.tolist() == [230, 80]
    genes, cells = counts.slots["Dimnames"].items
    assert (len(genes), len(cells)) == (230, 80)
    assert len(counts.slots["i"]) == len(counts.slots["x"]) == counts.slots["p"].values[-1]
    assert float(counts.slots["x"].values.min()) >= 1


R_SCRIPT = """
path <- commandArgs(TRUE)[1]
f <- compiler::cmpfun(function(x) { y <- x; for (i in 1:9) y <- y * i; y ~ x })
e <- new.env(); assign("self", e, e); assign("f", f, e); delayedAssign("late", stop("never"), assign.env = e)
latin <- "caf\\xe9"; Encoding(latin) <- "latin1"
numbers <- c(0.1, 1/3, 1e5, 123456, 1e15, 1e-4, 100, 1e22, 1234567.891, -1e-300, 2/3 * 1e5, 5e-324)
x <- list(f = f, e = e, stats = asNamespace("stats"), base = .BaseNamespaceEnv, on = as.environment("package:stats"),
  call = quote(a(b)), expression = expression(a + b), sum = sum, formula = y ~ x, fit = lm(dist ~ speed, cars),
  sequence = 1:10, deferred = as.character(numbers), sorted = sort(c(3, 1, 2)), latin = latin, missing = c("a", NA),
  table = data.frame(n = 1:3, k = factor(c("u", "v", "u"))), pairs = pairlist(a = 1, b = "c"), long = sqrt(1:200000))
saveRDS(x, path, version = as.integer(commandArgs(TRUE)[2]), compress = commandArgs(TRUE)[3])
cat(paste0(x$deferred, collapse = " "))
"""


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="Rscript is not installed")
@pytest.mark.parametrize(("version", "compression"), [(3, "gzip"), (2, "bzip2"), (3, "xz")])
def test_what_r_itself_writes_is_read(tmp_path, version, compression):
    script = tmp_path / "write.R"
    script.write_text(R_SCRIPT)
    command = ["Rscript", "--vanilla", str(script), str(tmp_path / "r.rds"), str(version), compression]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    root = read_rds(tmp_path / "r.rds", tmp_path).root
    skipped = {name: item.kind for name, item in root.pairs() if isinstance(item, Skipped)}
    assert skipped == {
        "f": "closure",
        "e": "environment",
        "stats": "namespace",
        "base": "environment",
        "on": "package",
        "call": "language",
        "expression": "expression",
        "sum": "builtin",
        "formula": "language",
    }
    assert root.get("fit").names[:3] == ["coefficients", "residuals", "effects"]
    assert root.get("sequence").values.tolist() == list(range(1, 11))
    assert root.get("deferred").tolist() == printed.split()
    assert root.get("sorted").values.tolist() == [1, 2, 3]
    assert root.get("latin").tolist() == ["café"]
    assert root.get("missing").tolist() == ["a", None]
    assert root.get("table").get("k").attributes["levels"].tolist() == ["u", "v"]
    assert root.get("table").attributes["row.names"].values.tolist() == [NA_INTEGER, -3]
    assert root.get("pairs").names == ["a", "b"]
    assert np.array_equal(root.get("long").values, np.sqrt(np.arange(1, 200_001)))
