/** Bytes of keys and values: base64 on the wire, text or hexadecimal digits on the page. */

import type { Bytes } from "./protocol";

const strict = new TextDecoder("utf-8", { fatal: true });
const CHUNK = 8192;

export function fromBase64(text: Bytes): Uint8Array {
  const raw = atob(text);
  const made = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) made[at] = raw.charCodeAt(at);
  return made;
}

export function toBase64(bytes: Uint8Array): Bytes {
  let raw = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    raw += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  }
  return btoa(raw);
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Text as the bytes of a request. */
export function encodeText(text: string): Bytes {
  return toBase64(utf8(text));
}

/** How many bytes a base64 text stands for. */
export function sizeOf(text: Bytes): number {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return (text.length / 4) * 3 - padding;
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes as text; null if they are none. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** Bytes for people: text if they are text, hexadecimal digits otherwise. */
export function shown(bytes: Uint8Array): string {
  return textOf(bytes) ?? `0x${hex(bytes)}`;
}

/** Tell which of two comes first: negative for the first, positive for the other, 0 for equal. */
export function compareBytes(one: Uint8Array, other: Uint8Array): number {
  const common = Math.min(one.length, other.length);
  for (let at = 0; at < common; at++) {
    if (one[at] !== other[at]) return one[at]! - other[at]!;
  }
  return one.length - other.length;
}

/** The first bytes that no longer begin with a prefix: the end of its range. */
export function prefixEnd(prefix: Uint8Array): Uint8Array {
  const end = prefix.slice();
  for (let at = end.length - 1; at >= 0; at--) {
    if (end[at]! < 255) {
      end[at]!++;
      return end.subarray(0, at + 1);
    }
  }
  return Uint8Array.of(0);
}
