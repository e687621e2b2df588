// Mean expression and share of expressing cells of several genes by group, as the worker computes them.
import { deviation, mean } from "d3-array";
import { useMemo } from "preact/hooks";
import { Kept } from "../data/loaded";
import { steps, rampOf } from "../map/palette";
import { shortened } from "../map/labels";
import { dark } from "../state/theme";
import { Failure, Waiting } from "../ui/States";
import { ask } from "../wire/door";
import type { Dots as Result, GroupSummary } from "../wire/types";
import { Figure } from "./Figure";
import type { PlotGroups } from "./groups";

const ROW = 22;
const MOST_LEFT = 108;
const LETTER_PX = 6.4;
const MOST_LETTERS = 16;
/** An Ensembl id with its version is longer; its end tells ids apart, and is in the tip of each dot. */
const MOST_GENE_LETTERS = 15;
/** Height of one letter of a gene's slanted name. */
const SLANTED_PX = 5.1;
const LIMIT = 2.5;
const kept = new Kept<Result>(12);

interface Props {
  readonly groupBy: string;
  readonly groupName: string;
  readonly groups: PlotGroups;
  /** Empty takes the marker genes of the groups. */
  readonly genes: readonly string[];
  /** Version of the cell sets, so that changed sets are asked for again. */
  readonly version: string;
}

/** The row of each group of the answer: in the order of the lists, which the worker's is not. */
function rowsOf(names: readonly string[], { shown }: PlotGroups): number[] {
  const places = new Map([...shown].reverse().map((group, i) => [group.name, shown.length - i]));
  const order = [...names.keys()].sort((a, b) => (places.get(names[a]) ?? Infinity) - (places.get(names[b]) ?? Infinity) || a - b);
  const rows: number[] = [];
  order.forEach((group, row) => (rows[group] = row));
  return rows;
}

/** Markers in the order of the groups that express them most, so that they stand along the diagonal. */
function diagonal({ geneNames, geneNameIdx, cellSetsIdx, avgExpression }: Result, rows: readonly number[]): string[] {
  const best = geneNames.map(() => ({ group: 0, mean: -Infinity }));
  geneNameIdx.forEach((gene, k) => {
    const mean = avgExpression[k] ?? -Infinity;
    if (mean > best[gene].mean) best[gene] = { group: rows[cellSetsIdx[k]], mean };
  });
  return [...geneNames.keys()].sort((a, b) => best[a].group - best[b].group || best[b].mean - best[a].mean).map((i) => geneNames[i]);
}

function scaled(means: readonly (number | null)[]): (number | null)[] {
  const known = means.filter((mean) => mean !== null);
  const middle = mean(known) ?? 0;
  const spread = deviation(known) ?? 0;
  return means.map((one) => (one === null || !spread ? null : Math.max(-LIMIT, Math.min(LIMIT, (one - middle) / spread))));
}

/** Some groups of a class: their summaries gene by gene, because the dot plot's own task takes whole classes. */
async function ofSome({ shown, asked }: PlotGroups, genes: readonly string[]): Promise<Result> {
  const found = await Promise.all(genes.map((gene) => ask("GetGroupSummaries", { of: { gene }, groupBy: asked, nBins: 1, nPoints: 2 }, `${gene} by group`)));
  const each = <T,>(of: (summary: GroupSummary) => T) => found.flatMap(({ groups }) => groups.map(of));
  return {
    geneNames: [...genes], cellSetsNames: shown.map((group) => group.name),
    geneNameIdx: found.flatMap(({ groups }, gene) => groups.map(() => gene)), cellSetsIdx: found.flatMap(({ groups }) => groups.map((_, i) => i)),
    avgExpression: found.flatMap(({ groups }) => scaled(groups.map((summary) => summary.mean))),
    cellsPercentage: each((summary) => (summary.cells ? (100 * summary.positive) / summary.cells : null)),
  };
}

export function Dots({ groupBy, groupName, groups, genes, version }: Props) {
  const some = groups.others.length > 0;
  const key = JSON.stringify([some ? groups.asked : groupBy, genes, version]);
  const result = useMemo(
    () =>
      kept.get(key, () =>
        some ? ofSome(groups, genes) : ask("DotPlot", { groupBy, useMarkerGenes: !genes.length, numberOfMarkers: 3, customGenesList: [...genes], filterBy: { group: "All", key: "All" } }, "Dot plot"),
      ),
    [key],
  ).value;
  if (result.state === "loading") return <Waiting text="Averaging" />;
  if (result.state === "failed") return <Failure message={result.message} small />;
  const { cellSetsNames, geneNames, cellSetsIdx, geneNameIdx, avgExpression, cellsPercentage } = result.value;
  if (!cellSetsNames?.length) return <Failure message="None of these groups has cells." small />;
  const rows = rowsOf(cellSetsNames, groups);
  const left = Math.min(MOST_LEFT, 20 + LETTER_PX * Math.min(MOST_LETTERS, Math.max(...cellSetsNames.map((name) => name.length))));
  const names = genes.length ? genes.filter((gene) => geneNames.includes(gene)) : diagonal(result.value, rows);
  const column = new Map(names.map((gene, i) => [gene, i]));
  const colors = steps(rampOf("zero", dark.value));
  const height = cellSetsNames.length * ROW + 26 + SLANTED_PX * Math.min(MOST_GENE_LETTERS, Math.max(...names.map((gene) => gene.length)));
  const table = () => ({
    group: cellSetsIdx.map((i) => cellSetsNames[i]), gene: geneNameIdx.map((i) => geneNames[i]), scaled_mean: avgExpression, percent_expressing: cellsPercentage,
  });
  return (
    <Figure title={`Genes by ${groupName}`} note={`size: share of cells; colour: scaled mean${some ? " of log-normalised values" : ""}`} label={`Dot plot of ${names.length} genes in ${cellSetsNames.length} groups`} height={height} table={table}>
      {(width) => {
        const step = Math.min(34, (width - left - 6) / Math.max(1, names.length));
        const most = Math.min(step, ROW) / 2 - 1;
        return (
          <>
            {cellSetsNames.map((name, i) => <text key={name} class="tick" x={left - 12} y={8 + ROW * (rows[i] + 0.5) + 4} text-anchor="end">{shortened(name, MOST_LETTERS)}</text>)}
            {names.map((gene, i) => {
              const x = left + step * (i + 0.5);
              const y = cellSetsNames.length * ROW + 18;
              return <text key={gene} class="tick gene" x={x} y={y} text-anchor="end" transform={`rotate(-50 ${x} ${y})`}>{shortened(gene, MOST_GENE_LETTERS)}</text>;
            })}
            {cellSetsIdx.map((group, k) => {
              const at = column.get(geneNames[geneNameIdx[k]]);
              if (at === undefined) return null;
              const mean = avgExpression[k];
              const share = (cellsPercentage[k] ?? 0) / 100;
              const level = mean === null ? 0 : Math.round(((Math.max(-LIMIT, Math.min(LIMIT, mean)) + LIMIT) / (2 * LIMIT)) * 255);
              return (
                <circle key={k} cx={left + step * (at + 0.5)} cy={8 + ROW * (rows[group] + 0.5)} r={Math.max(0.6, Math.sqrt(share) * most)} fill={`rgb(${colors[level * 3]},${colors[level * 3 + 1]},${colors[level * 3 + 2]})`} class="dot">
                  <title>{`${geneNames[geneNameIdx[k]]} in ${cellSetsNames[group]}: ${(share * 100).toFixed(0)} % express it, scaled mean ${mean === null ? "none" : mean.toFixed(2)}`}</title>
                </circle>
              );
            })}
          </>
        );
      }}
    </Figure>
  );
}
