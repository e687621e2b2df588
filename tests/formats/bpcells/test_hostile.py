"""Damaged and hostile matrices and archives end in one sentence; nothing outside the object's folder is opened."""

import io
import os
import random
import struct
import sys
import tarfile
import time

import numpy as np
import pytest
import zstandard

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.bpcells.layer import read_disk_backed
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.build import integers, logicals
from cellworker.formats.r.rds.limits import Limits

COUNTS = np.random.default_rng(5).poisson(0.4, (60, 40)).astype(np.uint32)
ARCHIVE = "matrix_dir.tar.zst"


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "object"
    folder.mkdir()
    (tmp_path / "spool").mkdir()
    return folder


@pytest.fixture
def read(place, tmp_path):
    """Reads a tree whose matrices lie in `place`."""

    def reading(tree, limits=None):
        findings = Findings()
        outside = Outside(place, tmp_path / "spool", limits or Limits())
        try:
            return read_disk_backed(tree, outside, "layer", findings, Scratch())
        except PartBrokenError:
            findings.raise_errors()
            raise

    return reading


def refused(read, tree, limits=None) -> str:
    started = time.process_time()
    with pytest.raises(WorkerError) as caught:
        read(tree, limits)
    assert time.process_time() - started < 2
    assert caught.value.code in (ErrorCode.EXPERIMENT_UNREADABLE, ErrorCode.EXPERIMENT_UNSUPPORTED)
    return caught.value.message


# ---- folders ----


@pytest.mark.parametrize("path", ["", "/", "..", "/data/../matrix_dir", "a/..", "\\..\\matrix_dir"])
def test_a_path_that_leads_elsewhere_is_refused(bp, read, path):
    assert "expected the path of a folder" in refused(read, bp.directory(COUNTS.shape, path))


def test_no_file_outside_the_objects_folder_is_opened(bp, read, place, tmp_path):
    elsewhere = bp.folder(tmp_path / "elsewhere" / "matrix_dir", bp.files(COUNTS))
    opened = []

    def watch(event, arguments):
        if event == "open" and watching:
            opened.append(str(arguments[0]))

    watching = False
    sys.addaudithook(watch)
    watching = True
    assert "no folder 'matrix_dir'" in refused(read, bp.directory(COUNTS.shape, str(elsewhere)))
    (place / "matrix_dir").symlink_to(elsewhere)
    assert "no folder 'matrix_dir'" in refused(read, bp.directory(COUNTS.shape))
    watching = False
    assert [path for path in opened if str(elsewhere) in path] == []


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_files_of_the_folder_that_are_none_are_refused(bp, read, place, tmp_path, kind):
    folder = bp.folder(place / "matrix_dir", bp.files(COUNTS))
    target = folder / "val_data"
    target.rename(tmp_path / "val_data")
    if kind == "link":
        target.symlink_to(tmp_path / "val_data")
    elif kind == "pipe":
        os.mkfifo(target)
    else:
        target.mkdir()
    assert "val_data" in refused(read, bp.directory(COUNTS.shape))


FORMS = [("uint", True), ("double", True), ("float", False), ("uint", False)]


@pytest.mark.parametrize(("kind", "is_packed"), FORMS)
@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_without_one_of_its_files_or_with_a_short_one_is_refused(bp, read, place, kind, is_packed, version):
    files = bp.files(COUNTS, kind=kind, is_packed=is_packed, version=version)
    folder = bp.folder(place / "matrix_dir", files)
    # The names are those of the object.
    for name in files.keys() - {"row_names", "col_names"}:
        (folder / name).unlink()
        assert f"no file matrix_dir/{name}" in refused(read, bp.directory(COUNTS.shape))
        cut = [b"", files[name][:2]]
        if name not in ("version", "storage_order"):
            # What follows the last block of packed numbers is never looked at, unless it is no whole number.
            cut += [files[name][:7], files[name][:-1], files[name] + bytes(2)]
        for content in cut:
            (folder / name).write_bytes(content)
            refused(read, bp.directory(COUNTS.shape))
        (folder / name).write_bytes(files[name])
    read(bp.directory(COUNTS.shape))


@pytest.mark.parametrize(("kind", "is_packed"), FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_are_read_or_refused(bp, read, place, kind, is_packed, seed):
    files = bp.files(COUNTS, kind=kind, is_packed=is_packed)
    folder = bp.folder(place / "matrix_dir", files)
    rng = random.Random(seed)
    codes = set()
    for _ in range(60):
        name = rng.choice(sorted(files.keys() - {"row_names", "col_names"}))
        content = bytearray(files[name])
        for _ in range(rng.choice([1, 4])):
            at = rng.randrange(len(content))
            content[at : at + 4] = rng.choice([rng.randbytes(4), b"\xff" * 4, bytes(4)])
        (folder / name).write_bytes(bytes(content))
        try:
            read(bp.directory(COUNTS.shape))
        except WorkerError as problem:
            codes.add(problem.code)
        (folder / name).write_bytes(files[name])
    assert codes <= {ErrorCode.EXPERIMENT_UNREADABLE, ErrorCode.EXPERIMENT_UNSUPPORTED}


@pytest.mark.parametrize("idx", [[0, 2**32 - 1], [4, 0], [0, 3], [0, 132 * 4], [0, 4000]])
def test_blocks_with_wrong_offsets_are_refused(bp, read, place, idx):
    one = np.zeros((200, 1), np.uint32)
    one[:100] = 7
    files = bp.files(one) | {"val_idx": b"UINT32v1" + struct.pack("<2I", *idx)}
    bp.folder(place / "matrix_dir", files)
    assert "a block in matrix_dir/val" in refused(read, bp.directory(one.shape))


def test_an_index_beyond_the_matrix_is_refused(bp, read, place):
    files = bp.files(COUNTS, is_packed=False)
    bp.folder(place / "matrix_dir", files | {"index": files["index"][:-4] + struct.pack("<I", 60)})
    assert "index 60 in matrix_dir" in refused(read, bp.directory(COUNTS.shape))


def test_the_same_place_twice_is_refused(bp, read, place):
    files = bp.files(COUNTS, is_packed=False)
    at = 8 + 4 * int(np.count_nonzero(COUNTS[:, 0]))
    assert np.count_nonzero(COUNTS[:, 0]) > 1
    doubled = files["index"][: at - 4] + files["index"][at - 8 : at - 4] + files["index"][at:]
    bp.folder(place / "matrix_dir", files | {"index": doubled})
    assert "the same place twice" in refused(read, bp.directory(COUNTS.shape))


def test_an_object_that_contradicts_its_matrices_is_refused(bp, read, place):
    bp.folder(place / "matrix_dir", bp.files(COUNTS))
    assert "60 x 40 in MatrixDir" in refused(read, bp.directory((61, 40)))
    assert "order" in refused(read, bp.directory(COUNTS.shape, turned=True))
    inner = bp.directory(COUNTS.shape)
    assert "row_params" in refused(read, bp.scale(inner, COUNTS.shape, rows=np.ones(59)))
    for selection in ([0], [61], [1, 1], [-5]):
        slots = {"row_selection": integers(selection), "col_selection": integers([])}
        tree = bp.node("MatrixSubset", (len(selection), 40), matrix=inner, zero_dims=logicals([False, False]), **slots)
        assert "row_selection" in refused(read, tree)
    assert "inside a matrix of BPCells" in refused(read, bp.node("RenameDims", COUNTS.shape, matrix=integers([1])))


def test_operations_without_end_are_refused(bp, read, place):
    tree = bp.directory(COUNTS.shape)
    for _ in range(3_000):
        tree = bp.node("RenameDims", COUNTS.shape, matrix=tree)
    assert "without end" in refused(read, tree)


# ---- archives ----


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for member, one in members:
            member.size = len(one)
            archive.addfile(member, io.BytesIO(one))
    return content.getvalue()


def a_file(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_every_kind_are_read(bp, read, place, form):
    files = {f"./matrix_dir/{name}": one for name, one in bp.files(COUNTS).items()}
    noise = {"matrix_dir/" + "n" * 200 if form != tarfile.USTAR_FORMAT else "matrix_dir/notes": b"x" * 2_000}
    bp.archive(place / ARCHIVE, noise | {"matrix_dir/.DS_Store": b"x", "README": b"hello"} | files, form=form)
    draft = read(bp.directory(COUNTS.shape))
    assert draft.values.sum() == COUNTS.sum()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (a_file("../matrix_dir/val"), "outside of it"),
        (a_file("matrix_dir/../../val"), "outside of it"),
        (a_file("/etc/val"), "outside of it"),
        (a_file("matrix_dir\\..\\val"), "outside of it"),
        (special("matrix_dir/val", tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
        (special("matrix_dir", tarfile.SYMTYPE, "/tmp"), "a symbolic link"),
        (special("matrix_dir/val", tarfile.LNKTYPE, "/etc/passwd"), "a link"),
        (special("matrix_dir/val", tarfile.CHRTYPE), "no ordinary file"),
        (special("matrix_dir/val", tarfile.BLKTYPE), "no ordinary file"),
        (special("matrix_dir/val", tarfile.FIFOTYPE), "a pipe"),
        (special("../x", tarfile.DIRTYPE), "outside of it"),
    ],
)
def test_what_leads_out_of_an_archive_is_refused_before_anything_behind_it(bp, read, place, tmp_path, member, words):
    rest = [(a_file(f"matrix_dir/{name}"), one) for name, one in bp.files(COUNTS).items()]
    (place / ARCHIVE).write_bytes(zstandard.compress(tar((member, b""), *rest)))
    message = refused(read, bp.directory(COUNTS.shape))
    assert words in message
    assert message.startswith(ARCHIVE)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [ARCHIVE]


def test_too_many_members_are_refused(bp, read, place):
    one = tar((a_file("matrix_dir/x"), b""))[:512]
    (place / ARCHIVE).write_bytes(zstandard.compress(one * 20_000))
    assert "more than 10,000 files" in refused(read, bp.directory(COUNTS.shape))


def test_an_archive_that_unpacks_to_too_much_is_refused(bp, read, place):
    header = bytearray(tar((a_file("matrix_dir/val_data"), b""))[:512])
    header[124:136] = b"%011o\0" % (1 << 32)
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    packer = zstandard.ZstdCompressor().compressobj()
    content = packer.compress(bytes(header)) + packer.compress(bytes(1 << 28)) + packer.flush()
    (place / ARCHIVE).write_bytes(content)
    message = refused(read, bp.directory(COUNTS.shape), Limits(max_inflated_bytes=1 << 24))
    assert "claims" in message or "larger than" in message


@pytest.mark.parametrize("cut", [1, 100, 511, 512, 600, 3_000])
def test_a_truncated_archive_is_refused(bp, read, place, cut):
    content = tar(*((a_file(f"matrix_dir/{name}"), one) for name, one in bp.files(COUNTS).items()))
    (place / ARCHIVE).write_bytes(zstandard.compress(content[:cut]))
    message = refused(read, bp.directory(COUNTS.shape))
    assert message.startswith(ARCHIVE)
    (place / ARCHIVE).write_bytes(zstandard.compress(content)[: cut // 4 + 5])
    refused(read, bp.directory(COUNTS.shape))


@pytest.mark.parametrize("seed", range(4))
def test_any_archive_is_read_or_refused(bp, read, place, seed):
    content = tar(*((a_file(f"matrix_dir/{name}"), one) for name, one in bp.files(COUNTS).items()), form=seed % 3)
    rng = random.Random(seed)
    codes = set()
    for _ in range(60):
        bent = bytearray(content)
        for _ in range(rng.choice([1, 5, 50])):
            at = rng.randrange(min(len(bent), rng.choice([512, 6_000, len(bent)])))
            bent[at : at + 8] = rng.choice([rng.randbytes(8), b"7" * 8, b"\x80" + b"\xff" * 7, bytes(8)])
        (place / ARCHIVE).write_bytes(zstandard.compress(bytes(bent)))
        try:
            read(bp.directory(COUNTS.shape))
        except WorkerError as problem:
            codes.add(problem.code)
    assert codes <= {ErrorCode.EXPERIMENT_UNREADABLE, ErrorCode.EXPERIMENT_UNSUPPORTED}
