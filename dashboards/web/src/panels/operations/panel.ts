import type { Panel } from "../../state/panels";

export default {
  name: "operations",
  title: "Operations",
  order: 110,
  letter: "a",
  hasPast: false,
  needs: "cluster:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
