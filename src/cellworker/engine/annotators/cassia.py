"""Asks a language model through the package `cassia`, in a process of its own (contract 5.19).

On the engine's side only that process connects to other machines: to the address of CASSIA_URL, and, to make
a token for Amazon Bedrock, to AWS. It lives for one request. It gets its key through a pipe, from
the key's keeper (`cellworker.engine.annotators.keeper`) where a worker serves. Of the environment it gets what
networks and certificates need, and it has a folder of its own.
"""

import csv
import io
import json
import os
import select
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cellworker.engine.annotators.asking_process import begin, module_path
from cellworker.engine.annotators.cassia_failures import endpoint_failure, failure, not_set_up, told_failure
from cellworker.engine.annotators.keeper_client import Asking, KeeperLostError
from cellworker.engine.annotators.language_model import LanguageModel, language_model
from cellworker.settings import Settings
from cellworker.tasks.context import Annotator, ClusterQuestion, Progress

__all__ = ["annotate", "annotator"]

_MAX_WORKERS = 50
_LEVELS = ("Merged_Grouping_1", "Merged_Grouping_2", "Merged_Grouping_3")
_UNREADABLE = "Error parsing response"
"""The label that `cassia` gives where it cannot read the model's answer."""
_TICK_MS = 250
_TAIL_BYTES = 1 << 16
_FIRST_STAGE = "Running CASSIA annotation (this can take several minutes)"


def annotator(settings: Settings) -> Annotator:
    """Return a function that asks the language model of the settings; see `annotate`."""
    return partial(annotate, language_model(settings))


def annotate(
    model: LanguageModel, question: ClusterQuestion, progress: Progress, scratch: Path
) -> list[dict[int, str]]:
    """Return the three groupings of `cassia`; see `cellworker.tasks.context.Annotator`.

    Raises
    ------
    WorkerError
        ``R_WORKER_CASSIA_ERROR`` saying what failed and what to do.
    """
    if not model.reachable:
        raise not_set_up("EGRESS is false, so this engine opens no connections (cassia.enabled in the chart)")
    model.check()
    progress(_FIRST_STAGE)
    with tempfile.TemporaryDirectory(
        prefix="cassia-", dir=scratch if scratch.parts else None, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        _write_markers(folder / "markers.csv", question)
        _run(model, question, progress, folder)
        return _groupings(model, folder)


def _write_markers(path: Path, question: ClusterQuestion) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(question.markers)
        writer.writerows(zip(*question.markers.values(), strict=True))


def _run(model: LanguageModel, question: ClusterQuestion, progress: Progress, folder: Path) -> None:
    request = {
        "species": question.species,
        "tissue": question.tissue,
        "additional_info": question.additional_info,
        "workers": min(question.n_clusters, _MAX_WORKERS),
    }
    reading, writing = os.pipe()
    with io.FileIO(reading) as news, (folder / "output.txt").open("wb") as output:
        try:
            end = _begin(model, request, folder, (writing, output.fileno()))
        finally:
            os.close(writing)
        try:
            _follow(news, model, progress, lambda: _tail(folder))
        finally:
            end()


def _begin(
    model: LanguageModel, request: dict[str, Any], folder: Path, outputs: tuple[int, int]
) -> Callable[[], object]:
    """Start the asking process, through the key's keeper where there is one; return a function that ends it."""
    if model.kept:
        try:
            return Asking(request, folder, *outputs).close
        except KeeperLostError:
            raise not_set_up("the process that keeps CASSIA_KEY has ended; restart the worker") from None
    settled = {
        "sys_path": module_path(),
        "url": model.url,
        "model": model.model,
        "key": model.key,
        "bedrock_region": model.bedrock_region,
    }
    child = begin(request | settled, folder, *outputs)

    def end() -> None:
        child.kill()
        child.wait()

    return end


def _follow(news: io.FileIO, model: LanguageModel, progress: Progress, tail: Callable[[], str]) -> None:
    """Follow the process's messages until it is done; call `progress`, which may raise, every quarter second."""
    deadline = time.monotonic() + model.timeout_s
    stage: tuple[str, float | None] = (_FIRST_STAGE, None)
    buffer = b""
    poll = select.poll()
    poll.register(news, select.POLLIN)
    while True:
        if poll.poll(_TICK_MS):
            piece = news.read(1 << 16)
            if not piece:
                raise endpoint_failure(model, tail())
            *lines, buffer = (buffer + piece).split(b"\n")
            for message in map(json.loads, lines):
                if "done" in message:
                    return
                if "error" in message:
                    raise told_failure(model, message["error"], message["text"])
                step, total = message["step"], message["total"]
                stage = (f"{message['title']} ({step}/{total})", step / total) if total else (message["title"], None)
                progress(*stage)
        elif time.monotonic() > deadline:
            within = f"within {model.timeout_s:g} seconds (CASSIA_TIMEOUT_S)"
            reason = f"the language model at {model.host} did not give all answers {within}"
            raise failure(reason)
        progress(*stage)


def _groupings(model: LanguageModel, folder: Path) -> list[dict[int, str]]:
    try:
        with (folder / "merged.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        raise failure("CASSIA did not produce a results file") from None
    levels: list[dict[int, str]] = []
    for column in _LEVELS:
        labels = {int(float(row["Cluster ID"])): (row.get(column) or "").strip() for row in rows}
        levels.append({cluster: label for cluster, label in labels.items() if label and label != _UNREADABLE})
        if not levels[-1]:
            raise endpoint_failure(model, _tail(folder))
    return levels


def _tail(folder: Path) -> str:
    """Return the end of the process's output. It may hold secrets: users see only what it means."""
    with (folder / "output.txt").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return file.read().decode(errors="replace")
