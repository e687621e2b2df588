// What lies over the page keeps the focus while it is open, and gives it back.
import { useLayoutEffect, useRef } from "preact/hooks";

const STOPS = "button:not(:disabled), input, select, textarea";

export function useModal<T extends HTMLElement>(open: boolean) {
  const host = useRef<T>(null);
  // at once: what is typed next belongs here
  useLayoutEffect(() => {
    if (!open) return undefined;
    const before = document.activeElement as HTMLElement | null;
    const dialog = host.current;
    const keep = (event: KeyboardEvent) => {
      if (event.key !== "Tab") return;
      const stops = [...(dialog?.querySelectorAll<HTMLElement>(STOPS) ?? [])];
      const at = stops.indexOf(document.activeElement as HTMLElement);
      event.preventDefault();
      stops[(at + (event.shiftKey ? -1 : 1) + stops.length) % stops.length]?.focus();
    };
    dialog?.querySelector<HTMLElement>(STOPS)?.focus();
    document.addEventListener("keydown", keep, { capture: true });
    return () => {
      document.removeEventListener("keydown", keep, { capture: true });
      // what was chosen may have moved it on
      if (document.activeElement === document.body && before !== document.body) before?.focus();
    };
  }, [open]);
  return host;
}
