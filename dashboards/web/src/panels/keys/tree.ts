/**
 * One level of the tree of keys, cut at slashes. Nothing is ever listed as a whole: behind the first
 * key of a folder the reading leaps to what follows the folder.
 */

import { fromBase64, prefixEnd, shown, toBase64 } from "../../lib/bytes";
import type { Bytes } from "../../lib/protocol";
import { cluster } from "../../state/cluster.svelte";

const SLASH = 0x2f;
const BATCH = 40;
const READINGS_MAX = 60;

export interface Entry {
  /** What stands behind the prefix. */
  name: string;
  /** The key, or the prefix of all keys in the folder. */
  key: Bytes;
  isFolder: boolean;
}

export interface Level {
  entries: Entry[];
  /** Where to go on; null at the end. */
  next: Bytes | null;
}

/** Read at least `wanted` entries below a prefix, as far as there are as many. */
export async function level(
  prefix: Bytes,
  from: Bytes | null,
  wanted: number,
  revision: number,
): Promise<Level> {
  const base = fromBase64(prefix);
  const end = toBase64(base.length ? prefixEnd(base) : Uint8Array.of(0));
  const entries: Entry[] = [];
  let next: Bytes | null = from ?? (base.length ? prefix : toBase64(Uint8Array.of(0)));
  for (let readings = 0; next && entries.length < wanted && readings < READINGS_MAX; readings++) {
    const answer: { kvs: { key: Bytes }[]; more: boolean } = await cluster.client.call("kv.range", {
      key: next,
      range_end: end,
      limit: BATCH,
      keys_only: true,
      revision,
      serializable: true,
    });
    next = null;
    for (const [at, { key }] of answer.kvs.entries()) {
      const bytes = fromBase64(key);
      const cut = bytes.indexOf(SLASH, base.length);
      // A slash at the very end is a part of the key's own name.
      if (cut < 0 || cut === bytes.length - 1) {
        entries.push({ name: shown(bytes.subarray(base.length)), key, isFolder: false });
        const isLast = at === answer.kvs.length - 1;
        if (isLast && answer.more) next = toBase64(Uint8Array.of(...bytes, 0));
      } else {
        const folder = bytes.subarray(0, cut + 1);
        const name = shown(folder.subarray(base.length));
        entries.push({ name, key: toBase64(folder), isFolder: true });
        const behind = prefixEnd(folder);
        const following = answer.kvs[at + 1];
        if (following || answer.more) next = toBase64(behind);
        break;
      }
    }
  }
  return { entries, next };
}
