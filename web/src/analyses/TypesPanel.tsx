// Cell types by marker genes or by a language model, and the cell cycle.
import { useState } from "preact/hooks";
import { Choice } from "../ui/Fields";
import { Hint } from "../ui/States";
import { ask } from "../wire/door";
import { Run } from "./Run";

const TISSUES = ["Immune system", "Pancreas", "Liver", "Eye", "Kidney", "Brain", "Lung", "Adrenal", "Heart", "Intestine", "Muscle", "Placenta", "Spleen", "Stomach", "Thymus"] as const;
const SPECIES = [["human", "Human"], ["mouse", "Mouse"]] as const;

export function TypesPanel() {
  const [species, setSpecies] = useState<"human" | "mouse">("human");
  const [tissue, setTissue] = useState<string>(TISSUES[0]);
  const [sample, setSample] = useState("");
  return (
    <div class="panel scroll">
      <Run title="ScType" action="Name the clusters" label="Cell types by marker genes" run={() => ask("ScTypeAnnotate", { species, tissue }, "Cell types")}>
        <Choice label="Species" value={species} options={SPECIES} onChange={setSpecies} />
        <Choice label="Tissue" value={tissue} options={TISSUES.map((name) => [name, name] as const)} onChange={setTissue} />
        <Hint>Each cluster gets the type whose marker genes it expresses most; a new class of cell sets is added.</Hint>
      </Run>
      <Run title="CASSIA" action="Ask the language model" label="Cell types by CASSIA" disabled={!sample.trim()} run={() => ask("CASSIAAnnotate", { species, tissue: sample.trim() }, "CASSIA")}>
        <label class="field wide"><span>Tissue, in words</span><input value={sample} placeholder="Peripheral blood" onInput={(event) => setSample(event.currentTarget.value)} /></label>
        <Hint>Needs a language model in the worker's settings. The names of the marker genes are sent to it.</Hint>
      </Run>
      <Run title="Cell cycle" action="Score the cell cycle" label="Cell cycle phases" run={() => ask("CellCycleScoring", {}, "Cell cycle")}>
        <Hint>Phases G1, S and G2M by Seurat's genes.</Hint>
      </Run>
    </div>
  );
}
