"""The experiment of the local run: its path, its id and its facts."""

import asyncio
import re
from pathlib import Path
from typing import Any

from cellworker.engine.loading import ServedExperiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.formats.opening.open import Opened
from cellworker.gateway.core.ports import Claim
from cellworker.identifiers import ExperimentId
from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.page.facts import explorer_facts
from cellworker.local.server import Served, summarize
from cellworker.settings import Settings
from cellworker.tasks.catalog import example_bodies

__all__ = ["LocalExperiment", "Place", "barcodes_by_id", "find_experiment", "id_of"]

_NOT_IN_URLS = re.compile(r"[^A-Za-z0-9._-]+")


class Place:
    """The place of an experiment.

    Attributes
    ----------
    path
        A folder or file.
    experiment_id
        The id under which clients ask for it.
    keep_original
        Whether its cell sets are never changed in place, as those of the bundled sample and of files outside
        ``data_dir``.
    """

    def __init__(self, path: Path, experiment_id: ExperimentId, *, keep_original: bool = False) -> None:
        self.path = path
        self.experiment_id = experiment_id
        self.keep_original = keep_original


def find_experiment(wanted: str | Path | None, settings: Settings) -> Place:
    """Find the experiment that a person means.

    Parameters
    ----------
    wanted
        A path, or the id of an experiment under ``data_dir``; None takes ``experiment_id`` of the settings, and the
        bundled sample where that is empty too.
    settings
        Where experiments are.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND`` naming the places that were looked at.
    """
    if wanted is None or not str(wanted):
        if not settings.experiment_id:
            from cellworker.sample import SAMPLE_ID, sample_path  # noqa: PLC0415 - only who wants the sample pays for it

            return Place(sample_path(), ExperimentId(SAMPLE_ID), keep_original=True)
        wanted = settings.experiment_id
        here = None
    else:
        here = Path(wanted).expanduser()
    if here is not None and here.exists():
        # Only files under the data folder are changed in place, never a user's own file.
        inside = here.resolve().is_relative_to(settings.data_dir.resolve())
        return Place(here, id_of(here), keep_original=not inside)
    folder = settings.data_dir / ExperimentId(str(wanted)) if ExperimentId.fits(str(wanted)) else None
    if folder is not None and folder.exists():
        return Place(folder, ExperimentId(str(wanted)))
    places = " or ".join(str(place) for place in (here, f"{settings.data_dir}/{wanted}") if place is not None)
    advice = "Give the path of an .rds, .qs or .h5ad file, of a .zarr store, or of a folder with r.rds or r.qs."
    raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, f"There is no experiment at {places}. {advice}")


def id_of(path: Path) -> ExperimentId:
    """Return the id of the experiment at a path."""
    resolved = path.resolve()
    served = resolved.is_file() and resolved.name in {"r.qs", "r.rds"}
    name = resolved.name if resolved.is_dir() else resolved.parent.name if served else resolved.stem
    return ExperimentId(_NOT_IN_URLS.sub("-", name).lstrip("-._")[:128].rstrip("-.") or "experiment")


class LocalExperiment:
    """The served experiment for the door and the gateway: facts, examples, cell sets.

    Parameters
    ----------
    experiment
        Opens it and follows its file.
    place
        Where it is.
    """

    def __init__(self, experiment: ServedExperiment, place: Place) -> None:
        self._experiment = experiment
        self._place = place
        self._for: Opened | None = None
        self._served: Served | None = None
        self._cell_sets: FileCellSets | None = None
        self._lock = asyncio.Lock()

    async def served(self) -> Served:
        """Return what is served now; waits for the first load."""
        await self._current()
        assert self._served is not None
        return self._served

    def close(self) -> None:
        """Close the experiment's files."""
        self._cell_sets = self._for = self._served = None

    def health(self) -> dict[str, Any]:
        """Return its state."""
        facts = self._experiment.describe()
        status = "up" if facts["ready"] else "failed" if facts["error"] else "loading"
        kept = {
            name: facts[name]
            for name in ("cells", "genes", "generation", "progress", "error", "lanes")
            if facts.get(name)
        }
        return {"status": status, **kept}

    async def read(self, experiment_id: ExperimentId) -> bytes:
        """Return the current cell_sets.json."""
        return await (await self._current()).read(experiment_id)

    async def patch(
        self,
        experiment_id: ExperimentId,
        operations: list[dict[str, Any]],
        authorization: str | None,
        *,
        claim: Claim | None = None,
    ) -> None:
        """Apply operations of contract 5.22; with a claim, not what was applied already."""
        await (await self._current()).patch(experiment_id, operations, authorization, claim=claim)

    async def change(self, operations: list[dict[str, Any]], expected: str | None) -> str:
        """Apply operations to the expected version, and return the new version; see `VersionedCellSets`."""
        return await (await self._current()).change(operations, expected)

    async def version(self) -> str:
        """Name the current content of the cell sets, without reading it."""
        return await (await self._current()).version()

    async def _current(self) -> FileCellSets:
        """Follow the experiment to its newest content."""
        await self._experiment.ready()
        opened = self._experiment.opened
        assert opened is not None
        if opened is self._for and self._cell_sets is not None:
            return self._cell_sets
        async with self._lock:
            keep = self._place.keep_original or opened.derived_cell_sets
            cell_sets = FileCellSets(opened.cell_sets_path, opened.own_work_file, keep_original=keep)
            self._served = await asyncio.to_thread(_describe, opened, self._place, cell_sets)
            self._cell_sets, self._for = cell_sets, opened
        return cell_sets


def _describe(opened: Opened, place: Place, cell_sets: FileCellSets) -> Served:
    experiment, origin = opened.experiment, opened.experiment.origin
    summary = {
        "cells": experiment.n_cells,
        "genes": len(experiment.genes),
        "reductions": list(experiment.reductions),
        "metadata": list(experiment.metadata),
        "cellSets": summarize(opened.cell_sets),
        "writer": origin.writer,
        "assay": origin.assay,
        "fallbacks": origin.fallbacks,
        "made": list(experiment.extra.get("made", {})),
        "derivedCellSets": opened.derived_cell_sets,
        "ownWork": _own_work(opened),
    }
    own_colours = not opened.derived_cell_sets
    facts = explorer_facts(
        experiment, opened.cell_sets, place.experiment_id, place.path, str(cell_sets.saved_in), own_colours=own_colours
    )
    examples = example_bodies(experiment, opened.cell_sets)
    return Served(experiment.key, summary, examples, facts, lambda: barcodes_by_id(experiment), experiment)


def barcodes_by_id(experiment: Experiment) -> list[str | None]:
    """Return the barcode of each cell by its id, None for ids that no cell has."""
    by_id: list[str | None] = [None] * (experiment.max_cell_id + 1)
    for cell_id, barcode in zip(experiment.cell_ids.tolist(), experiment.barcodes, strict=True):
        by_id[cell_id] = barcode
    return by_id


def _own_work(opened: Opened) -> dict[str, Any] | None:
    work = opened.own_work
    return None if work is None else {"sets": work.n_sets, "path": str(work.path), "notes": work.notes}
