/** What is drawn: figures as they are, or how fast they grow. */

export interface Line {
  name: string;
  metric: string;
  /** Whether what is drawn is the growth per second. */
  isRate?: boolean;
  /** What the figure is divided by. */
  unit?: number;
}

export interface Drawing {
  title: string;
  lines: Line[];
}

const MIB = 1_048_576;

export const DRAWINGS: Drawing[] = [
  {
    title: "Requests per second",
    lines: [{ name: "over WebSocket and HTTP", metric: "coordinator_requests_total", isRate: true }],
  },
  {
    title: "gRPC calls per second",
    lines: [
      { name: "begun", metric: "grpc_server_started_total", isRate: true },
      { name: "ended", metric: "grpc_server_handled_total", isRate: true },
    ],
  },
  {
    title: "Log entries per second",
    lines: [
      { name: "appended", metric: "etcd_server_proposals_committed_total", isRate: true },
      { name: "applied", metric: "etcd_server_proposals_applied_total", isRate: true },
    ],
  },
  {
    title: "CPU, cores",
    lines: [{ name: "of this member", metric: "process_cpu_seconds_total", isRate: true }],
  },
  {
    title: "Memory, MiB",
    lines: [{ name: "resident", metric: "process_resident_memory_bytes", unit: MIB }],
  },
  {
    title: "Stored, MiB",
    lines: [
      { name: "counts for the quota", metric: "etcd_mvcc_db_total_size_in_bytes", unit: MIB },
    ],
  },
  { title: "Keys", lines: [{ name: "live", metric: "etcd_debugging_mvcc_keys_total" }] },
  {
    title: "Clients",
    lines: [
      { name: "connections", metric: "coordinator_connections" },
      { name: "WebSockets", metric: "coordinator_websockets" },
      { name: "requests in flight", metric: "coordinator_requests_in_flight" },
    ],
  },
  {
    title: "Watches, leases",
    lines: [
      { name: "watches", metric: "etcd_debugging_mvcc_watcher_total" },
      { name: "leases and sessions", metric: "coordinator_leases" },
    ],
  },
  {
    title: "Revisions per second",
    lines: [{ name: "published", metric: "etcd_debugging_mvcc_current_revision", isRate: true }],
  },
  { title: "Term", lines: [{ name: "Raft term", metric: "coordinator_raft_term" }] },
  { title: "Open files", lines: [{ name: "descriptors", metric: "process_open_fds" }] },
];
