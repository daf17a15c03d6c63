/** How the cluster is, in one sentence. */

import type { ClusterSample, MemberStanding } from "../../lib/protocol";
import { plural } from "../../lib/words";

/** After so long without a word a member counts as lost. */
export const SILENT_MS = 2_500;
/** Entries that a member may be behind without being called slow. */
export const LAG_ENTRIES = 100;

export function isReached(one: MemberStanding): boolean {
  return one.status !== null && one.heard_ms >= 0 && one.heard_ms < SILENT_MS;
}

export function lagOf(one: MemberStanding, last: number): number {
  return one.status ? Math.max(0, last - one.status.applied_index) : 0;
}

export function lastIndex(sample: ClusterSample): number {
  return Math.max(0, ...sample.members.map((one) => one.status?.index ?? 0));
}

export function verdict(sample: ClusterSample): string {
  const voters = sample.members.filter((one) => !one.member.is_learner);
  const reached = sample.members.filter(isReached);
  const quorum = Math.floor(voters.length / 2) + 1;
  const losable = reached.filter((one) => !one.member.is_learner).length - quorum;
  const last = lastIndex(sample);
  const slow = reached.filter((one) => lagOf(one, last) > LAG_ENTRIES).length;
  const parts = [
    `${reached.length} of ${plural(sample.members.length, "member")} reached, quorum ${quorum}`,
    losable > 0
      ? `${losable} more may fail`
      : losable === 0
        ? "none may fail without an outage"
        : "too few for a quorum",
  ];
  if (slow) parts.push(`${plural(slow, "member")} lagging`);
  return `${parts.join("; ")}.`;
}
