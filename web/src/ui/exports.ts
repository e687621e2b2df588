// Files made of the whole experiment: labels, annotated objects, expression of the selection.
import { csvOf, fileName, saveText } from "../charts/save";
import { allBarcodes } from "../data/barcodes";
import { failureOf } from "../data/loaded";
import { keyOf } from "../data/bitmap";
import { classes, idCount } from "../sets/model";
import { selection } from "../state/selection";
import { activeMap } from "../state/view";
import { askFile, facts } from "../wire/door";
import { say } from "./notes";

function download(address: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = "";
  document.body.append(link); // a notebook's frame hears clicks inside of the page only
  link.click();
  link.remove();
}

async function guarded(task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (error) {
    say(failureOf(error).message, "bad");
  }
}

/** Every class as a column, one row per cell, by barcode. A cell in several sets of a class has all their names. */
export function saveLabels(): Promise<void> {
  return guarded(async () => {
    const barcodes = await allBarcodes();
    const cells = Array.from({ length: idCount.value }, (_, id) => id).filter((id) => barcodes[id] !== null && barcodes[id] !== undefined);
    const columns: Record<string, ArrayLike<string | number>> = { barcode: cells.map((id) => barcodes[id] as string), cell_id: cells };
    for (const item of classes.value) {
      const names: string[] = Array.from({ length: idCount.value }, () => "");
      for (const set of item.children) for (const cell of set.cellIds) if (cell < names.length) names[cell] = names[cell] ? `${names[cell]}|${set.name}` : set.name;
      columns[columns[item.name] ? `${item.name} (${item.key})` : item.name] = cells.map((id) => names[id]);
    }
    saveText(`${fileName(facts.value?.experimentId ?? "", "labels")}.csv`, csvOf(columns), "text/csv");
  });
}

export function saveAnnotated(format: "rds" | "h5ad"): Promise<void> {
  return guarded(async () => {
    const source = activeMap()?.source;
    const embeddingMethod = source?.kind === "tsne" ? "tsne" : "umap";
    download(await askFile("DownloadAnnotSeuratObject", { embeddingMethod, isObj2s: true, format }, `Annotated .${format}`));
  });
}

export function saveExpression(): Promise<void> {
  return guarded(async () => {
    const subsetBy: Record<string, string[]> = selection.value ? { selection: [keyOf(selection.value.mask)] } : {};
    download(await askFile("GetNormalizedExpression", { subsetBy }, "Expression matrix"));
  });
}

