"""Facts about the experiment, which the explorer fetches first."""

import re
from pathlib import Path

import msgspec
import numpy as np

from cellworker import __version__
from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment, TissueImage
from cellworker.tasks.cell_metadata import find_column

__all__ = ["ExplorerFacts", "ReductionFacts", "TissueFacts", "explorer_facts"]

_NUMBERS = {
    "GetNUmis": "nCount_RNA",
    "GetNGenes": "nFeature_RNA",
    "GetMitochondrialContent": "percent.mt",
    "GetDoubletScore": "doublet_scores",
}
"""The columns of tasks with one number per cell."""

_MAP_NAME = re.compile(r"umap|t-?sne|spatial|draw|force|diffmap|phate|fitsne", re.IGNORECASE)


class ReductionFacts(msgspec.Struct, rename="camel"):
    """One reduction that the file holds."""

    name: str
    dimensions: int
    is_map: bool
    """Whether its name means a map, such as UMAP, and not principal components."""


class TissueFacts(msgspec.Struct, rename="camel"):
    """One image of a tissue: its name, and its size in pixels, 0 where the file holds none of them."""

    name: str
    width: int
    height: int


class ExplorerFacts(msgspec.Struct, rename="camel"):
    """Facts for the page.

    Attributes
    ----------
    numbers
        Tasks with one number per cell that the experiment can answer.
    max_cell_id
        Vectors by cell id have one entry more than this.
    default_reduction
        The first map to show; empty where the file holds none.
    own_colours
        Whether the colours of cell sets come from the experiment, not from our palette.
    """

    experiment_id: str
    version: str
    key: str
    file: str
    cells: int
    genes: int
    max_cell_id: int
    samples: int
    assay: str
    writer: str
    fallbacks: list[str]
    reductions: list[ReductionFacts]
    default_reduction: str
    numbers: list[str]
    tissues: list[TissueFacts]
    own_colours: bool
    saved_in: str


def explorer_facts(
    experiment: Experiment,
    cell_sets: CellSets,
    experiment_id: str,
    path: Path,
    saved_in: str,
    *,
    own_colours: bool = True,
) -> ExplorerFacts:
    """Collect the facts of an experiment that is open.

    Parameters
    ----------
    experiment, cell_sets
        The served experiment.
    experiment_id
        The id under which clients ask.
    path
        The file or folder.
    saved_in
        Where changed cell sets are kept, in words.
    own_colours
        Whether the colours of cell sets come from the experiment.
    """
    reductions = [
        ReductionFacts(name, reduction.values.shape[1], _MAP_NAME.search(name) is not None)
        for name, reduction in experiment.reductions.items()
    ]
    maps = [item.name for item in reductions if item.is_map and item.dimensions >= 2]
    default = experiment.misc.default_reduction
    samples = cell_sets.find_class("sample")
    numbers = []
    for task, column in _NUMBERS.items():
        try:
            values = find_column(experiment, column)
        except WorkerError:
            continue
        if np.isfinite(np.asarray(values, np.float64)).any():
            numbers.append(task)
    return ExplorerFacts(
        experiment_id=str(experiment_id),  # msgspec encodes no subclass of text
        version=__version__,
        key=experiment.key,
        file=path.name,
        cells=experiment.n_cells,
        genes=len(experiment.genes),
        max_cell_id=experiment.max_cell_id,
        samples=len(samples.children) if samples else 0,
        assay=experiment.origin.assay,
        writer=experiment.origin.writer,
        fallbacks=experiment.origin.fallbacks,
        reductions=reductions,
        default_reduction=default if default in maps else (maps[0] if maps else ""),
        numbers=numbers,
        tissues=[_tissue(name, image) for name, image in experiment.images.items()],
        own_colours=own_colours,
        saved_in=saved_in,
    )


def _tissue(name: str, image: TissueImage) -> TissueFacts:
    height, width = image.pixels.shape[:2] if image.pixels is not None else (0, 0)
    return TissueFacts(name, width, height)
