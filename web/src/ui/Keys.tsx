// The list of keys.
import { ACTIONS } from "./actions";
import { useModal } from "./modal";
import { keysShown } from "./palette-state";

function keyText(key: string): string {
  return key.length === 1 ? key.toUpperCase() : key.replace("shift+", "Shift ").replace("ctrl+k", "Ctrl K").replace(/ (\w)$/, (found) => found.toUpperCase());
}

export function Keys() {
  const host = useModal<HTMLDivElement>(keysShown.value);
  if (!keysShown.value) return null;
  const close = () => (keysShown.value = false);
  return (
    <div class="veil" onClick={close}>
      <div class="pill keys" role="dialog" aria-modal="true" aria-label="Keys" ref={host} onClick={(event) => event.stopPropagation()}>
        <h3>Keys</h3>
        <dl>
          {ACTIONS.filter((action) => action.key).map((action) => (
            <div key={action.name}><dt><kbd>{keyText(action.key as string)}</kbd></dt><dd>{action.name}</dd></div>
          ))}
          <div><dt><kbd>Shift</kbd> <kbd>Alt</kbd></dt><dd>While drawing: add to the selection, take away from it</dd></div>
          <div><dt>arrows</dt><dd>In lists: from row to row. On the map: a mark, further with Shift. Enter sets a corner of the lasso there, twice closes it, Backspace takes one back; Enter begins and ends a rectangle; + and − zoom</dd></div>
          <div><dt>wheel, <kbd>Ctrl</kbd> drag</dt><dd>Zoom, move</dd></div>
        </dl>
        <button class="btn p" onClick={close}>Close</button>
      </div>
    </div>
  );
}
