import type { Panel } from "../../state/panels";

export default {
  name: "metrics",
  title: "Metrics",
  order: 90,
  letter: "m",
  hasPast: false,
  needs: "cluster:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
