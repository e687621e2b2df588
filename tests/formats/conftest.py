"""Small Seurat objects of every version, as trees, to be bent by each test."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cellworker.formats.r.rds.build import (
    data_frame,
    dgc_matrix,
    doubles,
    factor,
    integers,
    named_list,
    package_version,
)
from cellworker.formats.r.rds.build import strings as r_strings
from cellworker.formats.r.rds.model import RS4, RList, RNull, RVector

CELLS = [f"cell{i}" for i in range(6)]
GENES = ["CD3D", "MS4A1", "NKG7", "LYZ"]
COUNTS = np.array(
    [[3, 0, 0, 1], [0, 4, 0, 0], [1, 0, 7, 2], [0, 0, 0, 5], [2, 2, 0, 0], [0, 1, 1, 1]], np.float64
)  # cells x genes


def normalised(counts: np.ndarray = COUNTS) -> np.ndarray:
    """Log-normalise by the formula of Seurat's documentation."""
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)


class SeuratTrees:
    """Builds parsed objects as the reader would hand them over: matrices flat, slots in dictionaries."""

    cells, genes, counts = CELLS, GENES, COUNTS

    @property
    def data(self) -> np.ndarray:
        return normalised()

    def sparse(self, dense: np.ndarray, genes: list[str] | None = GENES, cells: list[str] | None = CELLS) -> RS4:
        """Make a dgCMatrix (genes x cells) of cells x genes."""
        rows, columns = np.nonzero(dense)
        indptr = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int32)
        return dgc_matrix(
            indptr, columns.astype(np.int32), dense[rows, columns], dense.shape[1], row_names=genes, column_names=cells
        )

    def matrix(self, values: np.ndarray, rows: list[str] | None = None, columns: list[str] | None = None) -> RVector:
        """Make a dense R matrix of rows x columns."""
        names = RList([RNull() if n is None else r_strings(n) for n in (rows, columns)])
        flat = np.asarray(values, np.float64).ravel(order="F")
        return RVector(flat, "double", {"dim": integers(values.shape), "dimnames": names})

    def empty(self) -> RVector:
        return self.matrix(np.zeros((0, 0)))

    def assay(self, **slots: Any) -> RS4:
        """Make an Assay (versions 3 and 4)."""
        usual = {"counts": self.sparse(COUNTS), "data": self.sparse(normalised()), "scale.data": self.empty(),
                 "key": r_strings("rna_"), "misc": RNull()}  # fmt: skip
        return RS4("Assay", "SeuratObject", usual | slots)

    def log_map(self, names: list[str], present: Mapping[str, Any]) -> RVector:
        """Make a LogMap: for each layer a mask of the names that it holds."""
        flat = np.concatenate([np.asarray(mask, np.int32) for mask in present.values()])
        attributes = {
            "dim": integers([len(names), len(present)]),
            "dimnames": RList([r_strings(names), r_strings(list(present))]),
            "class": r_strings("LogMap"),
        }
        return RVector(flat, "logical", attributes)

    def assay5(
        self,
        layers: Mapping[str, Any],
        features: Mapping[str, Any] | None = None,
        cells: Mapping[str, Any] | None = None,
    ) -> RS4:
        """Make an Assay5; without masks every layer holds every feature and cell."""
        every_gene = {name: np.ones(len(GENES)) for name in layers}
        every_cell = {name: np.ones(len(CELLS)) for name in layers}
        return RS4(
            "Assay5", "SeuratObject",
            {"layers": named_list(layers), "features": self.log_map(GENES, every_gene | dict(features or {})),
             "cells": self.log_map(CELLS, every_cell | dict(cells or {})), "meta.data": data_frame({}, GENES)},
        )  # fmt: skip

    def metadata(self, **columns: Any) -> RList:
        usual = {"orig.ident": r_strings(["a", "a", "a", "b", "b", "b"]), "nCount_RNA": doubles(COUNTS.sum(axis=1)),
                 "nFeature_RNA": integers((COUNTS > 0).sum(axis=1))}  # fmt: skip
        return data_frame(usual | columns, CELLS)

    def reduction(self, values: np.ndarray, cells: list[str] | None = CELLS, key: str = "PC_") -> RS4:
        names = [f"{key}{i + 1}" for i in range(values.shape[1])]
        slots = {"cell.embeddings": self.matrix(values, cells, names), "key": r_strings(key)}
        return RS4("DimReduc", "SeuratObject", slots)

    def seurat(self, **slots: Any) -> RS4:
        """Make a Seurat object of a user's own."""
        usual = {
            "assays": named_list({"RNA": self.assay()}),
            "meta.data": self.metadata(),
            "active.assay": r_strings("RNA"),
            "active.ident": factor(np.array([0, 0, 1, 1, 2, 2]), ["B", "T", "NK"], names=CELLS),
            "graphs": RList([]),
            "reductions": named_list({"pca": self.reduction(np.arange(12.0).reshape(6, 2))}),
            "project.name": r_strings("demo"),
            "misc": RList([]),
            "version": package_version("4.1.3"),
        }
        return RS4("Seurat", "SeuratObject", usual | slots)

    def platform(self, **slots: Any) -> RS4:
        """Make a Seurat object as the platform's pipeline writes it."""
        ids = ["ENSG1", "ENSG2", "ENSG3", "ENSG4"]
        annotations = data_frame(
            {"input": r_strings(ids[::-1]), "name": r_strings(GENES[::-1]), "original_name": r_strings(GENES[::-1])},
            ids[::-1],
        )
        dispersion = data_frame(
            {"mean": doubles([1, 2, 3, 4]), "variance": doubles([1, 1, 1, 1]),
             "variance.standardized": doubles([4, 3, 2, 1]), "SYMBOL": r_strings(GENES), "ENSEMBL": r_strings(ids)},
            ids,
        )  # fmt: skip
        misc = {"gene_annotations": annotations, "gene_dispersion": dispersion,
                "color_pool": r_strings(["#112233"] * 2), "numPCs": doubles(2),
                "active.reduction": r_strings("pca")}  # fmt: skip
        assay = self.assay(counts=self.sparse(COUNTS, ids), data=self.sparse(normalised(), ids))
        columns = {"cells_id": integers([5, 0, 3, 9, 1, 2]), "samples": r_strings(["s1"] * 3 + ["s2"] * 3),
                   "percent.mt": doubles([1] * 6), "doublet_scores": doubles([0.1] * 6)}  # fmt: skip
        return self.seurat(
            **{"assays": named_list({"RNA": assay}), "meta.data": self.metadata(**columns), "misc": named_list(misc)}
            | slots
        )


@pytest.fixture(scope="session")
def trees() -> SeuratTrees:
    """A builder of small objects: 6 cells, 4 genes."""
    return SeuratTrees()


@pytest.fixture
def in_process(monkeypatch):
    """Read without a child process, which tests of their own have: here many files are read."""

    def run(function: str, kwargs: dict[str, Any], **_: Any) -> Any:
        module, _, name = function.partition(":")
        if "alone" in kwargs:  # this process has other things to do: its limits stay
            kwargs = {**kwargs, "alone": False}
        return getattr(importlib.import_module(module), name)(**kwargs, progress=lambda _stage, _part=None: None)

    monkeypatch.setattr("cellworker.formats.opening.sandbox.run_sandboxed", run)
