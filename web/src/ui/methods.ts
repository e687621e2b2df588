// A paragraph for the methods section of a paper: the steps, with parameters, versions and seeds.
import { comparison } from "../compare/compare";
import { trajectory, roots } from "../analyses/trajectory";
import { scored } from "../data/scores";
import { sourceName, type MapSource } from "../data/points";
import { view } from "../state/view";
import { facts } from "../wire/door";
import { done } from "./done";

function mapSentence(source: MapSource): string {
  switch (source.kind) {
    case "saved":
      return `Cells are shown on the coordinates “${source.name}” that the file holds.`;
    case "umap":
      return `UMAP was computed from the active reduction (${source.distanceMetric} distance, minimum distance ${source.minimumDistance}, seed 42).`;
    case "tsne":
      return `t-SNE was computed from the active reduction (perplexity ${source.perplexity}, learning rate ${source.learningRate}, seed 42).`;
    case "subset":
      return `${source.type === "umap" ? "UMAP" : "t-SNE"} of the cells of “${source.name}” was computed from ${source.components === "own" ? "30 principal components of these cells alone (2,000 most variable genes)" : "the file's principal components"} (seed 42).`;
    case "tissue":
      return "Cells are shown at their coordinates in the tissue.";
  }
}

function comparisonSentence(): string | null {
  const now = comparison.value;
  if (now?.state !== "ready") return null;
  const { mode, a, b, cellsA, cellsB, table } = now.value;
  const genes = table.names.length.toLocaleString("en");
  if (mode === "samples") return `${a.name} was compared with ${b.name} by pseudobulk: counts were summed by sample and ${genes} genes tested with limma-voom.`;
  return `${a.name} (${cellsA.toLocaleString("en")} cells) was compared with ${b.name} (${cellsB.toLocaleString("en")} cells): all ${genes} genes were tested in every cell by the two-sided Wilcoxon rank-sum test with tie correction and normal approximation; p-values were adjusted by Benjamini and Hochberg. Fold changes are log2 of the ratio of mean expression.`;
}

const SCORES = { seurat: "as Seurat's AddModuleScore does", scanpy: "as scanpy's score_genes does" } as const;

function scoreSentences(): string[] {
  const shown = new Set(view.value.maps.flatMap((map) => (map.colour.by === "score" ? [map.colour.name] : [])));
  const wanted = [...scored.value].filter(([name]) => shown.has(name) || view.value.plotScores.includes(name));
  return wanted.map(([name, made]) => `The gene set “${name}” (${made.genes.join(", ")}) was scored in each cell ${SCORES[made.method]} (${made.nBins} bins of expression, ${made.nControls} control genes, seed ${made.seed}).`);
}

export function methodsText(): string {
  const known = facts.value;
  if (!known) return "";
  const sources = [...new Set(view.value.maps.map((map) => JSON.stringify(map.source)))].map((text) => mapSentence(JSON.parse(text) as MapSource));
  const path = trajectory.value;
  const parts = [
    `${known.cells.toLocaleString("en")} cells and ${known.genes.toLocaleString("en")} genes (${known.writer || "unknown writer"}, assay ${known.assay}; content ${known.key.slice(0, 16)}) were analysed with cellworker ${known.version}.`,
    ...sources,
    ...done.value,
    ...scoreSentences(),
    comparisonSentence(),
    path ? `A principal graph of ${path.graph.x.length} nodes was learned on ${sourceName(path.source)} after monocle3 (seed 42); pseudotime was measured from ${roots.value.length} root nodes.` : null,
    ...known.fallbacks,
  ];
  return parts.filter(Boolean).join(" ");
}
