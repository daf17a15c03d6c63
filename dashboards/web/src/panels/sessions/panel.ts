import type { Panel } from "../../state/panels";

export default {
  name: "sessions",
  title: "Sessions and leases",
  order: 70,
  letter: "i",
  hasPast: false,
  needs: "session:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
