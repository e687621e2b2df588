"""AnnData files of ill will: refused with a sentence, before anything outside of them is touched."""

import contextlib
import json
import os
import pickle
import shutil
import struct

import h5py
import numpy as np
import pytest
from tests.formats.anndata_files import read
from tests.formats.test_anndata_reading import COUNTS, adata, write

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.anndata.containers.codecs import decompress
from cellworker.formats.anndata.containers.opening import open_anndata
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings

SECRET = b"root:x:0:0:not for the reader's eyes"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def h5ad(tmp_path):
    from scipy import sparse

    return write(adata(sparse.csr_matrix(COUNTS)), tmp_path, "h5ad")


@pytest.fixture
def zarr2(tmp_path):
    return write(adata(COUNTS), tmp_path, "zarr-2")


def refusal(path, **limits) -> str:
    with pytest.raises(WorkerError) as caught:
        read(path, **limits)
    assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    return caught.value.message


def external_link(file, secret):
    file["obs/secret"] = h5py.ExternalLink(str(secret), "/x")


def soft_link(file, secret):
    file["obs/secret"] = h5py.SoftLink("/X")


def external_storage(file, secret):
    file["obs"].create_dataset("secret", (len(SECRET),), "u1", external=[(str(secret), 0, len(SECRET))])


def virtual(file, secret):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", (6,))
    file.create_virtual_dataset("obs/secret", layout)


def named_type(file, secret):
    file["obs/secret"] = np.dtype("f8")


def reference(file, secret):
    file["obs"].create_dataset("secret", data=[file["X"].ref], dtype=h5py.ref_dtype)


def foreign_filter(file, secret):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2,))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((6,))
    h5py.h5d.create(file["obs"].id, b"secret", h5py.h5t.NATIVE_FLOAT, space, plist)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (external_link, "obs/secret is a link to another file"),
        (soft_link, "obs/secret is a soft link"),
        (external_storage, "obs/secret lie in another file"),
        (virtual, "obs/secret is put together from other datasets"),
        (named_type, "obs/secret is a data type of its own"),
        (reference, "obs/secret holds values that are neither numbers nor text"),
        (foreign_filter, "obs/secret is compressed with a filter that is not HDF5's own"),
    ],
)
def test_what_reaches_out_of_an_hdf5_file_is_refused(h5ad, secret, attack, words):
    with h5py.File(h5ad, "a") as file:
        attack(file, secret)
    assert words in refusal(h5ad)


def test_a_huge_claim_in_a_small_file_is_refused(h5ad):
    with h5py.File(h5ad, "a") as file:
        del file["X"]
        file.create_dataset("X", (6, 1 << 30), "f4", chunks=(1, 1 << 20))
    assert "claims to hold 24.0 GiB but stores only 0 bytes" in refusal(h5ad)


def test_claims_add_up(h5ad):
    with h5py.File(h5ad, "a") as file:
        for number in range(6):
            file.create_dataset(f"layers/l{number}", (1 << 20,), "u1", chunks=True)
    assert "LOAD_MAX_GB" in refusal(h5ad, max_bytes=4 << 20)


def test_groups_in_circles_end(h5ad):
    with h5py.File(h5ad, "a") as file:
        file["uns/again"] = file["/"]
    draft, findings = read(h5ad)
    assert draft is not None
    assert not findings.errors


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("indices", [99] * 12), ("indices", [-1] * 12), ("indptr", [0, 9, 2, 3, 4, 5, 12]), ("indptr", [0, 1]),
        ("indptr", [0, 2, 3, 6, 7, 9, 99]), ("data", [1.0]),
    ],
)  # fmt: skip
def test_indices_that_would_crash_a_kernel_are_refused(h5ad, part, values):
    with h5py.File(h5ad, "a") as file:
        kind = file[f"X/{part}"].dtype
        del file[f"X/{part}"]
        file["X"].create_dataset(part, data=np.array(values, kind))
    assert "X" in refusal(h5ad)


def test_codes_beyond_the_categories_are_refused(h5ad):
    with h5py.File(h5ad, "a") as file:
        group = file["obs"].create_group("c")
        group.attrs["encoding-type"] = "categorical"
        group.create_dataset("codes", data=np.array([0, 1, 2, 3, 4, 5], np.int8))
        group.create_dataset("categories", data=["a"], dtype=h5py.string_dtype())
    assert "obs/c/codes" in refusal(h5ad)


def test_a_file_cut_short_anywhere_is_refused_in_its_sandbox(h5ad, tmp_path):
    content = h5ad.read_bytes()
    settings = Settings(store_dir=tmp_path / "stores", threads=1, load_memory_gb=1.0, load_timeout_s=60.0)
    for part in (0.1, 0.5, 0.95):
        cut = tmp_path / f"cut{part}.h5ad"
        cut.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(WorkerError) as caught:
            open_experiment(cut, settings)
        assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    assert not list((tmp_path / "stores").glob("*.spool"))


def test_flipped_bytes_never_do_more_than_refuse(h5ad):
    content = h5ad.read_bytes()
    rng = np.random.default_rng(11)
    for _ in range(60):
        bent = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            bent[place] ^= int(rng.integers(1, 256))
        h5ad.write_bytes(bent)
        with contextlib.suppress(WorkerError):
            read(h5ad)


def bend(path, name, **changes):
    about = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(about | changes))


def test_a_link_in_a_zarr_store_is_refused(zarr2, secret):
    (zarr2 / "obs" / "stolen").symlink_to(secret)
    assert "stolen in it is a link" in refusal(zarr2)
    (zarr2 / "obs" / "stolen").unlink()
    (zarr2 / "obs" / "stolen").symlink_to(secret.parent, target_is_directory=True)
    assert "stolen in it is a link" in refusal(zarr2)


def test_a_pipe_in_a_zarr_store_is_refused(zarr2):
    os.mkfifo(zarr2 / "X" / "0.1")
    assert "no ordinary file" in refusal(zarr2)


def test_pickles_in_a_zarr_store_are_never_opened(zarr2, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    # With pandas 3, anndata writes names with a mask beside them.
    names = "obs/_index" if (zarr2 / "obs/_index/.zarray").exists() else "obs/_index/values"
    (zarr2 / names / "0").write_bytes(pickle.dumps(Bomb()))
    bend(zarr2, f"{names}/.zarray", filters=[{"id": "pickle"}], compressor=None)
    assert "the codec 'pickle'" in refusal(zarr2)
    bend(zarr2, f"{names}/.zarray", filters=None, compressor={"id": "pickle"})
    assert "objects of Python" in refusal(zarr2) or "the codec" in refusal(zarr2)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [6, -4]}, {"shape": "all"}, {"chunks": [0, 4]}, {"chunks": [6]}, {"dtype": "nonsense"},
        {"dtype": "<f8"}, {"dimension_separator": "/../../"}, {"shape": [2**60, 4]}, {"chunks": [2**40, 4]},
        {"compressor": {"id": "zstd"}}, {"compressor": {"id": "bz2"}}, {"compressor": {"id": "lz4"}},
        {"compressor": {"id": "gzip"}}, {"compressor": {"id": "lz77"}}, {"shape": [1 << 40, 4]},
    ],
)  # fmt: skip
def test_wrong_descriptions_are_refused(zarr2, changes):
    bend(zarr2, "X/.zarray", **changes)
    with contextlib.suppress(WorkerError):
        draft, findings = read(zarr2)
        assert findings.errors
        assert draft is None


def test_names_that_climb_out_of_a_zarr_store_lead_nowhere(zarr2, tmp_path):
    shutil.copytree(zarr2 / "var", tmp_path / "outside")
    bend(zarr2, "obs/.zattrs", _index="../../outside/_index")
    _, findings = read(zarr2)
    assert any(problem.field == "obs" for problem in findings.errors)
    with open_anndata(zarr2, 1 << 30) as root:
        assert root.get("../outside") is None
        assert root.get("obs/../var") is None


def test_a_piece_never_grows_beyond_its_size(tmp_path):
    import bz2
    import zlib

    import zstandard

    bombs = {
        "zstd": zstandard.compress(bytes(1 << 24)), "zlib": zlib.compress(bytes(1 << 24)),
        "bz2": bz2.compress(bytes(1 << 24)), "lz4": struct.pack("<I", 1 << 24) + b"\0",
        "blosc": struct.pack("<BBBBIII", 2, 1, 0x21, 4, 1 << 24, 1 << 20, 16),
    }  # fmt: skip
    for name, bomb in bombs.items():
        with pytest.raises(WorkerError):
            decompress(name, bomb, 1000, "X")


def test_lz4_and_blosc_survive_any_bytes():
    import numcodecs

    rng = np.random.default_rng(5)
    honest = bytes(numcodecs.Blosc(cname="lz4", shuffle=1).encode(rng.poisson(1, 4000).astype("<i4")))
    for _ in range(400):
        bent = bytearray(honest)
        for place in rng.integers(0, len(bent), 4):
            bent[place] = int(rng.integers(0, 256))
        with contextlib.suppress(WorkerError):
            assert len(decompress("blosc", bytes(bent), 16_000, "X")) <= 16_000


@pytest.mark.parametrize("name", ["lz4", "lz4hc", "zstd", "zlib"])
@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_blosc_is_undone_as_it_was_done(name, shuffle):
    import numcodecs

    rng = np.random.default_rng(1)
    for dtype in ("u1", "<i2", "<f4", "<f8", "S3", "S20"):
        for size in (0, 1, 7, 5000, 100_003):
            width = int(dtype[1:]) if dtype[0] == "S" else 1
            values = rng.integers(0, 9, size * width).astype("u1")
            values = values.view(dtype) if width > 1 else values.astype(dtype)
            packed = bytes(numcodecs.Blosc(cname=name, clevel=5, shuffle=shuffle).encode(values))
            assert decompress("blosc", packed, values.nbytes, "X") == values.tobytes()


@pytest.mark.parametrize("codec", ["Zstd", "LZ4", "Zlib", "GZip", "BZ2"])
def test_other_codecs_are_undone(codec):
    import numcodecs

    values = np.random.default_rng(2).poisson(1, 10_000).astype("<f4")
    made = getattr(numcodecs, codec)()
    assert decompress(made.codec_id, bytes(made.encode(values)), values.nbytes, "X") == values.tobytes()
