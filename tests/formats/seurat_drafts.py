"""The experiment of a Seurat object, as tests ask for it: an error is raised where the reader records it."""

from pathlib import Path

from cellworker.experiment.draft import ExperimentDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RValue
from cellworker.formats.seurat.read.reader import read_seurat


def draft_from_seurat(root: RValue, spool: Path | None = None) -> ExperimentDraft:
    findings = Findings()
    draft = read_seurat(root, findings, Scratch(spool))
    findings.raise_errors()
    assert draft is not None
    return draft
