"""Mutates small valid files at random and reads each as an experiment: ``make fuzz SECONDS=30``.

Each reader runs in a sandboxed child process for this many seconds. A finding is any outcome but an experiment or a
refusal: a crash, a hang, out of memory, an unexpected exception, another file opened, a program
started, a connection made. The file that caused it is kept, and the exit status is 1.

Options: ``--seconds N``, ``--seed N``, ``--reader NAME`` (all by default), ``--keep FOLDER``.
"""

import argparse
import gzip
import importlib.util
import io
import json
import lzma
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing  # before NumPy 2.2 it starts lscpu as it is imported: not once the hook below listens
import zstandard

from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Genes
from cellworker.experiment.store.store import open_store
from cellworker.formats.common.locating import locate
from cellworker.formats.convert.converting import write_annotated_copy
from cellworker.formats.opening.loading import load
from cellworker.formats.opening.sandbox import run_sandboxed
from cellworker.formats.opening.shelf import store_file
from cellworker.formats.r.rds.build import factor, integers, strings
from cellworker.formats.r.rds.model import RList
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.write.platform_object import ObjectParts, ReductionPart, SparsePart, seurat_object
from cellworker.progress import silent
from fuzz_foreign import FOREIGN, HDF5

ROOT = Path(__file__).resolve().parents[1]
BATCH = 400
"""Cases of one child."""
ALLOWED = {os.devnull, "/proc/meminfo", *(f"/sys/fs/cgroup/memory.{name}" for name in ("max", "current", "stat"))}
"""Files outside that every opening reads: they tell the free memory."""
HANGS_S = 30.0
"""Seconds without an end after which a child is killed."""
LOOPS = {"h5ad": 5.0, "h5seurat": 5.0, **dict.fromkeys(HDF5, 5.0)}
"""Formats whose library (libhdf5) is known to loop on damaged files: the time limit ends it, which is no finding."""
SLOW_S = 5.0
"""Max processor seconds for reading so small a file."""
MEMORY_BYTES = 1 << 30
STARTS = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "socket.connect", "pickle.")
CHANGES = ("os.link", "os.symlink", "os.chmod", "os.chown", "shutil.")

Files = dict[str, bytes]
Make = Callable[[random.Random], Files]


# ---- bending ----


def bent(content: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, or cut, repeat, move or insert some."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        if not out:
            break
        at = rng.randrange(len(out))
        size = rng.choice([1, 2, 4, 8, 16, 64])
        kind = rng.randrange(8)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            width = rng.choice([1, 2, 4, 8])
            number = rng.choice([0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]) % 2 ** (8 * width)
            out[at : at + width] = number.to_bytes(width, rng.choice(["little", "big"]))
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at:at] = out[at : at + size]
        elif kind == 5:
            other = rng.randrange(len(out))
            out[at : at + size] = out[other : other + size]
        elif kind == 6:
            out[at:at] = rng.randbytes(size)
        else:
            del out[rng.randrange(len(out)) :]
    return bytes(out)


# ---- what is read ----


def _tests(name: str) -> Any:  # noqa: ANN401 - the tests' writers
    path = ROOT / "tests" / "formats" / name / "conftest.py"
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # what they import of the other tests
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _tree() -> Any:  # noqa: ANN401 - a parsed object
    counts = np.random.default_rng(1).poisson(0.8, (12, 9))
    rows, columns = np.nonzero(counts)
    indptr = np.searchsorted(rows, np.arange(13)).astype(np.int32)
    part = SparsePart(indptr, columns.astype(np.int32), counts[rows, columns].astype(np.float64))
    names = [f"GENE{i}" for i in range(9)]
    return seurat_object(
        ObjectParts(
            [f"cell{i}" for i in range(12)], Genes([f"ENSG{i}" for i in range(9)], names, names), part, part,
            {"cells_id": integers(range(12)), "samples": factor(np.arange(12) % 2, ["a", "b"])},
            {"pca": ReductionPart(np.ones((12, 3)), "PC_")}, {"variance": np.ones(9)},
        )
    )  # fmt: skip


def _rds(tree: Any) -> bytes:  # noqa: ANN401 - a parsed object
    out = io.BytesIO()
    write_rds(tree, out, compression="none")
    return out.getvalue()


def rds() -> Make:
    """Files of saveRDS, plain and compressed."""
    content = _rds(_tree())

    def make(rng: random.Random) -> Files:
        kind = rng.randrange(4)
        if kind == 0:
            return {"r.rds": bent(gzip.compress(content, 1), rng)}
        return {"r.rds": gzip.compress(bent(content, rng), 1) if kind == 1 else bent(content, rng)}

    return make


def qs() -> Make:
    """Files of the package qs, of every way of compression, most of them without a check value."""
    writer = _tests("qs").Q
    tree = _tree()

    def make(rng: random.Random) -> Files:
        w = writer(rng.choice([0, 15]))
        item, way = w.value(tree), rng.choice(["zstd", "lz4", "zstd_stream", "uncompressed"])
        if rng.randrange(4) == 0:
            return {"r.qs": bent(w.file(item, way, hashed=False), rng)}
        return {"r.qs": w.file(bent(item, rng), way, hashed=False, block=rng.choice([300, 1 << 19]))}

    return make


def _fixture(name: str) -> bytes:
    content = (ROOT / "tests" / "fixtures" / "rformats" / name).read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def rda() -> Make:
    """Workspaces of save, plain and compressed, with one object that can be served, and with several."""
    contents = [_fixture("one.rda"), lzma.decompress(_fixture("several.RData"))]

    def make(rng: random.Random) -> Files:
        content = rng.choice(contents)
        kind = rng.randrange(4)
        if kind == 0:
            return {"r.rda": bent(gzip.compress(content, 1), rng)}
        return {"r.rda": gzip.compress(bent(content, rng), 1) if kind == 1 else bent(content, rng)}

    return make


def qs2() -> Make:
    """Files of the package qs2: the container bent, and what is in it, most of them without a check value."""
    pack = _tests("rformats").qs2
    content = _fixture("native.rds")

    def make(rng: random.Random) -> Files:
        if rng.randrange(3) == 0:
            return {"r.qs2": bent(pack(content, block=9_000, check=0), rng)}
        return {"r.qs2": pack(bent(content, rng), block=rng.choice([300, 1 << 20]), check=0)}

    return make


def bioconductor() -> Make:
    """Objects of Bioconductor in every layout."""
    contents = [_fixture(f"{name}.rds") for name in ("sce", "dense", "bare", "delayed", "on_disk", "old_se")]

    def make(rng: random.Random) -> Files:
        return {"r.rds": bent(rng.choice(contents), rng)}

    return make


def h5seurat() -> Make:
    """Files of SeuratDisk."""
    good = _fixture("object.h5seurat")
    return lambda rng: {"r.h5seurat": bent(good, rng)}


def bpcells() -> Make:
    """Objects whose layers lie in a folder or an archive beside them."""
    bp = _tests("bpcells").Bp
    tree = _tree()
    counts = np.random.default_rng(1).poisson(0.8, (9, 12)).astype(np.uint32)
    slots = tree.slots["assays"].items[0].slots
    inner = bp.node("RenameDims", counts.shape, matrix=bp.directory(counts.shape))
    slots["counts"], slots["data"] = inner, bp.log_normalised(inner, counts)
    for layer in (slots["counts"], slots["data"]):
        layer.slots["dimnames"] = _names()
    content = _rds(tree)

    def make(rng: random.Random) -> Files:
        kind = rng.choice(["uint", "float", "double"])
        files = bp.files(counts, kind=kind, is_packed=rng.random() < 0.7, version=rng.choice([1, 2]))
        place = rng.randrange(3)
        if place == 0:
            return {"r.rds": bent(content, rng)} | {f"matrix_dir/{name}": one for name, one in files.items()}
        if place == 1:
            name = rng.choice(sorted(files))
            files[name] = bent(files[name], rng)
            return {"r.rds": content} | {f"matrix_dir/{name}": one for name, one in files.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = bp.archive(Path(folder, "a"), {f"matrix_dir/{name}": one for name, one in files.items()})
            archive = zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=1 << 24)
        packed = (
            bent(zstandard.compress(archive), rng) if rng.random() < 0.2 else zstandard.compress(bent(archive, rng))
        )
        return {"r.rds": content, "matrix_dir.tar.zst": packed}

    return make


def _names() -> Any:  # noqa: ANN401 - a parsed object
    return RList([strings([f"ENSG{i}" for i in range(9)]), strings([f"cell{i}" for i in range(12)])])


def cell_sets() -> Make:
    """Cell sets beside a sound object."""
    children = [{"key": "louvain-0", "name": "Cluster 0", "color": "#77aadd", "cellIds": [5, 0, 3]}]
    classes = [
        {"key": "louvain", "name": "louvain clusters", "rootNode": True, "type": "cellSets", "children": children},
        {"key": "scratchpad", "name": "Custom cell sets", "rootNode": True, "type": "cellSets", "children": []},
        {"key": "sample", "name": "Samples", "rootNode": True, "type": "metadataCategorical", "children": children},
    ]
    content = json.dumps({"cellSets": classes}).encode()

    def make(rng: random.Random) -> Files:
        return {"cell_sets.json": bent(content, rng)}

    return make


def _annotated(name: str) -> Files:
    """Return the same small object as an AnnData file, or the files of a store."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        base = Path(folder)
        _write(base, {"r.rds": _rds(_tree()), "spool/.keep": b""})
        made = load(
            str(base / "r.rds"), str(base / "spool"), max_bytes=1 << 30, max_ratio=250.0, threads=1,
            progress=silent,
        )  # fmt: skip
        target = base / "made" / name
        target.parent.mkdir()
        source = open_store(base / "spool" / store_file(made["store"]))
        write_annotated_copy(base / "r.rds", source, {}, target)
        files = [path for path in target.parent.rglob("*") if path.is_file()]
        return {str(path.relative_to(target.parent)): path.read_bytes() for path in files}


def h5ad() -> Make:
    """Files of HDF5."""
    (good,) = _annotated("r.h5ad").values()
    return lambda rng: {"r.h5ad": bent(good, rng)}


def zarr() -> Make:
    """Folders with one file mutated, removed, or replaced by another."""
    good = _annotated("r.zarr")
    names = sorted(good)

    def make(rng: random.Random) -> Files:
        files, name = dict(good), rng.choice(names)
        what = rng.random()
        if what < 0.7:
            files[name] = bent(good[name], rng)
        elif what < 0.85:
            del files[name]
        else:
            files[name] = good[rng.choice(names)]
        return files

    return make


READERS: dict[str, Callable[[], Make]] = {
    "rds": rds,
    "qs": qs,
    "rda": rda,
    "qs2": qs2,
    "bioconductor": bioconductor,
    "h5seurat": h5seurat,
    "bpcells": bpcells,
    "cell_sets": cell_sets,
    "h5ad": h5ad,
    "zarr": zarr,
    **{name: partial(make, bent) for name, make in FOREIGN.items()},
}


# ---- the child ----


def read_all(
    reader: str, seed: int, seconds: float, folder: str, progress: Callable[[str, float | None], None]
) -> dict[str, Any]:
    """Read bent files in this process; returns the next case, how many were read and refused, and the findings."""
    make = READERS[reader]()
    base = Path(folder)
    _write(base / "given", {"r.rds": _rds(_tree())})
    for name in ("stores", "spool"):
        (base / name).mkdir()
    _open(base)  # libraries open files when they are used for the first time
    watch = _Watch(base)
    done = {"read": 0, "refused": 0}
    findings: list[list[Any]] = []
    number = seed
    until = time.monotonic() + seconds  # set-up does not count: on a busy machine it takes longer than reading
    while number == seed or (number < seed + BATCH and time.monotonic() < until):
        progress(str(number), None)
        files = make(random.Random(number))
        shutil.rmtree(base, ignore_errors=True)
        _write(base / "given", files)
        for name in ("stores", "spool"):
            (base / name).mkdir()
        started, problem = time.process_time(), ""
        watch.on = True
        try:
            _open(base)
            done["read"] += 1
        except WorkerError:
            done["refused"] += 1
        except MemoryError:
            problem = "the memory ran out"
        except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
            problem = traceback.format_exc(limit=-6)
        watch.on = False
        took = time.process_time() - started
        problem = problem or "\n".join(watch.taken()) or (f"took {took:.1f} s" if took > SLOW_S else "")
        if problem:
            findings.append([number, problem])
        number += 1
    return {**done, "next": number, "findings": findings}


def _open(base: Path) -> None:
    given = base / "given"
    if (given / "cell_sets.json").exists():
        CellSets.parse((given / "cell_sets.json").read_bytes())
        return
    load(
        str(locate(given).source), str(base / "spool"), max_bytes=1 << 30, max_ratio=250.0, threads=1,
        progress=silent,
    )  # fmt: skip


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class _Watch:
    """Records what this process opens, starts and changes outside one folder."""

    def __init__(self, folder: Path) -> None:
        own = [folder, ROOT, Path(sys.prefix), Path(sys.base_prefix), *map(Path, filter(None, sys.path))]
        self._own = tuple(f"{path.resolve()}{os.sep}" for path in own) + tuple(f"{path}{os.sep}" for path in own)
        self._seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def taken(self) -> list[str]:
        """Return the record, and clear it."""
        seen, self._seen = self._seen, []
        return seen

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event.startswith(STARTS) or event.startswith(CHANGES[:4]):
            self._seen.append(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.fsdecode(arguments[0])
            # Files of a matrix folder are opened by their bare names, relative to the folder.
            if os.sep in path and not path.startswith(self._own) and path not in ALLOWED:
                self._seen.append(f"opened {path}")


# ---- the parent ----


def _note(last: list[int], what: str, _part: float | None = None) -> None:
    if what.isdecimal():  # before the first file the sandbox tells of itself
        last.append(int(what))


def batches(reader: str, seconds: float, seed: int) -> Iterator[dict[str, Any]]:
    """Run children until the time is over, each in a folder of its own, which is then removed."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        last = [seed]
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            retry_budget_s = LOOPS.get(reader, HANGS_S)
            left = min(left, retry_budget_s)  # otherwise one that loops would take the whole time
            order = {"reader": reader, "seed": seed, "seconds": left, "folder": f"{folder}/work"}
            try:
                found = run_sandboxed(
                    "fuzz:read_all", order, memory_bytes=MEMORY_BYTES, max_file_bytes=1 << 34,
                    timeout_s=left + retry_budget_s,
                    on_progress=partial(_note, last),
                )  # fmt: skip
            except WorkerError as problem:
                stopped = reader in LOOPS and "took longer than" in problem.message
                findings = [] if stopped else [[last[-1], problem.message]]
                found = {"read": 0, "refused": 0, "next": last[-1] + 1, "findings": findings, "stopped": stopped}
        yield found
        seed = found["next"]


def main() -> int:
    """Fuzz, and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    status = 0
    for reader in [options.reader] if options.reader else READERS:
        read = refused = stopped = 0
        for found in batches(reader, options.seconds, options.seed):
            read, refused = read + found["read"], refused + found["refused"]
            stopped += bool(found.get("stopped"))
            for number, problem in found["findings"]:
                status = 1
                folder = options.keep / f"{reader}-{number}"
                _write(folder, READERS[reader]()(random.Random(number)))
                print(f"{reader}, case {number}, kept in {folder}:\n{problem}\n")
        ended = f", {stopped:,} ended by the time limit" if stopped else ""
        print(f"{reader}: {read:,} bent files read, {refused:,} refused in words{ended}")
    return status


if __name__ == "__main__":
    sys.exit(main())
