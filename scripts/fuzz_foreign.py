"""Small valid files of foreign formats, and how `fuzz.py` bends them."""

import importlib.util
import io
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FOREIGN", "HDF5"]

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures" / "foreign"

Files = dict[str, bytes]
Make = Callable[[random.Random], Files]
Bend = Callable[[bytes, random.Random], bytes]


def _files() -> Any:  # noqa: ANN401 - the tests' writers
    spec = importlib.util.spec_from_file_location("fuzz_foreign_files", ROOT / "tests/formats/foreign_files.py")
    if spec is None or spec.loader is None:
        raise ImportError("foreign_files")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _content(make: Callable[[Path], object]) -> Files:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        base = Path(folder)
        make(base)
        files = [path for path in base.rglob("*") if path.is_file()]
        return {str(path.relative_to(base)): path.read_bytes() for path in files}


def _one_bent(good: Files, bend: Bend) -> Make:
    """Mutate one file, remove it, or put it in the place of another."""
    names = sorted(good)

    def make(rng: random.Random) -> Files:
        files, name = dict(good), rng.choice(names)
        what = rng.random()
        if what < 0.85 or len(names) == 1:
            files[name] = bend(good[name], rng)
        elif what < 0.92:
            del files[name]
        else:
            files[name] = good[rng.choice(names)]
        return files

    return make


def tenx(bend: Bend) -> Make:
    """10x matrices in HDF5 of both versions."""
    files = _files()
    both = [
        _one_bent(_content(lambda base: files.tenx_h5(base / "r.h5")), bend),
        _one_bent(_content(lambda base: files.tenx_h5_2(base / "r.h5")), bend),
    ]
    return lambda rng: rng.choice(both)(rng)


def hdf5(name: str) -> Callable[[Bend], Make]:
    """Return a file of the fixtures."""
    return lambda bend: _one_bent({name: (FIXTURES / name).read_bytes()}, bend)


def market(bend: Bend) -> Make:
    """Matrix folders of 10x, plain."""
    files = _files()
    return _one_bent(_content(lambda base: files.tenx_folder(base, packed=False)), bend)


def packed(bend: Bend) -> Make:
    """Matrix folders of 10x, gzip."""
    files = _files()
    return _one_bent(_content(files.tenx_folder), bend)


def parse(bend: Bend) -> Make:
    """Matrix folders of Parse."""
    files = _files()
    return _one_bent(_content(files.parse_folder), bend)


def table(bend: Bend) -> Make:
    """Tables of numbers."""
    files = _files()

    def made(mark: str, *, turn: bool) -> Make:
        return _one_bent(_content(lambda base: files.table(base / "r.csv", mark, genes_are_rows=turn)), bend)

    each = [made(mark, turn=turn) for mark in (",", "\t", " ") for turn in (False, True)]
    return lambda rng: rng.choice(each)(rng)


def rhapsody(bend: Bend) -> Make:
    """Both tables of BD Rhapsody."""
    files = _files()
    both = [
        _one_bent(_content(lambda base: files.rhapsody_table(base / "r.csv")), bend),
        _one_bent(_content(lambda base: files.rhapsody_entries(base / "r.st")), bend),
    ]
    return lambda rng: rng.choice(both)(rng)


def zipped(bend: Bend) -> Make:
    """Pack a matrix folder and bend the archive, or what is in it."""
    files = _files()
    good = _content(lambda base: files.tenx_folder(base, packed=False))
    inner = _one_bent(good, bend)

    def archive(members: Files) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in members.items():
                made.writestr(f"in/{name}", content)
        return out.getvalue()

    whole = archive(good)
    return lambda rng: {"r.zip": bend(whole, rng) if rng.random() < 0.7 else archive(inner(rng))}


def samples(bend: Bend) -> Make:
    """Make a folder with a sample each."""
    files = _files()

    def build(base: Path) -> None:
        files.tenx_folder(base / "a", packed=False)
        files.tenx_folder(base / "b", counts=files.COUNTS[:9])
        files.tenx_h5(base / "c.h5")

    return _one_bent(_content(build), bend)


FOREIGN: dict[str, Callable[[Bend], Make]] = {
    "tenx": tenx,
    "loom": hdf5("spec3.loom"),
    "h5mu": hdf5("two.h5mu"),
    "old_h5ad": hdf5("old.h5ad"),
    "market": market,
    "market_gz": packed,
    "parse": parse,
    "table": table,
    "rhapsody": rhapsody,
    "zip": zipped,
    "samples": samples,
}
HDF5 = ("tenx", "loom", "h5mu", "old_h5ad", "samples")
"""Formats whose library is known to loop on damaged files."""
