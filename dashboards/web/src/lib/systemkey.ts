/**
 * Keys of the system space, where the domains keep their state: tuples of texts and numbers.
 *
 * A text is 0x02, its bytes (a zero is followed by 0xff), 0x00; a number is 0x15 and eight bytes.
 */

import { prefixEnd, shown, toBase64, utf8 } from "./bytes";
import type { Bytes } from "./protocol";

const TEXT = 0x02;
const NUMBER = 0x15;

export type Part = string | bigint;

export function pack(...parts: string[]): Uint8Array {
  const made: number[] = [];
  for (const part of parts) {
    made.push(TEXT);
    for (const byte of utf8(part)) made.push(...(byte ? [byte] : [0, 0xff]));
    made.push(0);
  }
  return Uint8Array.from(made);
}

export function unpack(key: Uint8Array): Part[] {
  const parts: Part[] = [];
  let at = 0;
  while (at < key.length) {
    const kind = key[at++];
    if (kind === NUMBER && at + 8 <= key.length) {
      parts.push(new DataView(key.buffer, key.byteOffset + at, 8).getBigUint64(0));
      at += 8;
    } else if (kind === TEXT) {
      const content: number[] = [];
      while (at < key.length && (key[at] !== 0 || key[at + 1] === 0xff)) {
        content.push(key[at]!);
        at += key[at] === 0 ? 2 : 1;
      }
      at++;
      parts.push(shown(Uint8Array.from(content)));
    } else return parts;
  }
  return parts;
}

/** The range of all keys that begin with these texts, for a request. */
export function below(...parts: string[]): { key: Bytes; range_end: Bytes } {
  const prefix = pack(...parts);
  return prefix.length
    ? { key: toBase64(prefix), range_end: toBase64(prefixEnd(prefix)) }
    : { key: toBase64(Uint8Array.of(0)), range_end: toBase64(Uint8Array.of(0)) };
}
