"""Files of R's package qs give the same values as `.rds` files of the same objects."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.qs import blocks, scan
from cellworker.formats.r.qs.header import Algorithm
from cellworker.formats.r.qs.reader import read_qs
from cellworker.formats.r.rds.build import doubles, integers, named_list, strings
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RVector, Skipped
from cellworker.formats.r.rds.reader import read_rds
from cellworker.settings import Settings

FOX = b"the quick brown fox jumps over the lazy dog; the quick brown fox jumps again and again and again"


# ---- against the peers: xxhash 4.1 (XXH32) and lz4 4.4 ----


@pytest.mark.parametrize(
    ("content", "seeded", "unseeded"),
    [
        (b"", 0xA9458298, 0x02CC5D05),
        (b"a", 0x82C322B6, 0x550D7456),
        (b"abc", 0x6E79E829, 0x32D153FF),
        (b"0123456789abcdef", 0x737B6FCD, 0xC2C45B69),
        (FOX, 0x2ED3C00C, 0xCAA88884),
        (bytes(range(256)) * 5, 0x197A3E10, 0x1695C58B),
    ],
)
@pytest.mark.parametrize("cut", [1, 5, 16, 33, 2000])
def test_check_values_are_those_of_xxhash_however_the_bytes_come(content, seeded, unseeded, cut):
    for seed, expected in ((blocks.SEED, seeded), (0, unseeded)):
        check = blocks.CheckValue(seed)
        for start in range(0, len(content), cut):
            check.add(content[start : start + cut])
        assert check.value == expected


@pytest.mark.parametrize(
    ("stored", "content"),
    [
        (
            (
                "f01074686520717569636b2062726f776e20666f78206a756d7073206f766572201f00916c617a7920646f673b0e000f2d00039761"
                "6761696e20616e640a0050616761696e"
            ),
            FOX,
        ),
        ("1f000100ffffffffffffffbe500000000000", bytes(2000)),
        ("00", b""),
    ],
)
def test_lz4_blocks_are_read_as_lz4_wrote_them(stored, content):
    assert blocks._lz4_block(bytes.fromhex(stored), 0) == content


# ---- types ----


def test_every_type_of_number_keeps_its_bits(q, read):
    for shuffle in (0, 15):
        w = q(shuffle)
        item = w.items(
            [
                w.numbers("logical", [1, 0, -(2**31)]),
                w.numbers("integer", [-(2**31), -1, 0, 2**31 - 1]),
                w.numbers("double", [0.0, -0.0, 1e308, 5e-324, np.inf, -np.inf, np.nan]),
                w.numbers("complex", [1 + 2j, -3.5j]),
                w.numbers("raw", [0, 255, 7]),
            ]
        )
        logical, integer, double, complex_, raw = read(w.file(item)).root.items
        assert (logical.kind, logical.values.tolist()) == ("logical", [1, 0, -(2**31)])
        assert (integer.kind, integer.values.tolist()) == ("integer", [-(2**31), -1, 0, 2**31 - 1])
        assert double.values.tobytes() == np.array([0.0, -0.0, 1e308, 5e-324, np.inf, -np.inf, np.nan]).tobytes()
        assert (complex_.kind, complex_.values.tolist()) == ("complex", [1 + 2j, -3.5j])
        assert (raw.kind, raw.values.tolist()) == ("raw", [0, 255, 7])


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_lengths_of_every_width_are_read(q, read, width):
    w = q(width=width)
    item = w.items([w.numbers(kind, np.arange(5)) for kind in q.KINDS] + [w.strings(["a", "b"]), w.items([])])
    found = read(w.file(item)).root.items
    assert [len(value) for value in found] == [5] * 5 + [2, 0]


def test_strings_of_every_encoding_length_and_na(q, read):
    w = q()
    long = ["x" * n for n in (31, 32, 255, 256, 65_535, 65_536, 70_000)]
    values = [None, "", "CD3D", "Zellzähler", "細胞", *long]
    assert read(w.file(w.strings(values))).root.tolist() == values
    latin = (
        w.header(q.CHARACTER, 3) + q.string("Gr\xf6\xdfe".encode("latin-1"), q.LATIN1) + q.string("a") + q.string(None)
    )
    assert read(w.file(latin)).root.tolist() == ["Größe", "a", None]
    odd = w.header(q.CHARACTER, 2) + q.string(b"caf\xe9", q.NATIVE) + q.string(b"a\xff", q.BYTES)
    assert read(w.file(odd)).root.tolist() == ["café", "a\\xff"]


def test_many_strings_come_across_blocks(q, read):
    w = q()
    values = [None if i % 997 == 0 else f"AAACCTGA-{i}" + "é" * (i % 3 == 0) for i in range(100_000)]
    assert read(w.file(w.strings(values))).root.tolist() == values
    latin = [f"größe {i}".encode("latin-1") for i in range(3_000)]
    assert read(w.file(w.strings(latin, q.LATIN1))).root.tolist() == [f"größe {i}" for i in range(3_000)]


def test_attributes_symbols_pairlists_and_s4_objects(q, read):
    w = q()
    factor = w.with_attributes(
        w.numbers("integer", [1, 2]), {"levels": w.strings(["T", "B"]), "class": w.strings(["factor"])}
    )
    slots = {"x": w.numbers("double", [0.1]), "y": w.numbers("double", [0.1]), "empty": w.symbol("\x01NULL\x01")}
    declared = w.with_attributes(w.strings(["dgCMatrix"]), {"package": w.strings(["Matrix"])})
    item = w.items(
        [
            factor,
            w.symbol("gene"),
            w.pairlist([("a", w.NULL), (None, w.strings(["b"]))]),
            w.pairlist([("k", w.NULL)], flags=True),
            w.with_attributes(q.S4, {**slots, "class": declared}, s4=True),
            w.with_attributes(w.numbers("logical", [1]), {"dim": w.numbers("integer", [1])}, s4=True),
        ]
    )
    found = read(w.file(item)).root.items
    assert found[0].attributes["levels"].tolist() == ["T", "B"]
    assert found[1] == RSymbol("gene")
    assert found[2].names == ["a", ""]
    assert isinstance(found[2].items[0], RNull)
    assert found[3].names == ["k"]
    assert isinstance(found[4], RS4)
    assert (found[4].class_name, found[4].package) == ("dgCMatrix", "Matrix")
    # The slot x holds the values of a sparse matrix, which are kept in single precision.
    assert (found[4].slots["x"].values.dtype, found[4].slots["y"].values.dtype) == (np.float32, np.float64)
    assert isinstance(found[4].slots["empty"], RNull)
    assert found[5].kind == "logical"
    assert "dim" in found[5].attributes


def test_code_and_environments_are_passed_over(q, read):
    w = q()
    call = b"\x1c\x04" + w.NULL + w.symbol("stop") + w.pairlist([("", w.strings(["boom"]))])
    closure = struct.pack("<BBI", 0x1C, 0x13, 1 << 16) + w.NULL + w.pairlist([("x", w.NULL)]) + call
    environment = struct.pack("<BBI", 0x1C, 0x08, 1) + w.NULL + w.pairlist([("v", w.numbers("integer", [1]))]) + w.NULL
    reference = struct.pack("<BBI", 0x1C, 0x10, 1)
    locked = struct.pack("<BBI", 0x1C, 0x09, 2) + reference + w.NULL + w.items([w.NULL] * 3)
    promise, dots = (bytes([0x1C, code]) + w.NULL * 3 for code in (0x06, 0x07))
    formula = w.with_attributes(call, {"class": w.strings(["formula"]), ".Environment": reference})
    parts = [closure, environment, reference, locked, promise, dots, call, formula, w.strings(["end"])]
    found = read(w.file(w.items(parts))).root.items
    kinds = ["closure", "environment", "environment", "environment", "promise", "dots", "language", "language"]
    assert found[:-1] == [Skipped(kind) for kind in kinds]
    assert found[-1].tolist() == ["end"]


def test_objects_in_rs_own_serialisation_are_read_inside(q, read):
    w = q()
    head = b"X\n" + struct.pack(">3i", 2, 0x040202, 0x020300)
    globalenv = head + struct.pack(">i", 253)
    symbol = struct.pack(">3i", 1, 9 | 64 << 12, 1) + b"n"
    vector = head + struct.pack(">5i", 13 | 0x200, 2, 7, 8, 2 | 0x400) + symbol + struct.pack(">4i", 13, 1, 9, 254)
    # Each object has its own table of names: a reference does not reach into the one before.
    found = read(w.file(w.items([w.serialised(globalenv), w.serialised(vector), w.serialised(vector)]))).root.items
    assert found[0] == Skipped("environment")
    for value in found[1:]:
        assert value.values.tolist() == [7, 8]
        assert value.attributes["n"].values.tolist() == [9]


# ---- presets, blocks, spool ----


def platform_like(rng: np.random.Generator) -> RS4:
    x = np.round(rng.exponential(1, 30_000), 3)
    return RS4(
        "Seurat",
        "SeuratObject",
        {
            "counts": RS4("dgCMatrix", "Matrix", {"i": integers(rng.integers(0, 9_000, 30_000)), "x": doubles(x)}),
            "names": strings([f"gene-{i}" for i in range(5_000)]),
            "misc": named_list({"a": RNull(), "b": RVector(np.arange(9, dtype=np.int32) % 2, "logical")}),
        },
    )


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("preset", ["fast", "balanced", "high", "archive", "uncompressed"])
def test_every_preset_gives_the_same_object(q, read, as_plain, preset, hashed, counted):
    algorithm, shuffle = q.PRESETS[preset]
    tree = platform_like(np.random.default_rng(1))
    w = q(shuffle)
    content = w.file(w.value(tree), algorithm, hashed=hashed, counted=counted, block=100_000)
    file = read(content, Limits(spool_bytes=50_000))
    assert file.header.algorithm.name.lower() == algorithm
    expected = platform_like(np.random.default_rng(1))
    expected.slots["counts"].slots["x"].values = expected.slots["counts"].slots["x"].values.astype(np.float32)
    assert as_plain(file.root) == as_plain(expected)
    spooled = file.root.slots["counts"].slots["x"].values
    assert isinstance(spooled, np.memmap)
    assert not spooled.flags.writeable


def test_a_long_shuffled_vector_goes_over_the_disk(q, read, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_PLANES_IN_MEMORY", 1000)
    values = np.random.default_rng(3).normal(size=300_001)
    w = q()
    item = w.items([w.numbers("double", values), w.numbers("complex", values[:5] * 1j), w.numbers("integer", [4])])
    found = read(w.file(item), Limits(spool_bytes=2_000)).root.items
    assert np.array_equal(found[0].values, values)
    assert np.array_equal(found[1].values, values[:5] * 1j)
    assert len(list((tmp_path / "spool").iterdir())) == 1  # what was on disk twice is gone


def test_files_before_0_18_have_no_magic_number(q, read):
    w = q(0)
    whole = w.file(w.strings(["old"]))
    assert read(b"\0\1\0\0" + whole[12:]).root.tolist() == ["old"]
    assert read(b"\0\1\0\0" + whole[12:]).header.algorithm is Algorithm.ZSTD


def test_progress_ends_with_the_whole_file(q, read):
    seen = []
    w = q()
    content = w.file(w.numbers("integer", np.arange(400_000)), "uncompressed")
    read(content, on_bytes=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(content), len(content))
    assert seen == sorted(seen)


# ---- properties ----

_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)
_leaves = st.one_of(
    st.just(RNull()),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=300).map(integers),
    st.lists(st.floats(width=64, allow_nan=False), max_size=300).map(doubles),
    st.lists(st.none() | _text, max_size=40).map(strings),
    st.binary(max_size=300).map(lambda raw: RVector(np.frombuffer(raw, np.uint8), "raw")),
    st.lists(st.integers(0, 1), max_size=40).map(lambda x: RVector(np.array(x, np.int32), "logical")),
    st.lists(st.complex_numbers(allow_nan=False), max_size=9).map(
        lambda x: RVector(np.array(x, np.complex128), "complex")
    ),
)
_slot = st.text(st.characters(codec="ascii", categories=["L"]), min_size=2, max_size=8)


def _attributed(value: RVector | RStrings | RList, attributes: dict) -> RVector | RStrings | RList:
    if attributes and not isinstance(value, RNull):
        value.attributes = attributes
    return value


_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=40).map(RList),
        st.dictionaries(_slot.filter(lambda name: name != "class"), inner, max_size=5).map(
            lambda slots: RS4("A", "pkg", slots)
        ),
        st.tuples(_leaves, st.dictionaries(_slot, inner, max_size=3)).map(lambda both: _attributed(*both)),
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(
    tree=_trees,
    algorithm=st.sampled_from(["zstd", "lz4", "zstd_stream", "uncompressed"]),
    shuffle=st.integers(0, 15),
    block=st.sampled_from([7, 100, 1 << 19]),
    spool=st.sampled_from([16, 1 << 20]),
)
def test_what_is_written_is_read(q, as_plain, tmp_path_factory, tree, algorithm, shuffle, block, spool):
    folder = tmp_path_factory.mktemp("property")
    w = q(shuffle)
    (folder / "r.qs").write_bytes(w.file(w.value(tree), algorithm, block=block))
    assert as_plain(read_qs(folder / "r.qs", folder, Limits(spool_bytes=spool)).root) == as_plain(tree)


# ---- as experiments ----


def test_a_folder_with_both_forms_is_served_from_qs(q, tmp_path, trees):
    settings_ = Settings(store_dir=tmp_path / "stores", threads=1, load_memory_gb=1.0, load_timeout_s=60.0)
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "r.rds").write_bytes(b"never looked at")
    w = q()
    (folder / "r.qs").write_bytes(w.file(w.value(trees.platform()), "lz4"))
    (folder / "cell_sets.json").write_text(json.dumps({"cellSets": []}))
    opened = open_experiment(folder, settings_)
    assert opened.source == folder / "r.qs"
    assert opened.experiment.barcodes[:2] == ["cell0", "cell1"]
    copy = tmp_path / "copy.bin"
    copy.write_bytes((folder / "r.qs").read_bytes())
    assert open_experiment(copy, settings_).store == opened.store  # told by its content, whatever its name


@pytest.mark.shared
@pytest.mark.parametrize(
    ("qs", "rds"),
    [
        ("pbmc3k_seurat.qs", "checkatlas_pbmc3k_v4/pbmc3k_seurat.rds"),
        ("seurat_small.qs", "pointillism_pbmc_v2/seurat_small.rds"),
    ],
)
def test_both_forms_of_an_object_give_the_same_tree(shared, tmp_path, as_plain, qs, rds):
    folders = [tmp_path / "qs", tmp_path / "rds"]
    for folder in folders:
        folder.mkdir()
    found = read_qs(shared / "data" / "qs" / qs, folders[0])
    assert as_plain(found.root) == as_plain(read_rds(shared / "data" / "objects" / rds, folders[1]).root)
    assert found.header.hashed


@pytest.mark.shared
@pytest.mark.parametrize(
    ("qs", "rds"),
    [
        ("pbmc3k_seurat.qs", "checkatlas_pbmc3k_v4/pbmc3k_seurat.rds"),
        ("seurat_small.qs", "pointillism_pbmc_v2/seurat_small.rds"),
    ],
)
def test_both_forms_of_an_object_give_the_same_experiment(shared, tmp_path, qs, rds):
    settings_ = Settings(store_dir=tmp_path / "stores", threads=1, load_memory_gb=1.5, load_timeout_s=60.0)
    a = open_experiment(shared / "data" / "qs" / qs, settings_)
    b = open_experiment(shared / "data" / "objects" / rds, settings_)
    assert a.store != b.store
    one, other = a.experiment, b.experiment
    assert (one.barcodes, one.genes, one.origin) == (other.barcodes, other.genes, other.origin)
    assert np.array_equal(one.cell_ids, other.cell_ids)
    assert list(one.metadata) == list(other.metadata)
    assert list(one.reductions) == list(other.reductions)
    assert a.cell_sets.encode() == b.cell_sets.encode()
    # The stores differ in nothing but the content hash of their source.
    assert abs(a.store.stat().st_size - b.store.stat().st_size) < 4096
