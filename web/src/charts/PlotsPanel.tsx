// Plots of chosen genes by the sets of a class.
import { useState } from "preact/hooks";
import { findGenes, geneNames, valuesOfGenes } from "../data/genes";
import { setsVersion } from "../sets/sending";
import { classes, type CellClass } from "../sets/model";
import { genesOfText } from "../genes/ScoresPanel";
import { addPlotGene } from "../genes/GenesPanel";
import { saveSelection, selectedCount, selection } from "../state/selection";
import { update, view, type PlotKind } from "../state/view";
import { shortened } from "../map/labels";
import { Choice } from "../ui/Fields";
import { Failure, Hint, Waiting } from "../ui/States";
import type { Grouping } from "../wire/types";
import { ColumnHistogram } from "./ColumnHistogram";
import { Composition } from "./Composition";
import { Dots } from "./Dots";
import { GeneAgainstGene } from "./GeneAgainstGene";
import { GeneHistogram } from "./GeneHistogram";
import { Heatmap } from "./Heatmap";
import { plotClass, plotGroups, type PlotGroup, type PlotGroups } from "./groups";
import { WhichGroups } from "./WhichGroups";
import { variables } from "./variables";
import { Violins } from "./Violins";

const KINDS: readonly (readonly [PlotKind, string])[] = [
  ["violin", "Violins"], ["dots", "Dot plot"], ["heatmap", "Heatmap"], ["histogram", "Histogram"], ["composition", "Composition"], ["scatter", "Gene against gene"],
];

/** The genes to plot: those chosen, else the one that colours a map, else the most variable. */
function genesToPlot(most: number): readonly string[] {
  const { plotGenes, maps } = view.value;
  if (plotGenes.length && (most > 2 || plotGenes.length >= most)) return plotGenes.slice(0, most);
  const shown = maps.flatMap((map) => (map.colour.by === "gene" ? [map.colour.gene, ...(map.colour.with ? [map.colour.with] : [])] : []));
  return [...new Set([...plotGenes, ...shown, ...(geneNames.value?.names.slice(0, 3) ?? [])])].slice(0, Math.min(most, Math.max(2, shown.length)));
}

function Chips() {
  const [text, setText] = useState("");
  const found = text ? findGenes(text, 6) : [];
  const add = (gene: string) => (addPlotGene(gene), setText(""));
  return (
    <div class="chips">
      {view.value.plotGenes.map((gene) => (
        <button key={gene} class="chip gene" title={`Leave ${gene} out`} onClick={() => update({ plotGenes: view.value.plotGenes.filter((other) => other !== gene) })}>{shortened(gene, 24)} ×</button>
      ))}
      {view.value.plotColumns.map((name) => (
        <button key={name} class="chip" title={`Leave ${name} out`} onClick={() => update({ plotColumns: view.value.plotColumns.filter((other) => other !== name) })}>{name.slice(0, 40)} ×</button>
      ))}
      {view.value.plotScores.map((name) => (
        <button key={name} class="chip" title={`Leave ${name} out`} onClick={() => update({ plotScores: view.value.plotScores.filter((other) => other !== name) })}>{name.slice(0, 40)} ×</button>
      ))}
      <input
        type="search" placeholder="Add genes" aria-label="Add genes to the plots" value={text} onInput={(event) => setText(event.currentTarget.value)}
        onPaste={(event) => {
          const { known } = genesOfText(event.clipboardData?.getData("text") ?? "");
          if (known.length > 1) (event.preventDefault(), update({ plotGenes: [...new Set([...view.value.plotGenes, ...known])] }));
        }}
        onKeyDown={(event) => event.key === "Enter" && found[0] && add(found[0])}
      />
      {found.map((gene) => <button key={gene} class="chip gene faint" onClick={() => add(gene)}>{shortened(gene, 24)} +</button>)}
    </div>
  );
}

/** What is done with the cells of the box. */
function Gated() {
  if (!selection.value) return <Hint>Drag a box to select its cells.</Hint>;
  return (
    <div class="buttons">
      <button class="btn p" onClick={() => void saveSelection()}>Make a set of {selectedCount.value.toLocaleString("en")} cells <kbd>N</kbd></button>
    </div>
  );
}

interface OfGenesProps {
  readonly kind: PlotKind;
  readonly groupBy: Grouping;
  readonly groups: readonly PlotGroup[];
  readonly version: string;
}

function OfGenes({ kind, groupBy, groups, version }: OfGenesProps) {
  const chosen = view.value.plotColumns.length + view.value.plotScores.length > 0;
  const genes = kind !== "scatter" && chosen ? view.value.plotGenes.slice(0, 12) : genesToPlot(kind === "scatter" ? 2 : 12);
  const own = variables(genes);
  if (kind === "violin") return <>{own.map((variable) => <Violins key={variable.key} variable={variable} groupBy={groupBy} groups={groups} version={version} />)}</>;
  const now = valuesOfGenes(genes).value;
  if (now.state === "loading") return <Waiting text="Reading genes" />;
  if (now.state === "failed") return <Failure message={now.message} small />;
  if (kind === "scatter") {
    return now.value.length < 2 ? <Hint>Add two genes.</Hint> : <><GeneAgainstGene genes={[now.value[0], now.value[1]]} groups={groups} /><Gated /></>;
  }
  return (
    <>
      {own.filter((variable) => !variable.gene).map((variable) => <ColumnHistogram key={variable.key} variable={variable} groupBy={groupBy} groups={groups} version={version} />)}
      {now.value.map((gene) => <GeneHistogram key={gene.name} gene={gene} groups={groups} />)}
    </>
  );
}

/** Markers are found in whole classes; of some groups the most variable genes are shown. */
const MOST_VARIABLE = 12;

function Plot({ item, groups }: { item: CellClass; groups: PlotGroups }) {
  const { plot, plotGenes } = view.value;
  const { shown, others, asked } = groups;
  const version = setsVersion.value ?? "";
  const markers = !plotGenes.length && !others.length;
  const genes = markers ? [] : plotGenes.length ? plotGenes : (geneNames.value?.names.slice(0, MOST_VARIABLE) ?? []);
  const said = plotGenes.length ? null : <Hint>{markers ? "Without genes of your own: three marker genes of each group." : "Without genes of your own: the most variable ones. Marker genes are found where all groups are shown."}</Hint>;
  switch (plot) {
    case "dots":
      return <><Dots groupBy={item.key} groupName={item.name} groups={groups} genes={genes} version={version} />{said}</>;
    case "heatmap":
      return <><Heatmap groupBy={item.key} groupName={item.name} groups={shown} genes={genes} version={version} />{!markers && said}</>;
    case "composition":
      return <Composition item={item} groups={groups} />;
    default:
      return <OfGenes kind={plot} groupBy={asked} groups={shown} version={version} />;
  }
}

export function PlotsPanel() {
  const { plot } = view.value;
  const item = plotClass();
  if (!item) return <div class="panel"><Hint>There are no cell sets to group by yet. Cluster the cells, or make a set.</Hint></div>;
  const groups = plotGroups(item);
  const { shown } = groups;
  const options = classes.value.filter((other) => other.children.length).map((other) => [other.key, other.name] as const);
  return (
    <div class="panel scroll">
      <div class="form">
        <Choice label="Plot" value={plot} options={KINDS} onChange={(kind) => update({ plot: kind })} />
        <Choice label="Groups" value={item.key} options={options} onChange={(groupBy) => update({ groupBy })} />
        <WhichGroups item={item} groups={groups} />
        {plot !== "composition" && <Chips />}
      </div>
      {shown.length ? <Plot item={item} groups={groups} /> : <Hint>{groups.others.length ? "No group has such a name." : "All groups are hidden."}</Hint>}
    </div>
  );
}
