/** Keys are bytes; in addresses they are text if they are text, hexadecimal digits otherwise. */

import { fromBase64, hex, textOf, toBase64, utf8 } from "./bytes";
import type { Bytes } from "./protocol";

const TEXT = "key";
const HEX = "hex";

/** The parts of the address that stand for a key. */
export function partsOf(key: Bytes): string[] {
  const bytes = fromBase64(key);
  const text = textOf(bytes);
  return text === null ? [HEX, hex(bytes)] : [TEXT, text];
}

/** The key that the parts of an address stand for; null if they stand for none. */
export function keyOf(parts: readonly string[]): Bytes | null {
  const [kind, name] = parts;
  if (!name) return null;
  if (kind === TEXT) return toBase64(utf8(name));
  if (kind !== HEX || !/^([0-9a-f]{2})+$/.test(name)) return null;
  return toBase64(Uint8Array.from(name.match(/../g)!, (digits) => Number.parseInt(digits, 16)));
}
