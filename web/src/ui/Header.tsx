// The open experiment, undo, search, sharing, downloads.
import { useState } from "preact/hooks";
import { redo, redoLabel, undo, undoLabel } from "../sets/history";
import { saveMap } from "../map/picture";
import { openSession, saveSession } from "../state/session";
import { switchTheme } from "../state/theme";
import { activeMap, update, view } from "../state/view";
import { selectedCount } from "../state/selection";
import { facts } from "../wire/door";
import { saveAnnotated, saveExpression, saveLabels } from "./exports";
import { IconButton } from "./icons";
import { Menu, MenuItem } from "./Menu";
import { methodsText } from "./methods";
import { say } from "./notes";
import { palette } from "./palette-state";

async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} is copied.`);
  } catch {
    say("The browser did not allow copying. Select the text and copy it by hand.", "bad");
  }
}

function Share({ close }: { close: () => void }) {
  const open = (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (file) void file.text().then(openSession);
    close();
  };
  return (
    <>
      <MenuItem onClick={() => (close(), void copy(location.href, "The address of this view"))}>Copy the address of this view</MenuItem>
      <MenuItem onClick={() => (close(), saveSession())}>Save session</MenuItem>
      <label class="item file">Open session<input type="file" accept=".json,application/json" onChange={open} /></label>
      <p class="hint">An address works while this worker runs; a session file opens again with the same experiment.</p>
    </>
  );
}

function Methods() {
  const [text] = useState(methodsText());
  return (
    <div class="methods">
      <textarea readOnly rows={12} aria-label="Text for the methods of a paper" value={text} />
      <button class="btn p" onClick={() => void copy(text, "The text")}>Copy</button>
    </div>
  );
}

function Export({ close }: { close: () => void }) {
  const map = activeMap();
  const act = (what: () => unknown) => () => (close(), void what());
  return (
    <>
      <h4>Map</h4>
      <MenuItem onClick={act(() => map && saveMap(map, "png"))}>PNG</MenuItem>
      <MenuItem onClick={act(() => map && saveMap(map, "svg"))}>SVG</MenuItem>
      <h4>Cell sets</h4>
      <MenuItem onClick={act(saveLabels)}>Labels of all cells (.csv)</MenuItem>
      <h4>Experiment with these labels</h4>
      <MenuItem onClick={act(() => saveAnnotated("h5ad"))}>AnnData (.h5ad)</MenuItem>
      <MenuItem onClick={act(() => saveAnnotated("rds"))}>Seurat (.rds)</MenuItem>
      <h4>Values</h4>
      <MenuItem onClick={act(saveExpression)}>Expression of {selectedCount.value ? `${selectedCount.value.toLocaleString("en")} selected cells` : "all cells"} (.csv.gz)</MenuItem>
    </>
  );
}

export function Header() {
  const known = facts.value;
  const { leftFolded, rightFolded } = view.value;
  return (
    <header>
      <h1 class="brand"><i aria-hidden="true" />cellworker</h1>
      <span class="sep" />
      {known && (
        <span class="facts" title={[known.file, ...known.fallbacks].join("\n")}>
          <b>{known.experimentId}</b> <span>{known.cells.toLocaleString("en")} {known.cells === 1 ? "cell" : "cells"} · {known.genes.toLocaleString("en")} {known.genes === 1 ? "gene" : "genes"}{known.samples > 1 ? ` · ${known.samples} samples` : ""}</span>
        </span>
      )}
      <IconButton name="undo" label={undoLabel.value ? `Undo: ${undoLabel.value} (U)` : "Nothing to undo"} disabled={!undoLabel.value} onClick={() => void undo()} />
      <IconButton name="redo" label={redoLabel.value ? `Redo: ${redoLabel.value} (Shift U)` : "Nothing to redo"} disabled={!redoLabel.value} onClick={() => void redo()} />
      <button class="search" onClick={() => (palette.value = "")}><span>Genes, sets, columns, actions</span> <kbd>Ctrl K</kbd></button>
      <Menu title="Share this view" label="Share view">{(close) => <Share close={close} />}</Menu>
      <Menu title="Text for the methods of a paper" label="Methods">{() => <Methods />}</Menu>
      <Menu kind="btn p" title="Save pictures, labels, objects" label="Export">{(close) => <Export close={close} />}</Menu>
      <IconButton name="theme" label="Light or dark" onClick={switchTheme} />
      <IconButton name="left" label={leftFolded ? "Show the left panel" : "Fold the left panel"} on={leftFolded} onClick={() => update({ leftFolded: !leftFolded })} />
      <IconButton name="right" label={rightFolded ? "Show the right panel" : "Fold the right panel"} on={rightFolded} onClick={() => update({ rightFolded: !rightFolded })} />
    </header>
  );
}
