"""The report: one self-contained page with the figures to check before trusting an experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical
from cellworker.plain_text import as_html
from cellworker.preparing.figures import histogram, knee_plot, scatter
from cellworker.preparing.integration import Integrated
from cellworker.preparing.parameters import Parameters, to_yaml
from cellworker.preparing.quality import Quality

__all__ = ["ReportContent", "report"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;max-width:1120px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d5dbe3}h3{font-size:1rem}
table{border-collapse:collapse}td,th{padding:.25rem .7rem;border-bottom:1px solid #e4e8ee;text-align:right}
td:first-child,th:first-child{text-align:left}pre{background:#f4f6f9;padding:.8rem;overflow:auto}
.row{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0}figcaption{font-weight:600}
svg text{font:11px system-ui,sans-serif;fill:#1c2430}svg .t{font-weight:600;font-size:12px}svg .x{text-anchor:middle}
svg .y{text-anchor:end}svg .a{stroke:#8b95a3}svg .b{fill:#4c7fb8}svg .l{stroke:#c0392b;stroke-dasharray:4 3}
svg .m{fill:#c0392b;paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
svg .c{fill:none;stroke:#4c7fb8;stroke-width:1.8}
svg .l{fill:none}img{border-radius:4px}.row table{align-self:flex-start}
.legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.1rem .8rem;max-width:520px;font-size:13px}
.legend i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.3em}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6eaf0}pre{background:#1e242d}svg text{fill:#e6eaf0}
svg .m{fill:#ff8a7a;stroke:#14181f}svg .l{stroke:#ff8a7a}td,th,h2{border-color:#333b47}}
"""


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Content of the report.

    Attributes
    ----------
    names, qualities
        Of the samples.
    parameters
        The parameters of the run.
    n_cells, n_genes, n_variable, n_components
        Of the result.
    samples, clusters
        Each cell's.
    before, layout
        Maps before and after integration, float64 ``(n, 2)``; `before` is None where nothing was integrated.
    before_cells
        int64: the cells that `before` shows.
    integrated
        The outcome of integration.
    versions
        Versions of cellworker and of the libraries used.
    """

    names: Sequence[str]
    qualities: Sequence[Quality]
    parameters: Parameters
    n_cells: int
    n_genes: int
    n_variable: int
    n_components: int
    samples: Categorical
    clusters: Categorical
    before: NDArray[np.float64] | None
    before_cells: NDArray[np.int64]
    layout: NDArray[np.float64]
    integrated: Integrated
    versions: Mapping[str, str]


def report(found: ReportContent) -> str:
    """Return the page; opening it loads nothing from elsewhere."""
    parts = [
        "<h1>Prepared experiment</h1>",
        (
            f"<p>{found.n_cells:,} cells of {len(found.names)} {'sample' if len(found.names) == 1 else 'samples'}, "
            f"{found.n_genes:,} genes, {len(found.clusters.categories)} clusters "
            f"({found.parameters.clustering}, resolution {found.parameters.resolution:g}). "
            f"{found.n_components} components of the {found.n_variable:,} most variable genes.</p>"
        ),
        "<h2>Cells kept, step by step</h2>",
        _steps(found),
        "<h2>Quality of each sample</h2>",
        *(_sample(name, quality) for name, quality in zip(found.names, found.qualities, strict=True)),
        "<h2>Integration</h2>",
        _integration(found),
        "<h2>Clusters</h2>",
        '<div class="row">',
        scatter("Clusters", found.layout, found.clusters.codes, [f"Cluster {x}" for x in found.clusters.categories]),
        _composition(found),
        "</div>",
        "<h2>Parameters</h2>",
        f"<pre>{as_html(to_yaml(found.parameters))}</pre>",
        "<h2>Versions</h2>",
        _table(["", "version"], [[name, version] for name, version in found.versions.items()]),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"/><title>Prepared experiment</title>'
        '<meta name="viewport" content="width=device-width"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:"/>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{as_html(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{as_html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _steps(found: ReportContent) -> str:
    names = list(dict.fromkeys(step for quality in found.qualities for step in quality.steps))
    rows = [
        [name, *(f"{quality.steps.get(step, 0):,}" for step in names), _percent(quality.steps, names)]
        for name, quality in zip(found.names, found.qualities, strict=True)
    ]
    totals = [sum(quality.steps.get(step, 0) for quality in found.qualities) for step in names]
    rows.append(["all", *(f"{total:,}" for total in totals), ""])
    return _table(["sample", *(f"after {step}" if i else step for i, step in enumerate(names)), "of cells"], rows)


def _percent(steps: Mapping[str, int], names: Sequence[str]) -> str:
    cells = steps.get("cells", 0)
    return f"{100 * steps.get(names[-1], 0) / cells:.1f} %" if cells else "none"


def _sample(name: str, quality: Quality) -> str:
    def limits(*wanted: str) -> list[tuple[str, float]]:
        out = []
        for limit in wanted:
            if limit in quality.limits:
                source = "set" if limit in quality.given else "suggested"
                out.append((f"{limit.partition('_')[0]} {quality.limits[limit]:.4g} ({source})", quality.limits[limit]))
        return out

    figures = [
        knee_plot("Barcodes by counts", quality.ranks, quality.curve, quality.steps.get("cells", 0)),
        histogram("Counts", quality.counts, limits("min_counts", "max_counts"), logarithmic=True),
        histogram("Genes", quality.genes, limits("min_genes", "max_genes"), logarithmic=True),
        histogram("Mitochondrial share, %", quality.mt, limits("max_mt")),
        histogram("Doublet score", quality.doublets, limits("max_doublet_score"), rare=True),
    ]
    notes = "".join(f"<p>{as_html(note[:1].upper() + note[1:])}.</p>" for note in quality.notes)
    return f'<h3>{as_html(name)}</h3><div class="row">{"".join(figures)}</div>{notes}'


def _integration(found: ReportContent) -> str:
    done, samples = found.integrated, found.samples
    told = (
        f"<p>{as_html(done.reason)}. Separation of the samples: {done.before:.3f}"
        + (f" before, {done.after:.3f} after" if done.method != "none" else "")
        + " (0: neighbours come from all samples as these are large; 1: all from the cell's own).</p>"
    )
    maps = []
    if found.before is not None:
        shown = len(found.before)
        title = f"Before integration ({shown:,} of the cells)" if shown < found.n_cells else "Before integration"
        maps.append(scatter(title, found.before, samples.codes[found.before_cells], samples.categories))
    title = "After integration" if found.before is not None else "Samples"
    maps.append(scatter(title, found.layout, samples.codes, samples.categories))
    return f'{told}<div class="row">{"".join(maps)}</div>'


def _composition(found: ReportContent) -> str:
    rows = []
    for number, label in enumerate(found.clusters.categories):
        inside = found.samples.codes[found.clusters.codes == number]
        counts = np.bincount(inside, minlength=len(found.samples.categories))
        rows.append([f"Cluster {label}", f"{len(inside):,}", *(f"{count:,}" for count in counts.tolist())])
    return _table(["cells", "all", *found.samples.categories], rows)
