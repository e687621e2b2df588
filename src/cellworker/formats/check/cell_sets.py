"""Whether a cell-sets file fits its experiment."""

from pathlib import Path

import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical, Experiment
from cellworker.formats.common.findings import Findings

__all__ = ["check_cell_sets", "read_cell_sets"]

_FILE = "cell_sets.json"
_EXPECTED_CLASSES = {
    "louvain": "markers and annotations start from it; run a clustering",
    "scratchpad": "custom cell sets cannot be saved; add an empty class of this key",
    "sample": "comparisons between samples find no samples; add a class of this key with one set per sample",
}


def read_cell_sets(path: Path, findings: Findings) -> CellSets | None:
    """Read the file, recording what breaks the format; None when it cannot be used."""
    try:
        return CellSets.parse(path.read_bytes())
    except WorkerError as error:
        found = error.message.rstrip(".")
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror})"
    findings.error(
        path.name, found=found, expected="cell sets as the platform writes them", code=ErrorCode.CELL_SETS_INVALID,
        advice="correct the file, or remove it: cell sets are then derived from the object",
    )  # fmt: skip
    return None


def check_cell_sets(cell_sets: CellSets, experiment: Experiment, findings: Findings) -> None:
    """Hold the sets against the experiment's cells and samples, recording what does not fit."""
    for key, advice in _EXPECTED_CLASSES.items():
        if cell_sets.for_wire().find_class(key) is None:
            findings.warning(_FILE, found=f"no class {key}", expected=f"a class {key}", advice=advice)
    repeated = sorted(set(cell_sets.repeated_keys))
    if repeated:
        findings.warning(
            _FILE, found=f"repeated keys: {', '.join(repeated[:5])}", expected="each key once",
            advice="a request for such a key takes its first set; give the others keys of their own",
        )  # fmt: skip
    known = np.concatenate([np.zeros(0, np.int32), *(child.cell_ids for _, child in cell_sets.sets())])
    if len(known) and not np.any(experiment.positions(known) >= 0):
        findings.error(
            _FILE, found="cell ids of which none is in the object", expected="the object's cell ids",
            advice="the file belongs to another experiment: replace or remove it", code=ErrorCode.CELL_SETS_INVALID,
        )  # fmt: skip
        return
    clusters = cell_sets.clusters
    if clusters is not None and clusters.children:
        ids = clusters.cell_ids()
        strangers = int((experiment.positions(ids) < 0).sum())
        if strangers:
            findings.warning(
                f"{_FILE} louvain", found=f"{strangers} cells that are not in the object",
                expected="cells of the object only", advice="they are left out of every answer; cluster again",
            )  # fmt: skip
        lacking = experiment.n_cells - (len(ids) - strangers)
        if lacking:
            findings.warning(
                f"{_FILE} louvain", found=f"{lacking} of {experiment.n_cells} cells in no cluster",
                expected="every cell in a cluster", advice="'the rest' of a cluster does not count them; cluster again",
            )  # fmt: skip
    _check_samples(cell_sets, experiment, findings)


def _check_samples(cell_sets: CellSets, experiment: Experiment, findings: Findings) -> None:
    listed, column = cell_sets.find_class("sample"), experiment.metadata.get("samples")
    if listed is None or not isinstance(column, Categorical) or experiment.origin.kind != "platform":
        return
    keys = {child.key for child in listed.children}
    used = {column.categories[code] for code in np.unique(column.codes[column.codes >= 0])}
    if used - keys:
        findings.warning(
            f"{_FILE} sample", found=f"no set for the samples {', '.join(sorted(used - keys)[:5])} of the object",
            expected="one set for each sample, its key the sample's id in meta.data samples",
            advice="these samples cannot be chosen; add their sets",
        )  # fmt: skip
