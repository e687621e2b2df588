// The cells' own names, fetched when the first cell is looked at.
import { signal } from "@preact/signals";
import { facts, getJson } from "../wire/door";

const barcodes = signal<readonly (string | null)[] | null>(null);
let asked: Promise<readonly (string | null)[]> | null = null;

/** All barcodes by cell id. */
export function allBarcodes(): Promise<readonly (string | null)[]> {
  asked ??= getJson<(string | null)[]>(`/v2/experiments/${encodeURIComponent(facts.value?.experimentId ?? "")}/barcodes`).then(
    (list) => (barcodes.value = list),
    (error: unknown) => {
      asked = null;
      throw error;
    },
  );
  return asked;
}

/** The barcode of a cell, null until they are there. */
export function barcodeOf(cell: number): string | null {
  if (!barcodes.value) void allBarcodes().catch(() => undefined);
  return barcodes.value?.[cell] ?? null;
}
