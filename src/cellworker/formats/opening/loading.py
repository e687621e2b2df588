"""What the sandboxed child does: read a file, make it an experiment, write its store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cellworker.experiment.draft import ExperimentDraft
from cellworker.experiment.store.store import write_store
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.kinds import content_hash
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.common.write_limit import WriteLimit, size_of
from cellworker.formats.opening.recognising import READ, Kind, kind_of, not_read
from cellworker.formats.opening.shelf import store_file
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.reading import read_object
from cellworker.formats.seurat.read.reader import read_seurat
from cellworker.identifiers import StoreName

__all__ = ["load"]

Progress = Callable[[str, float | None], None]

_READING = 0.6
"""The part of the whole time that reading the file takes, for the progress bar."""


def load(
    source: str,
    spool: str,
    *,
    max_bytes: int,
    max_ratio: float,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Read one experiment into a store.

    Parameters
    ----------
    source, spool
        The file, and a folder for spool files that the caller removes; the store is written there too, so that nothing
        of it is left wherever this process is killed.
    max_bytes
        Largest size after decompression.
    max_ratio
        Bytes that may be written for each byte of the file.
    threads
        For the kernels that write the store.
    progress
        Told the stage and the fraction of all work done.

    Returns
    -------
    ``store`` (its key; absent when there are errors), ``problems``, every one found, and ``companions``, the
    files beside the source that were read too, as `Companion.to_json` gives them.

    Raises
    ------
    WorkerError
        When the file is of a kind that is not read, when it is damaged, or when the store cannot be written.
    """
    folder, findings = Path(spool), Findings()
    companions: dict[str, list[int]] = {}
    kind = kind_of(Path(source))
    if kind not in READ:
        raise not_read(kind, Path(source))
    writing = WriteLimit(size_of(Path(source)), max_ratio, max_bytes)
    scratch = Scratch(folder, writing)
    if kind is Kind.ANNDATA:
        draft, key = _anndata(Path(source), scratch, findings, max_bytes=max_bytes, threads=threads, progress=progress)
    else:
        limits = Limits(max_inflated_bytes=max_bytes, writing=writing)
        draft, key, companions = _seurat(Path(source), scratch, findings, limits, progress)
    problems = [problem.to_json() for problem in findings.problems]
    if draft is None or findings.errors:
        return {"problems": problems}
    draft.extra["problems"] = problems
    store = folder / store_file(StoreName(key))

    def on_write(stage: str, fraction: float | None = None) -> None:
        progress(stage, None if fraction is None else _READING + (1 - _READING) * fraction)

    write_store(draft, store, key=key, threads=threads, progress=on_write, claim=writing.claim)
    return {"store": key, "problems": problems, "companions": companions}


def _seurat(
    source: Path, scratch: Scratch, findings: Findings, limits: Limits, progress: Progress
) -> tuple[ExperimentDraft | None, str, dict[str, list[int]]]:
    def on_bytes(done: int, total: int) -> None:
        progress("reading the file", _READING * done / total if total else None)

    assert scratch.folder is not None
    folder = scratch.folder
    file = read_object(source, folder, limits, on_bytes)
    progress("making the experiment", _READING)
    outside = Outside(source.parent, folder, limits)
    draft = read_seurat(file.root, findings, scratch, outside)
    if draft is not None:
        draft.extra["sha256"] = file.sha256
    companions = {name: companion.to_json() for name, companion in outside.companions.items()}
    return draft, outside.key(file.sha256), companions


def _anndata(
    source: Path, scratch: Scratch, findings: Findings, *, max_bytes: int, threads: int, progress: Progress
) -> tuple[ExperimentDraft | None, str]:
    from cellworker.formats.anndata.opening import open_anndata  # noqa: PLC0415 - an .rds file needs no h5py here
    from cellworker.formats.anndata.reader import read_anndata  # noqa: PLC0415

    with ThreadPoolExecutor(1, "hash") as background, open_anndata(source, max_bytes, threads) as root:
        key = background.submit(content_hash, source)
        draft = read_anndata(root, findings, scratch, lambda stage, fraction: progress(stage, _READING * fraction))
        return draft, key.result()
