"""Whole experiments and matrices as files."""

import gzip
import shutil
from pathlib import Path
from typing import Any, Literal

from cellworker.api.anndata.arguments import invalid
from cellworker.api.anndata.checked import checked
from cellworker.api.dataset_tests import TestedDataset
from cellworker.api.selecting import Cells, chosen_sets
from cellworker.experiment.cell_sets import CellSets
from cellworker.tasks import catalog

__all__ = ["DownloadingDataset"]


class DownloadingDataset(TestedDataset):
    """The method that saves files."""

    @checked
    def download(
        self, path: str, *, kind: Literal["experiment", "expression"] = "experiment", cells: Cells | None = None,
        force: bool = False,
    ) -> Path:  # fmt: skip
        """Save the whole experiment, or the matrix of some cells, as a file.

        Parameters
        ----------
        path
            For an experiment a name that ends in .h5ad, .zarr, .rds or .h5; for expression one that ends in .csv or
            .csv.gz.
        kind
            The experiment with what was made of it, or the log-normalised matrix, genes by cells.
        cells
            Of the matrix; by default all.
        force
            Whether what is there already may be replaced.

        Returns
        -------
        pathlib.Path
            The written file.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the argument.
        """
        goal = Path(path)
        if kind == "experiment":
            if cells is not None:
                raise invalid("cells", "an experiment is saved whole; choose cells for kind='expression'")
            if goal.name.endswith((".csv", ".csv.gz")):
                raise invalid("kind", f"{goal.name} is a name for a table: expected 'expression', found 'experiment'")
            return self._write(goal, self.record("download", {}), force=force)
        if kind != "expression":
            raise invalid("kind", f"expected 'experiment' or 'expression', found {kind!r}")
        if not goal.name.endswith((".csv", ".csv.gz")):
            raise invalid("path", f"expected a name that ends in .csv or .csv.gz, found {goal.name!r}")
        if goal.exists() and not force:
            raise invalid("path", f"{goal.name} is there already; choose another name, or force=True")
        body: dict[str, Any] = {}
        sets: CellSets = self.cell_sets
        if cells is not None:
            body = {"subsetBy": {"cells": ["chosen cells"]}}
            sets = chosen_sets(self.experiment, sets, cells=self._select("cells", cells))
        made = self._answer(catalog.find("GetNormalizedExpression"), None, body, cell_sets=sets)
        self._finished()
        assert isinstance(made, Path)
        with made.open("rb") if goal.suffix == ".gz" else gzip.open(made) as source, goal.open("wb") as target:
            shutil.copyfileobj(source, target)
        return goal
