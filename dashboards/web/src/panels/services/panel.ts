import type { Panel } from "../../state/panels";

export default {
  name: "services",
  title: "Services",
  order: 20,
  letter: "s",
  hasPast: true,
  needs: "service:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
