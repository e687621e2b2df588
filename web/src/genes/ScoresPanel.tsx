// Gene sets: pasted, kept with the view, scored in each cell.
import { useState } from "preact/hooks";
import { knownGene } from "../data/genes";
import { addPlotScore } from "../charts/variables";
import { SCORE_METHODS } from "../data/scores";
import { colourBy, update, view, type GeneSet, type ScoreMethod } from "../state/view";
import { Choice } from "../ui/Fields";
import { Icon } from "../ui/icons";
import { Menu, MenuItem } from "../ui/Menu";
import { Hint } from "../ui/States";

/** Takes names separated by anything but letters, digits, dots, dashes and underscores. */
export function genesOfText(text: string): { known: string[]; unknown: string[] } {
  const words = text.split(/[^\p{L}\p{N}._-]+/u).filter(Boolean);
  const known: string[] = [];
  const unknown: string[] = [];
  for (const word of words) {
    const name = knownGene(word);
    if (name === null) unknown.push(word);
    else if (!known.includes(name)) known.push(name);
  }
  return { known, unknown };
}

const METHODS_SAID = {
  seurat: "AddModuleScore: the mean of the genes less the mean of genes that are expressed as much.",
  scanpy: "score_genes: the same idea, with scanpy's choice of the genes to compare with.",
  mean: "The plain mean of the genes.",
} as const;

function Row({ set }: { set: GeneSet }) {
  const shown = view.value.maps.some((map) => map.colour.by === "score" && map.colour.name === set.name);
  const remove = () => update({ geneSets: view.value.geneSets.filter((other) => other !== set) });
  return (
    <div class={`set ${shown ? "sel" : ""}`}>
      <button class="name wide" title={`${set.genes.join(", ")}. A click colours the map by the score (${set.method ?? "seurat"}).`} onClick={() => colourBy({ by: "score", name: set.name })}>{set.name}</button>
      <em>{set.genes.length}</em>
      <Menu kind="ib small" title={`What to do with ${set.name}`} label={<Icon name="more" />}>
        {(close) => (
          <>
            <MenuItem onClick={() => (close(), colourBy({ by: "score", name: set.name }))}>Colour the map by its score</MenuItem>
            {set.method !== "mean" && <MenuItem onClick={() => (close(), addPlotScore(set.name))}>Plot its score by group</MenuItem>}
            <MenuItem onClick={() => (close(), update({ plotGenes: set.genes.slice(0, 40), right: "plots" }))}>Plot its genes</MenuItem>
            <MenuItem onClick={() => (close(), remove())}>Delete</MenuItem>
          </>
        )}
      </Menu>
    </div>
  );
}

export function ScoresPanel() {
  const [name, setName] = useState("");
  const [text, setText] = useState("");
  const [method, setMethod] = useState<ScoreMethod>("seurat");
  const { known, unknown } = genesOfText(text);
  const { geneSets } = view.value;
  const title = name.trim() || `Gene set ${geneSets.length + 1}`;
  const add = () => {
    update({ geneSets: [...geneSets.filter((other) => other.name !== title), { name: title, genes: known, method }] });
    setName("");
    setText("");
    colourBy({ by: "score", name: title });
  };
  return (
    <div class="panel">
      <div class="scroll">
        {geneSets.map((set) => <Row key={set.name} set={set} />)}
        {!geneSets.length && <Hint>Paste a list of genes: how much more of them a cell expresses than of genes like them colours the map.</Hint>}
        <div class="form">
          <label class="field wide"><span>Name</span><input value={name} placeholder={title} onInput={(event) => setName(event.currentTarget.value)} /></label>
          <label class="field wide"><span>Genes</span><textarea class="gene" rows={5} value={text} placeholder="CD3D, CD3E, TRAC" onInput={(event) => setText(event.currentTarget.value)} /></label>
          {text && <p class="hint">{known.length} genes known{unknown.length ? `; not in this experiment: ${unknown.slice(0, 8).join(", ")}${unknown.length > 8 ? " …" : ""}` : ""}.</p>}
          <Choice label="Score" value={method} options={SCORE_METHODS} onChange={setMethod} />
          <Hint>{METHODS_SAID[method]}</Hint>
          <button class="btn p" disabled={!known.length} onClick={add}>Keep and score</button>
        </div>
      </div>
    </div>
  );
}
