/** Rates and latencies of the last minutes, from one sample to the next. */

import type { ClusterSample } from "../lib/protocol";
import type { Point } from "./cluster.svelte";

const POINTS_MAX = 600;

interface Counted {
  reads: number;
  writes: number;
  at: number;
  /** Per second, between the last two times that the member told. */
  rates: { reads: number; writes: number } | null;
}

export class Recent {
  #points: Point[] = [];
  #members = new Map<string, Counted>();

  /** Begin anew: the next sample may come from another member. */
  interrupt(): void {
    this.#members.clear();
  }

  add(sample: ClusterSample): readonly Point[] {
    for (const { member, heard_ms, status } of sample.members) {
      if (!status) continue;
      const at = sample.time_ms - heard_ms;
      const before = this.#members.get(member.member);
      const seconds = before ? (at - before.at) / 1000 : 0;
      if (before && seconds < 0.05) continue;
      const { reads, writes } = status;
      // A count that has gone down is that of a member that was started anew.
      const isRate = before && reads >= before.reads && writes >= before.writes;
      const rates = isRate
        ? { reads: (reads - before.reads) / seconds, writes: (writes - before.writes) / seconds }
        : null;
      this.#members.set(member.member, { reads, writes, at, rates });
    }
    const rates = [...this.#members.values()].flatMap((one) => one.rates ?? []);
    if (rates.length) {
      const point = {
        at: sample.time_ms / 1000,
        reads: rates.reduce((sum, one) => sum + one.reads, 0),
        writes: rates.reduce((sum, one) => sum + one.writes, 0),
        read: sample.read_us / 1000,
        peers: Math.max(0, ...sample.members.map((one) => one.round_trip_us)) / 1000,
      };
      this.#points = [...this.#points.slice(1 - POINTS_MAX), point];
    }
    return this.#points;
  }
}
