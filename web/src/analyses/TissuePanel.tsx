// Cells at their places in the tissue, over its image where the file has one.
import { tissues } from "../data/tissues";
import { addMap, MAX_MAPS, update, updateMap, view } from "../state/view";
import type { TissueFacts } from "../wire/types";
import { NumberField } from "../ui/Fields";
import { Hint } from "../ui/States";

function Tissue({ item, image }: { item: TissueFacts; image: number }) {
  const shown = view.value.maps.some((map) => map.source.kind === "tissue" && map.source.image === image);
  const active = view.value.maps.find((map) => map.id === view.value.active) ?? view.value.maps[0];
  return (
    <section class="task">
      <h3>{item.name}</h3>
      <p class="said">{item.width ? `An image of ${item.width.toLocaleString("en")} by ${item.height.toLocaleString("en")} pixels.` : "Places of the cells; the file holds no image of it."}</p>
      <div class="buttons">
        <button class="btn p" disabled={shown || view.value.maps.length >= MAX_MAPS} onClick={() => addMap({ kind: "tissue", image })}>Beside this map</button>
        <button class="btn" disabled={shown} onClick={() => updateMap(active.id, { source: { kind: "tissue", image } })}>In its place</button>
      </div>
    </section>
  );
}

export function TissuePanel() {
  const all = tissues();
  if (!all.length) {
    return <div class="panel"><Hint>The file does not say where its cells were in the tissue. Files of spatial technologies (Visium, Xenium, Slide-seq, …) do, and this panel shows their cells there.</Hint></div>;
  }
  return (
    <div class="panel scroll">
      <Hint>Cells at their places in the tissue, coloured and selected as on every other map.</Hint>
      {all.some((item) => item.width) && (
        <div class="form"><NumberField label="Image" value={view.value.tissueOpacity} min={0} max={1} step={0.05} onChange={(tissueOpacity) => update({ tissueOpacity })} /></div>
      )}
      {all.map((item, image) => <Tissue key={item.name} item={item} image={image} />)}
    </div>
  );
}
