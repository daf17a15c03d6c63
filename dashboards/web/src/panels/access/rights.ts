/** Rights in words. The actions are those of docs/reference/permissions.md. */

import { prefixEnd, toBase64, utf8 } from "../../lib/bytes";
import type { Bytes, KeyPermission } from "../../lib/protocol";

export const ACCESS = ["read", "write", "read and write"];

export const ACTIONS = [
  ...["lock:*", "lock:acquire", "lock:read", "lock:force-release"],
  ...["service:*", "service:register", "service:read", "service:operate"],
  ...["topic:*", "topic:publish", "topic:subscribe", "topic:operate"],
  ...["election:*", "election:campaign", "election:read", "election:operate"],
  ...["discovery:*", "discovery:create", "discovery:join"],
  ...["session:*", "session:open", "session:read", "session:operate"],
  ...["lease:use", "cluster:read", "cluster:admin", "auth:admin"],
];

/** The range of a right on keys; `told` makes text of a key. */
export function rangeOf({ key, range_end }: KeyPermission, told: (key: Bytes) => string): string {
  if (!range_end) return told(key);
  if (range_end === toBase64(Uint8Array.of(0))) return key ? `${told(key)} and all behind it` : "all";
  const end = told(range_end);
  const prefix = told(key);
  const isPrefix = prefix && toBase64(prefixEnd(utf8(prefix))) === range_end;
  return isPrefix ? `${prefix}*` : `${prefix} up to ${end}`;
}
