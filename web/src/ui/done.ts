// Steps done on this page, as sentences for the methods section of a paper.
import { signal } from "@preact/signals";

export const done = signal<readonly string[]>([]);
const MAX_SENTENCES = 40;

export function noteDone(sentence: string): void {
  done.value = [...done.value.filter((other) => other !== sentence), sentence].slice(-MAX_SENTENCES);
}
