/** What the member's metrics were in the last minutes; kept while the page is open. */

import { refusalOf } from "../../state/session.svelte";
import { DRAWINGS, type Drawing } from "./charts";
import { parse, total, type Exposition } from "./exposition";

const EVERY_MS = 2_000;
const POINTS_MAX = 300;

export class Scraping {
  last = $state.raw<Exposition | null>(null);
  problem = $state("");
  #times: number[] = [];
  #values = new Map<string, (number | undefined)[]>();
  /** For each drawing its data; null if the member has none of its metrics. */
  drawn = $state.raw<(number[][] | null)[]>([]);

  follow(): () => void {
    void this.#scrape();
    const timer = setInterval(() => {
      if (!document.hidden) void this.#scrape();
    }, EVERY_MS);
    return () => clearInterval(timer);
  }

  async #scrape(): Promise<void> {
    try {
      const answer = await fetch("/metrics");
      if (!answer.ok) throw await refusalOf(answer);
      this.#take(parse(await answer.text()), Date.now() / 1000);
      this.problem = "";
    } catch (error) {
      this.problem = (error as Error).message;
    }
  }

  #take(found: Exposition, now: number): void {
    this.last = found;
    this.#times = [...this.#times, now].slice(-POINTS_MAX);
    for (const { lines } of DRAWINGS) {
      for (const { metric } of lines) {
        const values = this.#values.get(metric) ?? [];
        this.#values.set(metric, [...values, total(found, metric)].slice(-POINTS_MAX));
      }
    }
    this.drawn = DRAWINGS.map((drawing) => this.#draw(drawing));
  }

  #draw({ lines }: Drawing): number[][] | null {
    if (lines.every(({ metric }) => this.#values.get(metric)!.at(-1) === undefined)) return null;
    const columns = lines.map(({ metric, isRate, unit }) => {
      const values = this.#values.get(metric)!;
      return values.map((value, at) => {
        const before = values[at - 1];
        if (!isRate) return (value ?? NaN) / (unit ?? 1);
        // A count that has gone down is that of a process that was started anew.
        if (value === undefined || before === undefined || value < before) return NaN;
        return (value - before) / (this.#times[at]! - this.#times[at - 1]!);
      });
    });
    const gaps = columns.map((column) => column.map((one) => (Number.isNaN(one) ? null : one)));
    return [this.#times, ...(gaps as number[][])];
  }
}
