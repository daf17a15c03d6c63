/** What a stream is about, in words. */

import { fromBase64, prefixEnd, shown, toBase64 } from "../../lib/bytes";
import type { Bytes, StreamInfo } from "../../lib/protocol";
import { unpack } from "../../lib/systemkey";

const SYSTEM = 1;
const EVERYTHING = toBase64(Uint8Array.of(0));

export function rangeOf(one: StreamInfo): string {
  if (one.operation !== "watch.create") {
    return [one.namespace, one.name].filter(Boolean).join("/") || "the cluster";
  }
  const kind = one.space === SYSTEM ? "records " : "";
  const name = (key: Bytes) =>
    one.space === SYSTEM ? unpack(fromBase64(key)).join("/") : shown(fromBase64(key));
  if (!one.range_end) return kind + name(one.key);
  if (one.range_end === EVERYTHING) {
    return one.key === EVERYTHING || !one.key ? `all ${kind || "keys"}` : `${kind}${name(one.key)} …`;
  }
  const isPrefix = toBase64(prefixEnd(fromBase64(one.key))) === one.range_end;
  return isPrefix ? `${kind}${name(one.key)}*` : `${kind}${name(one.key)} – ${name(one.range_end)}`;
}
