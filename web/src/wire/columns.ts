// Typed columns as bytes: the other side of src/cellworker/protocol/columns.py, which describes them.

export const MEDIA_TYPE = "application/vnd.cellworker.columns";

type Numbers = Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;

/** Which values are missing, one byte each; null where none is. */
type Missing = Uint8Array | null;

export type Column =
  | { kind: "number"; values: Float32Array | Float64Array }
  | { kind: "integer"; values: Numbers; missing: Missing }
  | { kind: "logical"; values: Uint8Array; missing: Missing }
  | { kind: "category"; values: Int8Array | Int16Array | Int32Array; labels: readonly string[] }
  | { kind: "text"; values: readonly (string | null)[] }
  | { kind: "sparse"; rows: Int32Array; values: Float32Array; length: number };

export interface Columns<Facts> {
  readonly facts: Facts;
  readonly columns: ReadonlyMap<string, Column>;
}

/** What the header says of a column: where it lies, and as what. */
interface Described {
  name: string;
  kind: Column["kind"];
  length: number;
  type?: keyof typeof ARRAYS;
  at: number;
  missing?: number;
  labels?: string[];
  count?: number;
  rows?: number;
  bytes?: number;
  offsets?: number;
}

const MAGIC = "CWCOLS1\n";
const BEGIN = MAGIC.length + 8;
const ARRAYS = {
  f4: Float32Array,
  f8: Float64Array,
  i1: Int8Array,
  u1: Uint8Array,
  i2: Int16Array,
  u2: Uint16Array,
  i4: Int32Array,
  u4: Uint32Array,
} as const;

class Body {
  constructor(
    private readonly buffer: ArrayBuffer,
    private readonly begin: number,
  ) {}

  /** A view of some values; throws where they lie outside. */
  array<K extends keyof typeof ARRAYS>(type: K, at: number | undefined, length: number | undefined): InstanceType<(typeof ARRAYS)[K]> {
    return new ARRAYS[type](this.buffer, this.begin + (at ?? NaN), length ?? NaN) as InstanceType<(typeof ARRAYS)[K]>;
  }

  missing(column: Described): Missing {
    if (column.missing === undefined) return null;
    const bits = this.array("u1", column.missing, (column.length + 7) >> 3);
    return Uint8Array.from({ length: column.length }, (_, i) => (bits[i >> 3] >> (i & 7)) & 1);
  }
}

function texts(column: Described, body: Body): (string | null)[] {
  const offsets = body.array("u4", column.offsets, column.length + 1);
  const whole = body.array("u1", column.at, column.bytes);
  const missing = body.missing(column);
  const decoder = new TextDecoder();
  // One long text is decoded at once where bytes and characters are the same: most names are ASCII.
  const text = decoder.decode(whole);
  const plain = text.length === whole.length;
  return Array.from({ length: column.length }, (_, i) => {
    if (missing?.[i]) return null;
    return plain ? text.slice(offsets[i], offsets[i + 1]) : decoder.decode(whole.subarray(offsets[i], offsets[i + 1]));
  });
}

function columnOf(column: Described, body: Body): Column {
  const { kind, type, at, length } = column;
  switch (kind) {
    case "number":
      return { kind, values: type === "f8" ? body.array("f8", at, length) : body.array("f4", at, length) };
    case "integer":
      return { kind, values: body.array(type ?? "i4", at, length), missing: body.missing(column) };
    case "logical":
      return { kind, values: body.array("u1", at, length), missing: body.missing(column) };
    case "category": {
      const values = type === "i1" ? body.array("i1", at, length) : type === "i2" ? body.array("i2", at, length) : body.array("i4", at, length);
      return { kind, values, labels: column.labels ?? [] };
    }
    case "text":
      return { kind, values: texts(column, body) };
    case "sparse":
      return { kind, rows: body.array("i4", column.rows, column.count), values: body.array("f4", at, column.count), length };
  }
}

/** Reads the bytes; arrays are views of them. Throws where they are no columns, or cut short. */
export function decodeColumns<Facts>(buffer: ArrayBuffer): Columns<Facts> {
  const decoder = new TextDecoder();
  if (buffer.byteLength < BEGIN || decoder.decode(new Uint8Array(buffer, 0, MAGIC.length)) !== MAGIC) {
    throw new RangeError("These are no columns.");
  }
  const length = new DataView(buffer).getUint32(MAGIC.length, true);
  const header = JSON.parse(decoder.decode(new Uint8Array(buffer, BEGIN, length))) as { facts: Facts; columns: Described[] };
  const body = new Body(buffer, BEGIN + length);
  return { facts: header.facts, columns: new Map(header.columns.map((column) => [column.name, columnOf(column, body)])) };
}

/** A column as float32 by row: NaN where missing, of categories their positions, 0 where a sparse one says nothing. */
export function floatsOf(column: Column): Float32Array {
  if (column.kind === "sparse") {
    const out = new Float32Array(column.length);
    for (let i = 0; i < column.rows.length; i++) out[column.rows[i]] = column.values[i];
    return out;
  }
  if (column.kind === "text") return new Float32Array(column.values.length).fill(NaN);
  if (column.values instanceof Float32Array) return column.values;
  const out = Float32Array.from(column.values);
  if (column.kind === "category") for (let i = 0; i < out.length; i++) if (out[i] < 0) out[i] = NaN;
  if ((column.kind === "integer" || column.kind === "logical") && column.missing) {
    for (let i = 0; i < out.length; i++) if (column.missing[i]) out[i] = NaN;
  }
  return out;
}
