/** What topics keep, in words. */

import type { Retention } from "../../lib/protocol";
import { plural, size, span } from "../../lib/words";

export function keeps({ max_age_ms, max_messages, max_bytes }: Retention): string {
  const limits = [
    max_age_ms && span(max_age_ms),
    max_messages && plural(max_messages, "message"),
    max_bytes && size(max_bytes),
  ];
  return limits.filter(Boolean).join(", ") || "everything";
}
