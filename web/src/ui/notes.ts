// Short sentences that come and go at the bottom of the page.
import { signal } from "@preact/signals";

export interface Note {
  readonly id: number;
  readonly text: string;
  readonly kind: "good" | "bad";
}

export const notes = signal<readonly Note[]>([]);
let lastId = 0;
const SHOWN_MS = { good: 4000, bad: 12000 };

export function say(text: string, kind: Note["kind"] = "good"): void {
  const note = { id: ++lastId, text, kind };
  notes.value = [...notes.value.slice(-3), note];
  setTimeout(() => dismiss(note.id), SHOWN_MS[kind]);
}

export function dismiss(id: number): void {
  notes.value = notes.value.filter((note) => note.id !== id);
}
