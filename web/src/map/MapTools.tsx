// The tools of a map: drawing, zoom, the look of points, pictures.
import type { Signal } from "@preact/signals";
import { addMap, gate, MAX_MAPS, removeMap, update, view, type MapState, type Tool } from "../state/view";
import { NumberField } from "../ui/Fields";
import { IconButton, type IconName } from "../ui/icons";
import { Menu, MenuItem } from "../ui/Menu";
import { Icon } from "../ui/icons";
import type { Camera } from "./camera";
import { saveMap } from "./picture";

const TOOLS: readonly (readonly [Tool, IconName, string])[] = [
  ["lasso", "lasso", "Lasso: draw around cells. Shift adds, Alt takes away (L)"],
  ["rectangle", "rectangle", "Rectangle: draw a box around cells (R)"],
  ["pan", "pan", "Move the map (P)"],
];

interface Props {
  readonly map: MapState;
  readonly first: boolean;
  readonly camera: Signal<Camera | null>;
  readonly refit: () => void;
}

function Look({ map }: { map: MapState }) {
  const { pointSize, opacity, palette, labels } = view.value;
  return (
    <>
      <NumberField label="Point size" value={pointSize} min={0.25} max={4} step={0.05} onChange={(value) => update({ pointSize: value })} />
      <NumberField label="Opacity" value={opacity} min={0.1} max={2} step={0.05} onChange={(value) => update({ opacity: value })} />
      <MenuItem on={labels} onClick={() => update({ labels: !labels })}>Names of groups on the map</MenuItem>
      <MenuItem on={palette === "safe"} onClick={() => update({ palette: palette === "safe" ? "own" : "safe" })}>Colours that colour-blind people tell apart</MenuItem>
      <h4>Picture of this map</h4>
      <div class="buttons">
        <button class="btn" onClick={() => saveMap(map, "png")}>PNG</button>
        <button class="btn" onClick={() => saveMap(map, "svg")}>SVG</button>
      </div>
    </>
  );
}

export function MapTools({ map, first, refit }: Props) {
  const { tool, maps } = view.value;
  return (
    <div class="pill tools" role="toolbar" aria-label="Tools of the map">
      {first && TOOLS.map(([key, icon, label]) => <IconButton key={key} name={icon} label={label} on={tool === key} onClick={() => update({ tool: key })} />)}
      {first && <IconButton name="gate" label="Gate: cells by two genes, one against the other (T)" onClick={gate} />}
      {first && maps.length < MAX_MAPS && <IconButton name="plus" label="Add a map beside this one" onClick={() => addMap()} />}
      <IconButton name="fit" label="Show all cells (F)" onClick={refit} />
      <Menu kind="ib" title="Points, names, pictures" label={<Icon name="more" />}>{() => <Look map={map} />}</Menu>
      {!first && <IconButton name="close" label="Close this map" onClick={() => removeMap(map.id)} />}
    </div>
  );
}
