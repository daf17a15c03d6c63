import type { Panel } from "../../state/panels";

export default {
  name: "watchers",
  title: "Watchers",
  order: 80,
  letter: "w",
  hasPast: false,
  needs: "cluster:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
