// Lists that are one stop of the Tab key: arrows move among rows and within one, as in trees and tables everywhere.
import { useLayoutEffect, useRef } from "preact/hooks";

const STOPS = "button:not(:disabled), input, select";

function stopsOf(row: Element): HTMLElement[] {
  const own = row.matches(STOPS) ? [row as HTMLElement] : [];
  return [...own, ...row.querySelectorAll<HTMLElement>(STOPS)].filter((stop) => !stop.closest(".menu"));
}

/**
 * Makes the rows of a list one stop.
 *
 * @param selector finds the rows in the element that gets the ref
 */
export function useRoving<T extends HTMLElement>(selector: string) {
  const host = useRef<T>(null);
  useLayoutEffect(() => {
    const list = host.current;
    if (!list) return undefined;
    const ending = new AbortController();
    const { signal } = ending;
    let here: Element | null = null;
    let last: EventTarget | null = null;
    let index = 0;
    let focused = false;
    const rows = () => [...list.querySelectorAll(selector)];
    const arrange = () => {
      const now = rows();
      const gone = !here || !now.includes(here);
      const current = gone ? now[Math.min(index, now.length - 1)] : here;
      const stops = current ? stopsOf(current) : [];
      const stop = stops.find((one) => one === last) ?? stops[0];
      for (const row of now) for (const one of stopsOf(row)) one.tabIndex = one === stop ? 0 : -1;
      // what was deleted under the focus hands it to what took its place
      if (gone && focused && document.activeElement === document.body && stop) stop.focus();
    };
    const watcher = new MutationObserver(arrange);
    watcher.observe(list, { childList: true, subtree: true });
    arrange();
    list.addEventListener("focusin", (event) => {
      const row = (event.target as Element).closest(selector);
      if (!row) return;
      focused = true;
      here = row;
      last = event.target;
      index = rows().indexOf(row);
      arrange();
    }, { signal });
    // of a row that goes away, browsers say that its focus went nowhere
    list.addEventListener("focusout", (event) => (focused = !event.relatedTarget || list.contains(event.relatedTarget as Node)), { signal });
    window.addEventListener("pointerdown", () => (focused = false), { signal, capture: true });
    list.addEventListener("keydown", (event) => {
      const target = event.target as HTMLElement;
      const row = target.closest(selector);
      if (!row || target.closest(".menu") || target instanceof HTMLInputElement) return;
      const all = rows();
      const at = all.indexOf(row);
      const within = stopsOf(row);
      const place = within.indexOf(target);
      const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
      const side = { ArrowRight: place + 1, ArrowLeft: place - 1 }[event.key];
      const there = next === undefined ? (side === undefined ? undefined : within[side]) : all[next] && (stopsOf(all[next])[place] ?? stopsOf(all[next])[0]);
      if (next === undefined && side === undefined) return;
      event.preventDefault();
      there?.focus();
    }, { signal });
    return () => {
      watcher.disconnect();
      ending.abort();
    };
  }, [selector]);
  return host;
}
