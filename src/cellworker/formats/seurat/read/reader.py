"""From a parsed Seurat object to an experiment.

What is read, and what stands in for what is missing (each stand-in is listed in `Origin.fallbacks`):

* the assay RNA, else the active assay;
* ``data``; where it is absent, or the raw counts again, the counts are log-normalised as NormalizeData does
  (`cellworker.formats.common.matrices.value_kinds` tells what each holds);
* ``meta.data$cells_id``, else 0 .. n - 1;
* gene symbols from ``misc$gene_annotations``, else the assay's feature names;
* samples from the column that `cellworker.formats.common.cells.samples` chooses, else one sample;
* UMI counts, numbers of genes, mitochondrial shares and doublet scores as `formats.common.cells.measures` chooses them;
* ``misc$gene_dispersion``, else the assay's variable features, else the variance of the normalised values;
* ``misc$color_pool``, else a built-in pool.

Code in the object (closures, environments, commands) has been skipped by the reader and is never looked at.
"""

from collections.abc import Mapping

import numpy as np

from cellworker.errors import ErrorCode
from cellworker.experiment.draft import ExperimentDraft
from cellworker.experiment.model import Categorical, Column, Genes, Origin
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.cells.cell_ids import read_cell_ids  # fmt: skip
from cellworker.formats.common.cells.measures import add_measures
from cellworker.formats.common.cells.measuring import Matrices, mitochondrial_genes
from cellworker.formats.common.cells.names import unique_barcodes, unique_names
from cellworker.formats.common.cells.samples import add_samples
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.choosing import ONE_OBJECT
from cellworker.formats.r.foreign_objects import advice_on
from cellworker.formats.r.rds.model import RS4, RValue
from cellworker.formats.r.values import class_names, describe, frame, named, slot, text, version
from cellworker.formats.seurat.read.assay import Assay, choose_assay, read_assay
from cellworker.formats.seurat.read.cells import colors_of, read_identities, read_metadata  # fmt: skip
from cellworker.formats.seurat.read.expression import SeuratExpression, read_expression
from cellworker.formats.seurat.read.genes import read_dispersions, read_genes
from cellworker.formats.seurat.read.images import read_all_images
from cellworker.formats.seurat.read.parts import read_graphs, read_misc, read_reductions, read_scaled
from cellworker.formats.seurat.read.stored import stored_results
from cellworker.formats.seurat.read.v2 import from_version_2

__all__ = ["read_seurat"]


def read_seurat(
    root: RValue,
    findings: Findings,
    scratch: Scratch,
    outside: Outside | None = None,
    wanted: MatrixChoice | None = None,
) -> ExperimentDraft | None:
    """Turn a parsed object into an experiment, checked as far as that is cheap; None when it cannot be served.

    `root` is what `read_rds` found at the top of the file. Every problem is recorded in `findings`, none is raised.
    Large arrays made on the way lie in `scratch`.
    Disk-backed layers are looked for in `outside`; without it they are refused. `wanted` is the
    user's choice of its matrices and samples.
    """
    wanted = wanted or MatrixChoice()
    try:
        seurat = _as_seurat(root, findings)
    except PartBrokenError:
        return None
    assay: Assay | None = None
    name, assay_value = "", None
    with findings.part():
        name, assay_value = choose_assay(seurat, findings, wanted)
        assay = read_assay(name, assay_value, findings, scratch, outside, wanted=wanted)
    table = frame(slot(seurat, "meta.data"))
    cells = assay.cells if assay else list(table.rows or []) if table else []
    if table and assay and table.n_rows > len(cells):
        found = f"{table.n_rows} cells in the object, {len(cells)} in the assay {name}"
        findings.fallback("cells", found=found, advice="the assay's cells are served")
    metadata = read_metadata(table, cells, findings)
    misc_items = dict(named(slot(seurat, "misc")))
    platform = "cells_id" in metadata and "gene_annotations" in misc_items
    cell_ids = read_cell_ids(metadata, len(cells), findings, platform=platform)
    project = text(slot(seurat, "project.name"))
    chosen = {
        "samples": add_samples(
            metadata,
            cells,
            findings,
            table="meta.data",
            wanted=wanted.sample or None,
            platform=platform,
            project=project,
        )
    }
    gene_ids = unique_names(assay.genes, "genes", "feature names", findings) if assay else []
    genes = read_genes(gene_ids, misc_items.get("gene_annotations"), findings) if assay else Genes([], [], [])
    reductions = read_reductions(slot(seurat, "reductions"), cells, findings, scratch)
    misc = read_misc(slot(seurat, "misc"), reductions, findings)
    graphs = read_graphs(slot(seurat, "graphs"), cells, findings, scratch)
    if assay is None:
        return None
    expression: SeuratExpression | None = None
    dispersions, stand_in = None, False
    with findings.part():
        expression = read_expression(name, assay, wanted, findings, scratch, platform=platform)
        dispersions, stand_in = read_dispersions(
            genes, misc_items.get("gene_dispersion"), assay_value, expression.data, findings
        )
    assays = dict(named(slot(seurat, "assays")))
    scaled = read_scaled(assays, name, genes=genes.by_id, cells=cells, findings=findings, scratch=scratch)
    if expression is None or findings.errors:
        return None
    if expression is not None:
        matrices = Matrices(expression.counts, expression.data, mitochondrial_genes(genes))
        chosen |= add_measures(
            metadata, matrices, len(cells), findings, table="meta.data", assay=name, keep_own=platform
        )
    return ExperimentDraft(
        cell_ids=cell_ids,
        barcodes=unique_barcodes(cells, "cells", "barcodes", findings),
        genes=genes,
        data=expression.data,
        counts=expression.counts,
        scaled_genes=scaled[0] if scaled else None,
        scaled_values=scaled[1] if scaled else None,
        metadata=metadata,
        reductions=reductions,
        graphs=graphs,
        images=read_all_images(
            slot(seurat, "images"), misc_items.get("cellworker_images"), cells, misc.technology, findings
        ),
        stored=stored_results(slot(seurat, "misc"), findings).tables,
        dispersions=dispersions,
        dispersions_stand_in=stand_in,
        identities=_identities(read_identities(slot(seurat, "active.ident"), cells), misc_items, metadata),
        misc=misc,
        origin=Origin(
            kind="platform" if platform else "own",
            writer=f"Seurat {version(slot(seurat, 'version'))}".strip(),
            assay=name,
            assay_class=(class_names(assay_value) or [""])[0],
            fallbacks=findings.fallbacks,
            columns={role: column for role, (column, _) in chosen.items()},
            reasons={role: reason for role, (_, reason) in chosen.items()},
            count_layers=assay.count_layers if expression.counts is not None else None,
        ),
        extra={"matrices": expression.matrices, "colors": colors_of(misc_items, metadata)},
    )


def _identities(
    found: Categorical | None, misc: Mapping[str, RValue], metadata: Mapping[str, Column]
) -> Categorical | None:
    """Return the identities, unless cellworker made them because there were none, and they are unchanged."""
    if found is None or "cellworker_identities" not in misc:
        return found
    column = metadata.get(text(misc["cellworker_identities"]))
    made = column if isinstance(column, Categorical) else Categorical(np.zeros(len(found.codes), np.int32), ["cells"])
    same = made.categories == found.categories and np.array_equal(made.codes, found.codes)
    return None if same else found


def _as_seurat(root: RValue, findings: Findings) -> RS4:
    if isinstance(root, RS4) and root.class_name == "Seurat":
        return root
    if isinstance(root, RS4) and root.class_name == "seurat":
        return from_version_2(root, findings)
    advice = advice_on(root)
    raise findings.broken(
        "the file",
        found=describe(root),
        expected=ONE_OBJECT,
        advice=advice,
        code=ErrorCode.EXPERIMENT_UNSUPPORTED,
    )
