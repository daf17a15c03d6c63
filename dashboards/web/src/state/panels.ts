/** The pages. Each is a folder of `panels/` with a `panel.ts` that says what it is. */

import type { Component } from "svelte";

export interface Panel {
  /** Name of the folder, and of the page in addresses. */
  name: string;
  title: string;
  /** Where it stands in the navigation. */
  order: number;
  /** The letter that, after `g`, goes there. */
  letter: string;
  /** Whether it can show a past revision; others say that they only know the present. */
  hasPast: boolean;
  /** What somebody must be allowed to see anything there: see `session.may`. */
  needs?: string;
  load(): Promise<{ default: Component }>;
}

const found = import.meta.glob<{ default: Panel }>("../panels/*/panel.ts", { eager: true });

export const panels: Panel[] = Object.values(found)
  .map((module) => module.default)
  .sort((one, other) => one.order - other.order);

/** Fetch all pages: when the member that serves them is gone, it is too late. */
export async function prefetch(): Promise<void> {
  for (const panel of panels) await panel.load();
  document.documentElement.dataset["complete"] = "true";
}

export function panelOf(name: string): Panel | undefined {
  return panels.find((panel) => panel.name === name);
}
