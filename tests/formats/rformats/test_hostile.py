"""Damaged and hostile files of these kinds end in one sentence, soon, and within the limits."""

import random
import struct
import time
import tracemalloc

import h5py
import numpy as np
import pytest
import zstandard
from tests.formats.rformats.conftest import FIXTURES, plain, qs2

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.bioconductor.reader import read_bioconductor
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.build import strings
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RS4, RVector
from cellworker.formats.seurat.h5.files import read_object
from cellworker.formats.seurat.read.reader import read_seurat

WITHIN_S = 2.0
MEMORY = 64 << 20
USUAL = Limits()


def read(path, tmp_path, limits=USUAL):
    """Read a file as far as an experiment, and return what is in it."""
    findings = Findings()
    found = read_object(path, tmp_path, limits, lambda _done, _total: None, findings=findings)
    if isinstance(found.root, RS4) and "colData" in found.root.slots:
        return read_bioconductor(found.root, findings, Scratch(tmp_path)), findings
    return read_seurat(found.root, findings, Scratch(tmp_path)), findings


def refused(content: bytes, tmp_path, limits=USUAL) -> str:
    path = tmp_path / "x.qs2"
    path.write_bytes(content)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(WorkerError) as caught:
            read(path, tmp_path, limits)
        assert time.process_time() - started < WITHIN_S
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 8 * len(content)
    finally:
        tracemalloc.stop()
    assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE
    assert caught.value.message.rstrip()[-1] == "."
    return caught.value.message


SOUND = plain("native.rds")


def test_a_qs2_file_cut_anywhere_is_refused(tmp_path):
    whole = qs2(SOUND, block=9_000)
    for end in range(5, len(whole) - 1, len(whole) // 40):
        refused(whole[:end], tmp_path)


def test_a_changed_byte_of_a_qs2_file_is_noticed(tmp_path):
    whole, rng = qs2(SOUND, block=9_000), random.Random(3)
    for _ in range(60):
        at = rng.randrange(16, len(whole))
        refused(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :], tmp_path)


def test_a_qs2_file_without_a_check_value_is_read(tmp_path):
    path = tmp_path / "x.qs2"
    path.write_bytes(qs2(SOUND, check=0))
    draft, _ = read(path, tmp_path)
    assert len(draft.barcodes) == 30


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({4: 9}, "format version is 9"),
        ({5: 4}, "compression, number 4"),
        ({6: 7}, "byte order is not known"),
        ({16: 1, 17: 2}, "check value"),
        ({24: 0, 25: 0, 26: 0, 27: 0}, "block claims 0 bytes"),
        ({24: 255, 25: 255, 26: 255, 27: 127}, "block claims 2,147,483,647 bytes"),
    ],
)
def test_a_wrong_qs2_header_is_named(tmp_path, change, words):
    content = bytearray(qs2(SOUND))
    for at, value in change.items():
        content[at] = value
    assert words in refused(bytes(content), tmp_path)


def test_a_qs2_block_that_grows_without_end_is_refused(tmp_path):
    stored = zstandard.compress(bytes(64 << 20))
    body = struct.pack("<I", len(stored)) + stored
    assert "claims to hold 67,108,864 bytes" in refused(qs2(b"", check=0) + body, tmp_path)
    endless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    refused(qs2(b"", check=0) + struct.pack("<I", len(endless)) + endless, tmp_path)


def test_a_qs2_file_is_held_to_the_size_limit(tmp_path):
    assert "LOAD_MAX_GB" in refused(qs2(SOUND), tmp_path, Limits(max_inflated_bytes=9_000))


@pytest.mark.parametrize("name", ["one.rda", "native.rds", "old_se.rds"])
@pytest.mark.parametrize("seed", range(3))
def test_bent_workspaces_and_objects_are_read_or_refused(tmp_path, name, seed):
    rng, whole = random.Random(seed), plain(name)
    path = tmp_path / "x"
    outcomes = set()
    for _ in range(5 if name == "old_se.rds" else 25):
        bent = bytearray(whole)
        for _ in range(rng.choice([1, 3, 30])):
            at = rng.randrange(len(bent))
            bent[at : at + rng.choice([0, 1, 4])] = rng.randbytes(rng.choice([1, 4]))
        path.write_bytes(bytes(bent))
        started = time.process_time()
        try:
            draft, findings = read(path, tmp_path)
            outcomes.add("read" if draft is not None and not findings.errors else "findings")
        except (WorkerError, PartBrokenError):
            outcomes.add("refused")
        assert time.process_time() - started < WITHIN_S
    assert "refused" in outcomes


def test_a_workspace_that_is_no_list_of_objects_is_refused(tmp_path):
    inner = b"X\n" + struct.pack(">iiiii", 2, 0x40202, 0x20300, 13, 1) + struct.pack(">i", 5)
    assert "no list of objects" in refused(b"RDX2\n" + inner, tmp_path)


def test_a_workspace_of_text_is_named(tmp_path):
    assert "as text (ascii = TRUE)" in refused(b"RDA3\nA\n3\n", tmp_path)


def nested(depth: int) -> bytes:
    """A workspace whose only object is a list in a list in a list."""
    opening = struct.pack(">ii", 19, 1)
    tail = struct.pack(">ii", 19, 0) + struct.pack(">i", 254)
    name = struct.pack(">ii", 1, 9 | 64 << 12) + struct.pack(">i", 1) + b"x"
    head = b"RDX2\nX\n" + struct.pack(">iii", 2, 0x40202, 0x20300)
    return head + struct.pack(">i", 1026) + name + opening * depth + tail


def test_nesting_without_end_is_refused(tmp_path):
    assert "nested too deeply" in refused(nested(100_000), tmp_path)


# ---- trees that contradict themselves ----


def bent_tree(tmp_path, bend):
    found = read_object(FIXTURES / "sce.rds", tmp_path, Limits(), lambda _done, _total: None)
    bend(found.root)
    findings = Findings()
    try:
        assert read_bioconductor(found.root, findings, Scratch(tmp_path)) is None
    except WorkerError as error:
        return error.message
    return findings.errors[0].sentence


def assays_of(root):
    return root.slots["assays"].slots["data"].slots["listData"]


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda root: root.slots.pop("colData"), "updateObject"),
        (lambda root: root.slots.update(colData=strings(["a"])), "no table of cells"),
        (lambda root: assays_of(root).items.clear(), "no assays"),
        (lambda root: assays_of(root).items[0].slots["Dim"].values.__setitem__(1, 3), "expected 3"),
        (lambda root: assays_of(root).items[0].slots["i"].values.__setitem__(0, -7), "outside 0 to 49"),
        (lambda root: assays_of(root).items.__setitem__(0, strings(["text"])), "a sparse or dense matrix"),
        (
            lambda root: root.slots["colData"].slots["rownames"].__setattr__("offsets", np.zeros(3, np.int64)),
            "expected 50 x 2",
        ),
    ],
)
def test_an_object_that_contradicts_itself_is_named(tmp_path, bend, words):
    def writable(root):
        for item in assays_of(root).items:
            for name in ("i", "p", "x", "Dim"):
                vector = item.slots[name]
                vector.values = np.array(vector.values)
        bend(root)

    assert words in bent_tree(tmp_path, writable)


# ---- h5Seurat ----


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "copy.h5seurat"
    path.write_bytes((FIXTURES / "object.h5seurat").read_bytes())
    return path


def told(path, tmp_path) -> str:
    started = time.process_time()
    with pytest.raises(WorkerError) as caught:
        read(path, tmp_path)
    assert time.process_time() - started < WITHIN_S
    return caught.value.message


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda file: file.pop("cell.names"), "cell.names: expected text"),
        (lambda file: file.pop("meta.data"), "meta.data: expected a data frame"),
        (lambda file: file.pop("assays/RNA/features"), "assays/RNA/features"),
        (lambda file: [file.pop(f"assays/RNA/{kind}") for kind in ("counts", "data")], "neither counts nor data"),
        (lambda file: file.pop("assays/RNA/counts/indptr"), "assays/RNA/counts: expected a sparse or dense matrix"),
        (lambda file: file["assays/RNA/counts"].attrs.__setitem__("dims", [5, 5]), "a matrix of 5 x 5"),
        (lambda file: file["meta.data/letter"].parent["RNA_snn_res.1/values"].__setitem__(0, 99), "none of the"),
        (lambda file: file.__setitem__("misc/away", h5py.ExternalLink("/etc/passwd", "/x")), "a link to another file"),
        (lambda file: file.__setitem__("misc/soft", h5py.SoftLink("/assays")), "a soft link"),
        (lambda file: file.pop("reductions/pca/cell.embeddings"), "cell.embeddings: expected a matrix"),
    ],
)
def test_an_h5seurat_file_that_contradicts_itself_is_named(copy, tmp_path, bend, words):
    with h5py.File(copy, "r+") as file:
        bend(file)
    message = told(copy, tmp_path)
    assert words in message
    assert "h5Seurat" in message


def test_an_h5seurat_file_that_claims_more_than_it_holds_is_refused(copy, tmp_path):
    with h5py.File(copy, "r+") as file:
        file.create_dataset("misc/huge", (1 << 40,), np.float64, chunks=(1 << 16,), compression="gzip")
    assert "claims to hold" in told(copy, tmp_path)


def test_an_h5seurat_file_is_held_to_the_size_limit(copy, tmp_path):
    with pytest.raises(WorkerError, match="claim to hold more than"):
        read(copy, tmp_path, Limits(max_inflated_bytes=10_000))


def test_the_kinds_of_values_in_an_h5seurat_file_are_rs(copy, tmp_path):
    root = read_object(copy, tmp_path, Limits(), lambda _done, _total: None).root
    misc = root.slots["misc"]
    assert misc.names == ["note", "deep"]
    deep = misc.get("deep")
    assert (deep.get("numbers").kind, deep.get("numbers").values.tolist()) == ("integer", [1, 2, 3])
    truth = deep.get("truth")
    assert isinstance(truth, RVector)
    assert (truth.kind, truth.values.tolist()) == ("logical", [1, -(2**31)])
