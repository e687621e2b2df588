// Whether the search over everything is open, and what is typed in it.
import { signal } from "@preact/signals";

/** Null while it is closed. */
export const palette = signal<string | null>(null);
/** Whether the search among genes is to have the focus, as soon as it is there. */
export const geneWanted = signal(false);
/** Whether the list of keys is shown. */
export const keysShown = signal(false);
/** The step of the guided tour, null where it is not on. */
export const tourStep = signal<number | null>(null);
