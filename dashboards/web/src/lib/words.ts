/** Figures for people. */

export function count(value: number): string {
  return value.toLocaleString("en");
}

export function plural(value: number, word: string, many = `${word}s`): string {
  return `${count(value)} ${value === 1 ? word : many}`;
}

/** Names in the order of people: m2 before m10. */
export function inOrder(one: string, other: string): number {
  return one.localeCompare(other, "en", { numeric: true });
}

/** A duration in at most two units. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 && minutes < 10 ? `${minutes} m ${seconds % 60} s` : `${minutes} m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} m` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function millis(value: number): string {
  return value < 10 ? `${value.toFixed(value < 1 ? 2 : 1)} ms` : `${Math.round(value)} ms`;
}

/** Who stands behind a session: its program, host and process. */
export function process(application: string, host: string, pid: number): string {
  if (!application && !host) return pid ? `process ${pid}` : "unnamed";
  return `${application || "?"}@${host || "?"}${pid ? `/${pid}` : ""}`;
}

export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString([], { hourCycle: "h23" });
}

export function moment(ms: number): string {
  return new Date(ms).toLocaleString([], { hourCycle: "h23" });
}
