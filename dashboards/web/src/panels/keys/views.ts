/** A value for people: as text, as indented JSON, or as a table of hexadecimal digits. */

import { hex, textOf } from "../../lib/bytes";

export type View = "text" | "json" | "hex";

const SHOWN_BYTES_MAX = 262_144;
const HEX_BYTES_MAX = 4_096;
const ROW = 16;

export function bestView(bytes: Uint8Array): View {
  const text = textOf(bytes);
  if (text === null) return "hex";
  return /^\s*[[{]/.test(text) && indented(text) !== null ? "json" : "text";
}

export function indented(text: string): string | null {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

export function render(bytes: Uint8Array, view: View): string {
  const text = view === "hex" ? null : textOf(bytes.subarray(0, SHOWN_BYTES_MAX));
  if (text === null) return table(bytes);
  return view === "json" ? (indented(text) ?? text) : text;
}

function table(bytes: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES_MAX); at += ROW) {
    const row = bytes.subarray(at, at + ROW);
    const digits = (hex(row).match(/../g) ?? []).join(" ").padEnd(3 * ROW);
    const text = Array.from(row, (byte) =>
      byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·",
    ).join("");
    rows.push(`${at.toString(16).padStart(6, "0")}  ${digits} ${text}`);
  }
  if (bytes.length > HEX_BYTES_MAX) rows.push(`… of ${bytes.length} bytes`);
  return rows.join("\n");
}
