"""The check of an experiment: its contents, all its problems, and the memory that serving it takes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellworker.analysis.matrices.sorting import RowSummary
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.store.store import StoredExperiment
from cellworker.experiment.suitability import Concern, TaskConcern, concerns
from cellworker.formats.check.cell_sets import check_cell_sets, read_cell_sets
from cellworker.formats.common.cells.derive import derived_from
from cellworker.formats.common.findings import Findings, Problem, RefusedError
from cellworker.formats.opening.open import Located, locate, open_source, own_work_of
from cellworker.formats.opening.store_guard import verified
from cellworker.plain_text import one_line
from cellworker.progress import Progress
from cellworker.settings import Settings

__all__ = ["Report", "check_experiment", "render"]

_PROCESS_MB = 40.0
"""Private memory of a Python process with the engine and its tasks (measured: 34 to 45 MB on Linux)."""
_BYTES_PER_NAME = 120
_ALIKE = {
    "percent.mt": r"mito|percent[._]?mt|pct[._]counts[._]mt",
    "doublet_scores": r"doublet.*score|scrublet|scdblfinder\.score",
    "nCount_RNA": r"^n_?(count|umi)|total_counts",
    "nFeature_RNA": r"^n_?(feature|gene)",
}
"""Usual names of columns with the same meaning."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check.

    Attributes
    ----------
    path
        As it was given.
    status
        The exit status: 0 it can be served, 1 it cannot, 2 it cannot be read at all.
    problems
        Everything found, errors first.
    contents
        The contents, by name; empty when it cannot be served.
    memory
        In megabytes: ``mapped`` (shared by all processes, paged in when touched), ``private`` (of all processes of
        `cellworker run` together while idle), ``loading`` (limit of the process that reads the file).
    tasks
        Tasks that will refuse or may mislead: ``task``, ``requests``, ``effect``, ``why``.
    """

    path: str
    status: int
    problems: list[Problem] = field(default_factory=list)
    contents: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    tasks: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the report as a JSON document."""
        problems = [problem.to_json() for problem in self.problems]
        document = {"path": self.path, "status": self.status, "problems": problems}
        return json.dumps(
            document | {"contents": dict(self.contents), "memoryMb": dict(self.memory), "tasks": self.tasks}, indent=2
        )


def check_experiment(path: Path, settings: Settings, on_progress: Progress | None = None) -> Report:
    """Check everything in an experiment, and its cell sets.

    Never raises for what a file holds: a file that cannot be read is a report of status 2. The store that is made on
    the way is kept, so that opening the experiment afterwards is quick.
    """
    try:
        located = locate(path)
        return verified(
            lambda: open_source(located.source, settings, on_progress)[1],
            lambda experiment: experiment,
            lambda experiment: _report(path, located, experiment, settings),
        )
    except RefusedError as error:
        return Report(str(path), 1, _ordered(error.problems))
    except WorkerError as error:
        # These errors are whole sentences that say what to do.
        return Report(str(path), 2, [Problem(str(path), error.message, "", "", "error", error.code)])


def _report(path: Path, located: Located, experiment: StoredExperiment, settings: Settings) -> Report:
    findings = Findings()
    findings.problems = [Problem.from_json(problem) for problem in experiment.extra.get("problems", [])]
    told = concerns(experiment)
    _check_tasks(experiment, told, findings)
    _check_matrices(experiment, findings)
    _check_metadata(experiment, findings)
    _check_genes(experiment, findings)
    cell_sets: CellSets | None
    if located.cell_sets is None:
        findings.fallback(
            "cell_sets.json", found="no such file beside the experiment",
            advice="cell sets are derived from the identities, the samples and the categorical metadata",
        )  # fmt: skip
        cell_sets = derived_from(experiment)
    else:
        cell_sets = read_cell_sets(located.cell_sets, findings)
        if cell_sets is not None:
            check_cell_sets(cell_sets, experiment, findings)
    cell_sets, own = _with_own_work(cell_sets, located.source, experiment, settings, findings)
    return Report(
        str(path),
        1 if findings.errors else 0,
        _ordered(findings.problems),
        _contents(experiment, cell_sets, located.source) | own,
        _memory(experiment, settings),
        [item.to_json() for item in told],
    )


def _with_own_work(
    cell_sets: CellSets | None, source: Path, experiment: StoredExperiment, settings: Settings, findings: Findings
) -> tuple[CellSets | None, dict[str, Any]]:
    """Add a person's own cell sets of local runs; returns them, and the line that counts them."""
    try:
        work = own_work_of(source, experiment, cell_sets or CellSets.empty(), settings).read()
    except WorkerError as error:
        findings.error(
            "own cell sets",
            found=error.message,
            expected="a document of cellworker",
            advice="see there",
            code=error.code,
        )
        return cell_sets, {}
    if work is None:
        return cell_sets, {}
    for sentence in work.notes:
        findings.warning("own cell sets", found=sentence, expected="", advice=f"the older ones are kept in {work.path}")
    return work.cell_sets, {"own cell sets": f"{work.n_sets}, in {work.path}"}


def _ordered(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: ("error", "warning", "note").index(problem.severity))


def _check_tasks(experiment: StoredExperiment, told: list[TaskConcern], findings: Findings) -> None:
    """Return what tasks will refuse or may mislead about; each thing once, with the requests that it concerns."""
    by_concern: dict[Concern, list[str]] = {}
    for item in told:
        by_concern.setdefault(item.concern, []).append(f"{item.task} ({item.when})" if item.when else item.task)
    said_before = {problem.field for problem in findings.problems if problem.severity == "warning"}
    for concern, tasks in by_concern.items():
        if concern.found == "none" and any(field.endswith(concern.field) for field in said_before):
            continue  # the reader has said so, with what the file holds instead
        if concern.field == "reductions" and said_before & {"reductions", "obsm"}:
            continue
        refused = f"{', '.join(tasks)} will be refused" if concern.effect == "refused" else ""
        if concern.code is ErrorCode.R_WORKER_NO_GENE_SYMBOLS:
            refused = ""
        column = concern.field.partition(" ")[2]
        others = [n for n in experiment.metadata if column in _ALIKE and re.search(_ALIKE[column], n, re.IGNORECASE)]
        reason_tells = ": " in concern.found  # the reader has said which column it did not take, and why
        hint = (
            ""
            if reason_tells or column in others or not others
            else f"if {others[0]} holds it, copy that column to {column}"
        )
        advice = "; ".join(part for part in (refused, concern.advice, hint) if part)
        findings.warning(concern.field, found=concern.found, expected=concern.expected, advice=advice)


def _check_matrices(experiment: StoredExperiment, findings: Findings) -> None:
    assay = f"assay {experiment.origin.assay}"
    data = experiment.data_summary
    strange = {"missing": data.nan, "infinite": data.infinite, "negative": data.negative}
    found = ", ".join(f"{number} {what}" for what, number in strange.items() if number)
    if found:
        findings.warning(
            f"{assay} data", found=f"{found} values", expected="finite values from 0 up",
            advice="statistics of the genes concerned will mislead; compute the layer again",
        )  # fmt: skip
    if _looks_raw(data):
        findings.warning(
            f"{assay} data", found=f"whole numbers up to {data.largest:.0f}", expected="log-normalised values",
            advice="run NormalizeData() and save the object again if these are raw counts",
        )  # fmt: skip
    active = experiment.misc.active_reduction
    if active in experiment.reductions:
        n_dims = experiment.reductions[active].values.shape[1]
        wanted = experiment.misc.num_pcs
        if n_dims < wanted:
            findings.fallback(
                f"reductions {active}", found=f"{n_dims} dimensions of {wanted} asked for (misc numPCs)",
                advice=f"all {n_dims} are used",
            )  # fmt: skip


def _looks_raw(data: RowSummary) -> bool:
    return data.kept > 0 and data.fractional == 0 and data.largest > 30


def _check_metadata(experiment: StoredExperiment, findings: Findings) -> None:
    table = experiment.origin.table
    named, samples = experiment.samples or ("samples", None)
    if samples is not None and np.any(samples.codes < 0):
        findings.warning(
            f"{table} {named}", found=f"{int((samples.codes < 0).sum())} cells without a sample",
            expected="a sample for every cell", advice="these cells are left out of comparisons between samples",
        )  # fmt: skip


def _check_genes(experiment: StoredExperiment, findings: Findings) -> None:
    genes = experiment.genes
    repeated = len(genes) - len(set(genes.names))
    if repeated:
        findings.warning(
            "genes", found=f"{repeated} repeated display names", expected="each name once",
            advice="a request by name takes the first gene of that name",
        )  # fmt: skip


def _contents(experiment: StoredExperiment, cell_sets: CellSets | None, source: Path) -> dict[str, Any]:
    origin, counts, scaled = experiment.origin, experiment.counts_summary, experiment.scaled
    named, samples = experiment.samples or ("none", None)
    return {
        "file": source.name,
        "written by": origin.writer,
        "kind": "the platform's" if origin.kind == "platform" else "a user's own",
        "assay": f"{origin.assay} ({origin.assay_class})",
        "cells": experiment.n_cells,
        "genes": experiment.n_genes,
        "stored values": experiment.data_summary.kept,
        "matrices": experiment.extra.get("matrices", []),
        "raw counts": "yes" if counts is not None else "no",
        "scaled genes": len(scaled.genes) if scaled is not None else 0,
        "reductions": {name: experiment.reductions[name].values.shape[1] for name in experiment.reductions},
        "graphs": list(experiment.graphs),
        "metadata columns": list(experiment.metadata),
        "samples": len(np.unique(samples.codes[samples.codes >= 0])) if samples is not None else 0,
        "made here": experiment.extra.get("made", {}),
        "sample column": _with_reason(named, origin.reasons.get("samples", "")),
        "numbers per cell": [
            f"{role} ({origin.reasons[role]})" for role, name in origin.columns.items() if role != "samples" and name
        ],
        "cell sets": _keys(cell_sets),
        "clusters in use": _clusters(cell_sets),
    }


def _with_reason(name: str, reason: str) -> str:
    return f"{name} ({reason})" if reason else name


def _keys(cell_sets: CellSets | None) -> dict[str, int]:
    """Return how many sets each class has, by its key; a name that says something else stands behind the key."""
    out: dict[str, int] = {}
    for item in cell_sets.classes if cell_sets is not None else []:
        out.setdefault(item.key if item.name == item.key else f"{item.key} = {item.name}", len(item.children))
    return out


def _clusters(cell_sets: CellSets | None) -> str:
    found = cell_sets.clusters if cell_sets is not None else None
    if cell_sets is None or found is None:
        return "none"
    alias = cell_sets.derived and not any(item.key == "louvain" for item in cell_sets.classes)
    return f"{found.key} (requests of the platform call it louvain)" if alias else found.key


def _memory(experiment: StoredExperiment, settings: Settings) -> dict[str, float]:
    processes = 1 + settings.short_workers + settings.long_workers
    names = (3 * experiment.n_genes + experiment.n_cells) * _BYTES_PER_NAME
    ids = 4 * (experiment.max_cell_id + 1)
    private = processes * (_PROCESS_MB + (names + ids) / 1e6)
    return {
        "mapped": round(experiment.n_bytes / 1e6, 3),
        "private": round(private, 1),
        "loading": round(settings.load_memory_gb * 1024, 1),
    }


def render(report: Report) -> str:
    """Write a report for people."""
    verdict = ("can be served", "cannot be served", "cannot be read")[report.status]
    counts = {kind: sum(p.severity == kind for p in report.problems) for kind in ("error", "warning", "note")}
    tally = ", ".join(f"{number} {kind}{'s' * (number != 1)}" for kind, number in counts.items() if number)
    lines = [f"{report.path}: {verdict}" + (f" ({tally})" if tally else "")]
    for name, value in report.contents.items():
        if name == "matrices":
            lines += _about_matrices(value)
            continue
        if name == "made here":
            lines += [f"  {name if not i else '':<17} {what}: {how}" for i, (what, how) in enumerate(value.items())]
            continue
        lines.append(f"  {name:<17} {_plain(value)}")
    if report.memory:
        mapped, private = report.memory["mapped"], report.memory["private"]
        lines.append(f"  {'memory to serve':<17} {mapped:,.1f} MB mapped and shared, about {private:,.0f} MB beside")
    for problem in report.problems:
        lines += ["", f"{problem.severity}: {problem.field}", f"  found     {problem.found}"]
        if problem.expected:
            lines.append(f"  expected  {problem.expected}")
        if problem.advice:
            lines.append(f"  {'instead ' if problem.severity == 'note' else 'do      '}  {problem.advice}")
    return "\n".join(one_line(line) for line in lines) + "\n"


def _about_matrices(matrices: list[dict[str, str]]) -> list[str]:
    lines = []
    for item in matrices:
        lines.append(f"  {item['matrix']:<17} {item['holds']}: {item['why']}")
        lines.append(f"  {'':<17} used for: {item['used for']}")
    return lines


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} ({number})" for key, number in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
