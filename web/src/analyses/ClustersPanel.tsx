// Clusters at any resolution, of all cells or of some; and a map of some cells alone.
import { useState } from "preact/hooks";
import { isBitmap, keyOf } from "../data/bitmap";
import { findSet } from "../sets/model";
import { SetOptions } from "../sets/SetOptions";
import { selectedCount, selection } from "../state/selection";
import { addMap, MAX_MAPS, view } from "../state/view";
import { Choice, NumberField } from "../ui/Fields";
import { Hint } from "../ui/States";
import { ask } from "../wire/door";
import { noteDone } from "../ui/done";
import { Run } from "./Run";

type Method = "louvain" | "leiden";
type Components = "own" | "saved";

const METHODS = [["louvain", "Louvain"], ["leiden", "Leiden"]] as const;
const COMPONENTS = [["own", "of these cells"], ["saved", "of the whole file"]] as const;
const MAPS = [["umap", "UMAP"], ["tsne", "t-SNE"]] as const;

/** The cells that a choice means: a set by its key, the selection by its bitmap; null for all. */
function cellsOf(of: string): { key: string; name: string } | null {
  if (of === "selection") return selection.value ? { key: keyOf(selection.value.mask), name: "selection" } : null;
  const found = of ? findSet(of) : undefined;
  return found ? { key: of, name: found.set.name } : null;
}

function Of({ value, onChange, all }: { value: string; onChange: (of: string) => void; all: boolean }) {
  return (
    <label class="field wide">
      <span>Of</span>
      <select aria-label="Of which cells" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {all ? <option value="">all cells</option> : <option value="">choose cells</option>}
        <option value="selection" disabled={!selection.value}>the selected cells{selection.value ? ` (${selectedCount.value.toLocaleString("en")})` : ""}</option>
        <SetOptions />
      </select>
    </label>
  );
}

async function cluster(of: string, type: Method, resolution: number, components: Components): Promise<unknown> {
  const cells = cellsOf(of);
  if (!cells) {
    await ask("ClusterCells", { type, cellSetKey: "louvain", cellSetName: `${type} clusters`, config: { resolution } }, `${type} clusters`);
    noteDone(`Cells were clustered by ${type} (resolution ${resolution}) on the nearest-neighbour graph of the active reduction.`);
    return undefined;
  }
  const className = `${type} of ${cells.name}`;
  const body = { cellSet: cells.key, type, config: { resolution }, components, className };
  await ask("ClusterSubset", body, className);
  const space = components === "own" ? "principal components computed of these cells alone" : "the file's principal components";
  noteDone(`The cells of “${cells.name}” were clustered by ${type} (resolution ${resolution}) on ${space}.`);
  return undefined;
}

function SubsetMap({ components, setComponents }: { components: Components; setComponents: (value: Components) => void }) {
  const [of, setOf] = useState("selection");
  const [type, setType] = useState<"umap" | "tsne">("umap");
  const cells = cellsOf(of);
  const full = view.value.maps.length >= MAX_MAPS;
  const show = () => cells && addMap({ kind: "subset", type, components, cells: cells.key, name: cells.name });
  return (
    <section class="task">
      <h3>Map of some cells</h3>
      <Of value={of} onChange={setOf} all={false} />
      <Choice label="Map" value={type} options={MAPS} onChange={setType} />
      <Choice label="Components" value={components} options={COMPONENTS} onChange={setComponents} />
      <div class="buttons"><button class="btn p" disabled={!cells || full} onClick={show}>Show their map</button></div>
      {!cells && <Hint>Draw around cells on the map (<kbd>L</kbd>), or choose a cell set.</Hint>}
      {full && <Hint>Four maps are on the page; close one first.</Hint>}
      {cells && isBitmap(cells.key) && <Hint>Make a set of the selection (<kbd>N</kbd>) to find it again by name.</Hint>}
    </section>
  );
}

export function ClustersPanel() {
  const [type, setType] = useState<Method>("louvain");
  const [resolution, setResolution] = useState(0.8);
  const [of, setOf] = useState("");
  const [components, setComponents] = useState<Components>("own");
  const cells = cellsOf(of);
  const name = cells ? `${type} clusters of ${cells.name} at ${resolution}` : `${type} clusters at ${resolution}`;
  return (
    <div class="panel scroll">
      <Run title="Clusters" action={cells ? "Cluster these cells" : "Cluster all cells"} label={name} run={() => cluster(of, type, resolution, components)}>
        <Of value={cells ? of : ""} onChange={setOf} all />
        <Choice label="Method" value={type} options={METHODS} onChange={setType} />
        <NumberField label="Resolution" value={resolution} min={0} max={5} step={0.1} onChange={setResolution} />
        {cells && <Choice label="Components" value={components} options={COMPONENTS} onChange={setComponents} />}
        <Hint>
          {cells ? "A new class of cell sets is added; the clusters in use stay. " : "A higher resolution finds more clusters. They replace the clusters in use. "}
          Undo (<kbd>U</kbd>) takes it back.
        </Hint>
      </Run>
      <SubsetMap components={components} setComponents={setComponents} />
    </div>
  );
}
