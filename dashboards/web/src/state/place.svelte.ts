/**
 * Where the reader is: `/?namespace=N&rev=R#/panel/part/...?filter=...`.
 *
 * The query holds what is the same on every page, the fragment the page and what it shows.
 */

const DEFAULT_NAMESPACE = "default";
const HOME = "overview";

function segments(hash: string): [string[], URLSearchParams] {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decode);
  return [parts, new URLSearchParams(query)];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function revisionOf(text: string | null): number {
  const number = Number(text ?? 0);
  return Number.isSafeInteger(number) && number > 0 ? number : 0;
}

class Place {
  panel = $state(HOME);
  /** What follows the panel's name: the service, the key, ... */
  rest = $state.raw<string[]>([]);
  filters = $state.raw(new URLSearchParams());
  namespace = $state(DEFAULT_NAMESPACE);
  /** The past revision that is shown; 0 for the present. */
  rev = $state(0);
  /** Revisions that matter to what the page shows: the slider marks them, and stops there. */
  marks = $state.raw<readonly number[]>([]);

  constructor() {
    this.#read();
    addEventListener("hashchange", () => this.#read());
    addEventListener("popstate", () => this.#read());
  }

  get isPast(): boolean {
    return this.rev > 0;
  }

  #read(): void {
    const [parts, filters] = segments(location.hash);
    const query = new URLSearchParams(location.search);
    this.panel = parts[0] ?? HOME;
    this.rest = parts.slice(1);
    this.filters = filters;
    this.namespace = query.get("namespace") || DEFAULT_NAMESPACE;
    this.rev = revisionOf(query.get("rev"));
  }

  /** Change one filter of the page; an empty one goes away. */
  filter(name: string, value: string): void {
    const filters = new URLSearchParams(this.filters);
    if (value) filters.set(name, value);
    else filters.delete(name);
    history.replaceState(null, "", location.search + href(this.panel, this.rest, filters));
    this.#read();
  }

  go(panel: string, rest: string[] = [], filters?: URLSearchParams): void {
    location.hash = href(panel, rest, filters);
  }

  /** Show a past revision on every page; 0 goes back to the present. */
  travel(rev: number): void {
    this.#query("rev", rev > 0 ? String(rev) : "");
  }

  enter(namespace: string): void {
    this.#query("namespace", namespace === DEFAULT_NAMESPACE ? "" : namespace);
  }

  #query(name: string, value: string): void {
    const query = new URLSearchParams(location.search);
    if (value) query.set(name, value);
    else query.delete(name);
    const text = query.toString();
    history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
    this.#read();
  }
}

/** The address of a page, for links. */
export function href(panel: string, rest: string[] = [], filters?: URLSearchParams): string {
  const path = [panel, ...rest].map(encodeURIComponent).join("/");
  const query = filters?.toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

export const place = new Place();
