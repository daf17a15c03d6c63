/** The statuses of an instance, the worst first, and their signs: colour never tells alone. */

export const STATUSES = ["critical", "warning", "draining", "maintenance", "passing"] as const;

export const SIGNS: Record<string, string> = {
  critical: "✕",
  warning: "▲",
  draining: "○",
  maintenance: "◌",
  passing: "●",
};
