// Cells where they lay in the tissue.
import { addMap, updateMap, view } from "../state/view";
import { Hint } from "../ui/States";
import { facts } from "../wire/door";

export function TissuePanel() {
  const shown = view.value.maps.find((map) => map.source.kind === "tissue");
  if (!facts.value?.hasImages) {
    return <div class="panel"><Hint>The file says nothing of where its cells lay. Objects of spatial technologies (Visium, Xenium, Slide-seq, …) do, and their cells can be seen in the tissue here.</Hint></div>;
  }
  const active = view.value.maps.find((map) => map.id === view.value.active) ?? view.value.maps[0];
  return (
    <div class="panel">
      <p class="said">Cells where they lay in the tissue, coloured and selected like on every other map.</p>
      <div class="buttons pad">
        <button class="btn p" disabled={Boolean(shown)} onClick={() => addMap({ kind: "tissue" })}>Beside this map</button>
        <button class="btn" disabled={Boolean(shown)} onClick={() => updateMap(active.id, { source: { kind: "tissue" } })}>In its place</button>
      </div>
      {shown && <Hint>The tissue is on the page.</Hint>}
    </div>
  );
}
