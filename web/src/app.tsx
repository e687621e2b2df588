// The page: on the left the lists that colour and select, in the middle the maps, on the right the analyses.
import { ClustersPanel } from "./analyses/ClustersPanel";
import { TissuePanel } from "./analyses/TissuePanel";
import { TrajectoryPanel } from "./analyses/TrajectoryPanel";
import { TypesPanel } from "./analyses/TypesPanel";
import { PlotsPanel } from "./charts/PlotsPanel";
import { ComparePanel } from "./compare/ComparePanel";
import { GenesPanel, VariableGenes } from "./genes/GenesPanel";
import { ScoresPanel } from "./genes/ScoresPanel";
import { tissues } from "./data/tissues";
import { MapView } from "./map/MapView";
import { ResultsPanel } from "./results/ResultsPanel";
import { ColumnsPanel } from "./sets/ColumnsPanel";
import { SetsPanel } from "./sets/SetsPanel";
import { update, view, type LeftTab, type RightTab } from "./state/view";
import { started } from "./start";
import { Tabs } from "./ui/Fields";
import { Footer } from "./ui/Footer";
import { Header } from "./ui/Header";
import { Keys } from "./ui/Keys";
import { Opening } from "./ui/Opening";
import { Palette } from "./ui/Palette";
import { Tour } from "./ui/Tour";

const LEFT: readonly (readonly [LeftTab, string])[] = [["sets", "Sets"], ["columns", "Columns"], ["genes", "Genes"], ["scores", "Scores"]];
const RIGHT: readonly (readonly [RightTab, string])[] = [
  ["compare", "Compare"], ["plots", "Plots"], ["clusters", "Clusters"], ["types", "Types"], ["trajectory", "Trajectory"], ["tissue", "Tissue"], ["results", "Results"],
];

function Left() {
  const { left } = view.value;
  return (
    <aside class="left" aria-label="Lists to colour and select by">
      <Tabs label="Lists to colour and select by" value={left} options={LEFT} onChange={(tab) => update({ left: tab })} />
      {left === "sets" && <SetsPanel />}
      {left === "columns" && <ColumnsPanel />}
      {left === "genes" && <GenesPanel />}
      {left === "scores" && <ScoresPanel />}
      {left === "sets" && <VariableGenes />}
    </aside>
  );
}

function Right() {
  const { right } = view.value;
  // a file without tissues needs no such tab
  const options = RIGHT.filter(([tab]) => tab !== "tissue" || right === "tissue" || tissues().length);
  return (
    <aside class="right" aria-label="Analyses">
      <Tabs label="Analyses" value={right} options={options} onChange={(tab) => update({ right: tab })} />
      {right === "compare" && <ComparePanel />}
      {right === "plots" && <PlotsPanel />}
      {right === "clusters" && <ClustersPanel />}
      {right === "types" && <TypesPanel />}
      {right === "trajectory" && <TrajectoryPanel />}
      {right === "tissue" && <TissuePanel />}
      {right === "results" && <ResultsPanel />}
    </aside>
  );
}

export function App() {
  const now = started.value;
  if (now.state !== "ready") return <Opening failure={now.state === "failed" ? now.message : ""} />;
  const { maps, leftFolded, rightFolded } = view.value;
  return (
    <div class={`app ${leftFolded ? "no-left" : ""} ${rightFolded ? "no-right" : ""}`}>
      <Header />
      {!leftFolded && <Left />}
      <main class={`maps-${maps.length}`}>{maps.map((map, i) => <MapView key={map.id} map={map} first={i === 0} />)}</main>
      {!rightFolded && <Right />}
      <Footer />
      <Palette />
      <Keys />
      <Tour />
    </div>
  );
}
