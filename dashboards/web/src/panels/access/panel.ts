import type { Panel } from "../../state/panels";

export default {
  name: "access",
  title: "Access",
  order: 100,
  letter: "u",
  hasPast: false,
  needs: "auth:admin",
  load: () => import("./Page.svelte"),
} satisfies Panel;
