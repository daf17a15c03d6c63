/** Changes of a key that overwrite nobody unseen. */

import { Refusal } from "../../lib/client";
import type { Bytes, Delete, Put } from "../../lib/protocol";
import { cluster } from "../../state/cluster.svelte";

const EQUAL = 0;
const MOD = 2;

async function unless(key: Bytes, modRevision: number, change: Put | Delete): Promise<void> {
  const answer = await cluster.client.call("kv.txn", {
    compare: [{ target: MOD, result: EQUAL, key, number: modRevision }],
    success: [change],
    failure: [],
  });
  if (!answer.succeeded) {
    throw new Refusal(
      "conflict",
      "Somebody else has changed the key meanwhile. Close this, look at the new value, and try again.",
    );
  }
}

/** Write a key that was last changed at a revision; 0 for one that must not exist. */
export function write(key: Bytes, value: Bytes, modRevision: number): Promise<void> {
  return unless(key, modRevision, {
    tag: "kv.put",
    key,
    value,
    ignore_lease: modRevision > 0,
  } as Put);
}

/** Delete a key that was last changed at a revision. */
export function remove(key: Bytes, modRevision: number): Promise<void> {
  return unless(key, modRevision, { tag: "kv.delete", key } as Delete);
}
