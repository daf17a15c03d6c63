/** Prometheus' text format, as a member writes it. */

export interface Sample {
  /** The name with its labels, as it is written. */
  name: string;
  metric: string;
  labels: string;
  value: number;
}

export interface Exposition {
  samples: Sample[];
  /** What each metric means, and of which kind it is. */
  help: Map<string, string>;
  kinds: Map<string, string>;
}

export function parse(text: string): Exposition {
  const made: Exposition = { samples: [], help: new Map(), kinds: new Map() };
  for (const line of text.split("\n")) {
    if (line.startsWith("# HELP ")) {
      const [, metric, words] = /^# HELP (\S+) ?(.*)$/.exec(line) ?? [];
      if (metric) made.help.set(metric, words ?? "");
    } else if (line.startsWith("# TYPE ")) {
      const [, , metric, kind] = line.split(" ");
      if (metric && kind) made.kinds.set(metric, kind);
    } else if (line && !line.startsWith("#")) {
      const cut = line.lastIndexOf(" ");
      const name = line.slice(0, cut);
      const brace = name.indexOf("{");
      made.samples.push({
        name,
        metric: brace < 0 ? name : name.slice(0, brace),
        labels: brace < 0 ? "" : name.slice(brace),
        value: Number(line.slice(cut + 1)),
      });
    }
  }
  return made;
}

/** The sum over all labels of a metric; undefined if it is not there. */
export function total(from: Exposition, metric: string): number | undefined {
  const found = from.samples.filter((one) => one.metric === metric);
  return found.length ? found.reduce((sum, one) => sum + one.value, 0) : undefined;
}
