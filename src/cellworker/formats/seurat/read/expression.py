"""Counts and log-normalised values of a Seurat assay, by the kinds of values in its slots or layers."""

from dataclasses import dataclass

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice, used_for
from cellworker.formats.common.matrices.normalise import as_logarithms, log_normalise, tell_about_counts
from cellworker.formats.common.matrices.value_evidence import gather_with_base
from cellworker.formats.common.matrices.value_kinds import Decision, Hint, decide
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.seurat.read.assay import Assay, data_is_raw

__all__ = ["SeuratExpression", "read_expression"]


@dataclass(frozen=True, slots=True)
class SeuratExpression:
    """The served matrices of an assay.

    Attributes
    ----------
    counts
        None where there are none, or where that slot holds something else.
    matrices
        The sentence about each slot (`used_for`).
    """

    counts: SparseDraft | None
    data: SparseDraft
    matrices: list[dict[str, str]]


def read_expression(
    name: str, assay: Assay, wanted: MatrixChoice, findings: Findings, scratch: Scratch, *, platform: bool
) -> SeuratExpression:
    """Decide what the slots ``counts`` and ``data`` hold, and make log-normalised values where there are none.

    Parameters
    ----------
    name
        The assay's.
    wanted
        A matrix that the user named is taken as the user says.
    platform
        Whether the platform made the object: ``data`` is then served as it is, as the original does, unless it is the
        raw counts again.

    Raises
    ------
    PartBrokenError
        When there is nothing to serve.
    """
    counts, data = assay.counts, assay.data
    of_counts = _decided(counts, "counts") if counts is not None else None
    again = data is not None and data_is_raw(counts, data)
    of_data = of_counts if again else _decided(data, "data") if data is not None else None
    kept = counts
    if counts is not None and of_counts is not None and not wanted.counts and not platform:
        kept = None if of_counts.kind not in {"counts", "scaled"} else counts
    if wanted.counts == "none":
        kept = None
    fields = {kind: f"assay {name} {kind}" for kind in ("counts", "data")}
    if kept is None:
        found = "none" if of_counts is None else f"{of_counts.title} ({of_counts.why})"
        findings.warning(
            fields["counts"], found=found, expected="raw counts",
            advice="comparisons between samples and other requests that need counts will be refused",
        )  # fmt: skip
    elif of_counts is not None:
        tell_about_counts(fields["counts"], kept, findings)
    work = _Work(fields, of_counts, of_data, again=again and not wanted.data, as_it_is=platform or bool(wanted.data))
    served = work.served(assay, findings, scratch)
    from_data = data is not None and not again
    matrices = [
        used_for(
            f"{name}/{kind}",
            decision,
            findings,
            counts=kind == "counts" and kept is not None,
            data=(kind == "data") == from_data,
            as_it_is=work.as_it_is if from_data else served is counts,
            told=platform or bool(wanted.data if kind == "data" else wanted.counts) or _is_seurats(kind, decision),
        )
        for kind, decision in (("counts", of_counts), ("data", of_data))
        if decision is not None
    ]
    return SeuratExpression(kept, served, matrices)


def _is_seurats(kind: str, decision: Decision) -> bool:
    """Return whether these are the natural logarithms for which Seurat has the slot data."""
    return kind == "data" and decision.kind == "log"


def _decided(matrix: SparseDraft, hint: Hint) -> Decision:
    return decide(gather_with_base(matrix), hint)


@dataclass(frozen=True, slots=True)
class _Work:
    """Makes log-normalised values of what the slots hold.

    `again` tells that data is the counts again, `as_it_is` that data of its own is not to be changed.
    """

    fields: dict[str, str]
    of_counts: Decision | None
    of_data: Decision | None
    again: bool
    as_it_is: bool

    def served(self, assay: Assay, findings: Findings, scratch: Scratch) -> SparseDraft:
        data, of_data = assay.data, self.of_data
        if data is not None and not self.again and of_data is not None:
            return data if self.as_it_is else as_logarithms(data, self.fields["data"], of_data, findings, scratch)
        return self._from_counts(assay, findings, scratch)

    def _from_counts(self, assay: Assay, findings: Findings, scratch: Scratch) -> SparseDraft:
        counts, decision, field = assay.counts, self.of_counts, self.fields["counts"]
        assert counts is not None
        assert decision is not None
        if self.again and _below_zero(decision, counts):
            findings.warning(
                field, found=f"the same values as in data, and {decision.why}", expected="raw counts",
                advice="data is served as it is; comparisons between samples will be refused",
            )  # fmt: skip
            return counts
        if decision.kind == "counts":
            findings.fallback(
                self.fields["data"],
                found=f"the {'' if decision.corrected else 'raw '}{decision.title} again"
                if self.again
                else "no normalised values",
                advice="the counts are log-normalised as Seurat's NormalizeData() does by default",
            )
            return log_normalise(counts, field, findings, scratch)
        return as_logarithms(counts, field, decision, findings, scratch)


def _below_zero(decision: Decision, counts: SparseDraft) -> bool:
    """Return whether too many values are below 0 for normalisation."""
    return decision.kind in {"scaled", "counts"} and int((counts.values < 0).sum()) > 0.01 * len(counts.values)
