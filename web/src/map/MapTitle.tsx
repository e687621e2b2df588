// The title of a map: a menu of coordinates and a menu of colours.
import { useState } from "preact/hooks";
import { cellColumns } from "../data/columns";
import { findGenes } from "../data/genes";
import { NUMBER_LABELS, pseudotime, type NumberTask } from "../data/numbers";
import { sourceName, type MapSource } from "../data/points";
import { tissues } from "../data/tissues";
import { classes } from "../sets/model";
import { updateMap, view, type Colouring, type MapState } from "../state/view";
import { Choice, NumberField } from "../ui/Fields";
import { Menu, MenuItem } from "../ui/Menu";
import { facts } from "../wire/door";
import { shortened } from "./labels";
import { colourTitle } from "./paint";

type Computed = Extract<MapSource, { kind: "umap" | "tsne" }>;

const same = (a: object, b: object) => JSON.stringify(a) === JSON.stringify(b);
const MAX_COLUMNS = 12;
const METRICS = [["cosine", "cosine"], ["euclidean", "euclidean"]] as const;

/** The settings of a map that is computed; t-SNE's are the platform's own rules for the number of cells. */
export function defaultSettings(kind: "umap" | "tsne", cells: number): Computed {
  if (kind === "umap") return { kind, minimumDistance: 0.3, distanceMetric: "cosine" };
  return { kind, perplexity: Math.min(30, Math.max(1, Math.floor((cells - 1) / 4))), learningRate: Math.max(200, Math.round(cells / 12)) };
}

function Compute({ map, close }: { map: MapState; close: () => void }) {
  const [draft, setDraft] = useState<Computed>(
    map.source.kind === "umap" || map.source.kind === "tsne" ? map.source : defaultSettings("umap", facts.value?.cells ?? 0),
  );
  return (
    <form class="sub" onSubmit={(event) => (event.preventDefault(), updateMap(map.id, { source: draft }), close())}>
      <Choice label="Compute" value={draft.kind} options={[["umap", "UMAP"], ["tsne", "t-SNE"]] as const} onChange={(kind) => setDraft(defaultSettings(kind, facts.value?.cells ?? 0))} />
      {draft.kind === "umap" ? (
        <>
          <NumberField label="Minimum distance" value={draft.minimumDistance} min={0} max={1} step={0.05} onChange={(minimumDistance) => setDraft({ ...draft, minimumDistance })} />
          <Choice label="Distance" value={draft.distanceMetric as "cosine" | "euclidean"} options={METRICS} onChange={(distanceMetric) => setDraft({ ...draft, distanceMetric })} />
        </>
      ) : (
        <>
          <NumberField label="Perplexity" value={draft.perplexity} min={1} max={100} step={1} onChange={(perplexity) => setDraft({ ...draft, perplexity })} />
          <NumberField label="Learning rate" value={draft.learningRate} min={10} max={2000} step={10} onChange={(learningRate) => setDraft({ ...draft, learningRate })} />
        </>
      )}
      <button class="btn p" type="submit">Compute</button>
    </form>
  );
}

function Sources({ map, close }: { map: MapState; close: () => void }) {
  const choose = (source: MapSource) => (updateMap(map.id, { source }), close());
  const saved = (facts.value?.reductions ?? []).filter((item) => item.dimensions >= 2);
  return (
    <>
      <h4>Saved in the file</h4>
      {saved.map((item) => {
        const source: MapSource = { kind: "saved", name: item.name };
        return <MenuItem key={item.name} on={same(source, map.source)} onClick={() => choose(source)}>{item.name}</MenuItem>;
      })}
      {!saved.length && <p class="hint">The file holds no map.</p>}
      {tissues().map((item, image) => <MenuItem key={item.name} on={same(map.source, { kind: "tissue", image })} onClick={() => choose({ kind: "tissue", image })}>Tissue {shortened(item.name, 24)}</MenuItem>)}
      <h4>Computed here</h4>
      <Compute map={map} close={close} />
    </>
  );
}

function GeneChoice({ colour, choose }: { colour: Colouring; choose: (colour: Colouring) => void }) {
  const [text, setText] = useState("");
  const first = colour.by === "gene" ? colour.gene : null;
  return (
    <>
      <input type="search" placeholder="Gene" aria-label="Find a gene" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      {findGenes(text, text ? 6 : 3).map((gene) => (
        <div class="pair" key={gene}>
          <MenuItem on={first === gene} onClick={() => choose({ by: "gene", gene })}><span class="gene">{shortened(gene, 24)}</span></MenuItem>
          {first && first !== gene && <button class="item aside" title={`Blend ${first} and ${gene}`} onClick={() => choose({ by: "gene", gene: first, with: gene })}>and {shortened(first, 16)}</button>}
        </div>
      ))}
    </>
  );
}

function Colours({ map, close }: { map: MapState; close: () => void }) {
  const choose = (colour: Colouring) => (updateMap(map.id, { colour }), close());
  const numbers = (facts.value?.numbers ?? []) as NumberTask[];
  const all = cellColumns.value.state === "ready" ? cellColumns.value.value : [];
  const columns = all.slice(0, MAX_COLUMNS);
  return (
    <>
      <h4>Gene</h4>
      <GeneChoice colour={map.colour} choose={choose} />
      <h4>Cell sets</h4>
      {classes.value.filter((item) => item.children.length).map((item) => (
        <MenuItem key={item.key} on={map.colour.by === "class" && map.colour.key === item.key} onClick={() => choose({ by: "class", key: item.key })}>{shortened(item.name, 40)}</MenuItem>
      ))}
      {numbers.length > 0 && <h4>Quality</h4>}
      {numbers.map((task) => (
        <MenuItem key={task} on={map.colour.by === "number" && map.colour.task === task} onClick={() => choose({ by: "number", task })}>{NUMBER_LABELS[task]}</MenuItem>
      ))}
      {columns.length > 0 && <h4>Columns</h4>}
      {columns.map(({ name }) => (
        <MenuItem key={name} on={map.colour.by === "column" && map.colour.name === name} onClick={() => choose({ by: "column", name })}>{shortened(name, 40)}</MenuItem>
      ))}
      {all.length > columns.length && <p class="hint">and {all.length - columns.length} more under Columns, or with Ctrl K</p>}
      {view.value.geneSets.length > 0 && <h4>Scores</h4>}
      {view.value.geneSets.map((item) => (
        <MenuItem key={item.name} on={map.colour.by === "score" && map.colour.name === item.name} onClick={() => choose({ by: "score", name: item.name })}>{shortened(item.name, 40)}</MenuItem>
      ))}
      {pseudotime.value && <MenuItem on={map.colour.by === "pseudotime"} onClick={() => choose({ by: "pseudotime" })}>Pseudotime</MenuItem>}
      <MenuItem on={map.colour.by === "plain"} onClick={() => choose({ by: "plain" })}>Nothing</MenuItem>
    </>
  );
}

export function MapTitle({ map }: { map: MapState }) {
  const linked = view.value.maps.findIndex((other) => same(other.source, map.source)) !== view.value.maps.indexOf(map);
  const how = linked ? "linked" : map.source.kind === "saved" ? "saved" : map.source.kind === "tissue" ? "" : "computed";
  const genes = map.colour.by === "gene" ? "gene" : "";
  return (
    <div class="pill t">
      <Menu kind="plain" title="Choose the map" label={<><b>{shortened(sourceName(map.source), 24)}</b> {how && <em>{how}</em>}</>}>
        {(close) => <Sources map={map} close={close} />}
      </Menu>
      <span>by</span>
      <Menu kind="plain" title="Choose the colours" label={<b class={genes}>{shortened(colourTitle(map.colour), 36)}</b>}>
        {(close) => <Colours map={map} close={close} />}
      </Menu>
    </div>
  );
}
