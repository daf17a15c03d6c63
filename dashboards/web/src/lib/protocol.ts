// Written by tools/dashboard_types.py from the server's structs; `make fix` writes it anew.

/** Bytes, as base64. */
export type Bytes = string;
/** An id: 16 hexadecimal digits. */
export type Id = string;

export interface Alarm {
  member: Id;
  alarm: string;
}

export interface AlarmDisarm {
  tag?: "alarms.disarm";
  member?: Id;
  alarm?: string;
}

export interface AlarmList {
  tag?: "alarms.list";
}

export interface AlarmListResult {
  alarms: Alarm[];
}

export interface ApiKeyCreate {
  tag?: "api_keys.create";
  user: string;
  role?: string;
  expires_ms?: number;
  label?: string;
  secret?: string;
  key?: Id;
  secret_hash?: Bytes;
}

export interface ApiKeyCreateResult {
  key: Id;
  secret: string;
  auth_revision: number;
}

export interface ApiKeyInfo {
  key: Id;
  user: string;
  role: string;
  expires_ms: number;
  label: string;
  created_ms: number;
}

export interface ApiKeyList {
  tag?: "api_keys.list";
  user?: string;
}

export interface ApiKeyListResult {
  keys: ApiKeyInfo[];
}

export interface ApiKeyRevoke {
  tag?: "api_keys.revoke";
  key: Id;
}

export interface AuthDisable {
  tag?: "auth.disable";
}

export interface AuthEnable {
  tag?: "auth.enable";
}

export interface AuthInit {
  tag?: "auth.init";
  password?: string;
  password_hash?: string;
}

export interface AuthResult {
  auth_revision: number;
}

export interface AuthStatus {
  tag?: "auth.status";
}

export interface AuthStatusResult {
  enabled: boolean;
  auth_revision: number;
}

export interface Blame {
  tag?: "cluster.blame";
  key?: Bytes;
  domain?: string;
  namespace?: string;
  name?: string;
  limit?: number;
  before?: number;
}

export interface BlameLine {
  revision: number;
  kind: string;
  what: string;
  actor: string;
  origin: string;
  cause: string;
  operation: string;
  trace: string;
  clock_ms: number;
}

export interface BlameResult {
  lines: BlameLine[];
  compact_revision: number;
  more: boolean;
}

export interface Cancel {
  tag?: "stream.cancel";
  stream: number;
}

export interface ClusterMembers {
  tag?: "cluster.members";
}

export interface ClusterMembersResult {
  members: MemberInfo[];
}

export interface ClusterSample {
  member: Id;
  time_ms: number;
  leader: Id;
  term: number;
  leaderless_ms: number;
  read_us: number;
  members: MemberStanding[];
}

export interface ClusterStatus {
  tag?: "cluster.status";
}

export interface ClusterStatusResult {
  cluster: Id;
  member: Id;
  name: string;
  version: string;
  leader: Id;
  role: string;
  term: number;
  index: number;
  applied_index: number;
  revision: number;
  compact_revision: number;
  live_keys: number;
  bytes_used: number;
  bytes_quota: number;
  alarms: string[];
  connections: number;
  watches: number;
  leases: number;
  uptime_ms: number;
  commit_index: number;
  reads: number;
  writes: number;
}

export interface ClusterWatch {
  tag?: "cluster.watch";
}

export interface Compact {
  tag?: "kv.compact";
  revision: number;
  physical?: boolean;
}

export interface CompactResult {
  revision: number;
}

export interface Compare {
  target: number;
  result: number;
  key: Bytes;
  number?: number;
  value?: Bytes;
  range_end?: Bytes;
}

export interface Credit {
  tag?: "stream.credit";
  stream: number;
  amount: number;
}

export interface Delete {
  tag?: "kv.delete";
  key: Bytes;
  range_end?: Bytes;
  prev_kv?: boolean;
  guard?: Guard | null;
}

export interface DeleteResult {
  tag: "delete";
  revision: number;
  deleted: number;
  prev_kvs: KeyValue[];
}

export interface DiscoveryGet {
  tag?: "discovery.get";
  namespace: string;
  token: string;
  revision?: number;
}

export interface DiscoveryInfo {
  namespace: string;
  token: string;
  size: number;
  members: DiscoveryMember[];
  complete: boolean;
  created_ms: number;
  expires_ms: number;
}

export interface DiscoveryMember {
  member: Id;
  name: string;
  peer_urls: string[];
  revision: number;
  registered_ms: number;
}

export interface DiscoveryNew {
  tag?: "discovery.new";
  namespace: string;
  size?: number;
  token?: string;
}

export interface DiscoveryNewResult {
  revision: number;
  token: string;
  size: number;
}

export interface DiscoveryRegister {
  tag?: "discovery.register";
  namespace: string;
  token: string;
  member: Id;
  name: string;
  peer_urls: string[];
}

export interface DomainPermission {
  action: string;
  namespace?: string;
  name?: string;
}

export interface ElectionCampaign {
  tag?: "elections.campaign";
  namespace: string;
  name: string;
  session: Id;
  owner: string;
  value?: Bytes;
  ticket?: string;
  timeout_ms?: number | null;
  follow?: boolean;
}

export interface ElectionCancel {
  tag?: "elections.cancel";
  namespace: string;
  name: string;
  ticket: string;
}

export interface ElectionCandidate {
  ticket: string;
  session: Id;
  owner: string;
  since_ms: number;
  timeout_ms: number | null;
  application: string;
  host: string;
  pid: number;
}

export interface ElectionChange {
  revision: number;
  kind: string;
  leader: ElectionLeader | null;
}

export interface ElectionGet {
  tag?: "elections.get";
  namespace: string;
  name: string;
  revision?: number;
}

export interface ElectionInfo {
  namespace: string;
  name: string;
  leader: ElectionLeader | null;
  candidates: ElectionCandidate[];
  waiting: number;
}

export interface ElectionLeader {
  token: number;
  session: Id;
  owner: string;
  ticket: string;
  since_ms: number;
  value: Bytes;
  application: string;
  host: string;
  pid: number;
}

export interface ElectionList {
  tag?: "elections.list";
  namespace: string;
  prefix?: string;
  revision?: number;
}

export interface ElectionListResult {
  elections: ElectionInfo[];
}

export interface ElectionObserve {
  tag?: "elections.observe";
  namespace: string;
  name: string;
  start_revision?: number;
  credit?: number;
}

export interface ElectionProclaim {
  tag?: "elections.proclaim";
  namespace: string;
  name: string;
  session: Id;
  owner: string;
  token: number;
  value: Bytes;
}

export interface ElectionResign {
  tag?: "elections.resign";
  namespace: string;
  name: string;
  session: Id;
  owner: string;
  token: number;
}

export interface ElectionResult {
  revision: number;
  done: boolean;
}

export interface ElectionTicket {
  tag?: "elections.ticket";
  namespace: string;
  name: string;
  ticket: string;
  follow?: boolean;
}

export interface Event {
  type: number;
  kv: KeyValue;
  prev_kv: KeyValue | null;
}

export interface Guard {
  kind: string;
  namespace: string;
  name: string;
  token: number;
  session: Id;
  owner: string;
}

export interface HashKeys {
  tag?: "cluster.hash";
  revision?: number;
}

export interface HashKeysResult {
  hash: number;
  revision: number;
  compact_revision: number;
}

export interface Hello {
  tag?: "hello";
  version?: number;
  client?: Id;
  cluster?: Id;
  agent?: string;
  features?: string[];
}

export interface HelloResult {
  version: number;
  client: Id;
  resumed: boolean;
  cluster: Id;
  member: Id;
  member_name: string;
  server: string;
  features: string[];
  endpoints: string[];
  max_request_bytes: number;
  max_in_flight: number;
}

export interface Identity {
  user: string;
  roles: string[];
  scope: string;
  expires_ms: number;
  clock_ms: number;
  enabled: boolean;
  keys: KeyPermission[];
  domains: DomainPermission[];
  insecure_open: boolean;
}

export interface Instance {
  namespace: string;
  service: string;
  instance: string;
  session: Id;
  address: string;
  port: number;
  tags: string[];
  metadata: Record<string, string>;
  zone: string;
  version: string;
  weight: number;
  status: string;
  status_reason: string;
  registered_ms: number;
  revision: number;
}

export interface KeyPermission {
  access: number;
  key: Bytes;
  range_end?: Bytes;
}

export interface KeyValue {
  key: Bytes;
  create_revision: number;
  mod_revision: number;
  version: number;
  lease: Id;
  value: Bytes;
}

export interface LeaderMove {
  tag?: "cluster.move_leader";
  member?: Id;
}

export interface LeaderMoveResult {
  former: Id;
  leader: Id;
}

export interface LeaseGrant {
  tag?: "leases.grant";
  ttl_ms: number;
  lease?: Id;
}

export interface LeaseGrantResult {
  lease: Id;
  ttl_ms: number;
}

export interface LeaseInfo {
  lease: Id;
  ttl_ms: number;
  remaining_ms: number;
  keys: Bytes[];
}

export interface LeaseKeepAlive {
  tag?: "leases.keepalive";
  leases: Id[];
}

export interface LeaseKeepAliveResult {
  ttls_ms: number[];
}

export interface LeaseList {
  tag?: "leases.list";
}

export interface LeaseListResult {
  leases: LeaseInfo[];
}

export interface LeaseRevoke {
  tag?: "leases.revoke";
  lease: Id;
}

export interface LeaseRevokeResult {
  revision: number;
  deleted: number;
}

export interface LeaseTimeToLive {
  tag?: "leases.ttl";
  lease: Id;
  keys?: boolean;
}

export interface LockAcquire {
  tag?: "locks.acquire";
  namespace: string;
  name: string;
  session: Id;
  owner: string;
  ticket?: string;
  timeout_ms?: number | null;
  reason?: string;
  follow?: boolean;
}

export interface LockCancel {
  tag?: "locks.cancel";
  namespace: string;
  name: string;
  ticket: string;
}

export interface LockForceRelease {
  tag?: "locks.force_release";
  namespace: string;
  name: string;
  reason: string;
  token?: number;
}

export interface LockGet {
  tag?: "locks.get";
  namespace: string;
  name: string;
  revision?: number;
}

export interface LockHolder {
  token: number;
  session: Id;
  owner: string;
  ticket: string;
  since_ms: number;
  reason: string;
  application: string;
  host: string;
  pid: number;
}

export interface LockInfo {
  namespace: string;
  name: string;
  holder: LockHolder | null;
  queue: LockWaiter[];
  waiting: number;
}

export interface LockList {
  tag?: "locks.list";
  namespace: string;
  prefix?: string;
  revision?: number;
}

export interface LockListResult {
  locks: LockInfo[];
}

export interface LockRelease {
  tag?: "locks.release";
  namespace: string;
  name: string;
  session: Id;
  owner: string;
  token: number;
}

export interface LockReleaseResult {
  revision: number;
  released: boolean;
}

export interface LockTicket {
  tag?: "locks.ticket";
  namespace: string;
  name: string;
  ticket: string;
  follow?: boolean;
}

export interface LockWaiter {
  ticket: string;
  session: Id;
  owner: string;
  since_ms: number;
  timeout_ms: number | null;
  reason: string;
  application: string;
  host: string;
  pid: number;
}

export interface Login {
  tag?: "auth.login";
  user: string;
  password: string;
  cookie?: boolean;
}

export interface LoginResult {
  token: string;
  user: string;
  expires_ms: number;
  auth_revision: number;
  clock_ms: number;
}

export interface MemberAdd {
  tag?: "members.add";
  peer_urls: string[];
  name?: string;
  is_learner?: boolean;
  promote_when_ready?: boolean;
  member?: Id;
}

export interface MemberChangeResult {
  member: MemberInfo;
  members: MemberInfo[];
}

export interface MemberInfo {
  member: Id;
  name: string;
  peer_urls: string[];
  client_urls: string[];
  is_learner: boolean;
  is_started: boolean;
  promote_when_ready: boolean;
}

export interface MemberPromote {
  tag?: "members.promote";
  member: Id;
}

export interface MemberRemove {
  tag?: "members.remove";
  member: Id;
}

export interface MemberStanding {
  member: MemberInfo;
  heard_ms: number;
  round_trip_us: number;
  status: ClusterStatusResult | null;
}

export interface MemberUpdate {
  tag?: "members.update";
  member: Id;
  peer_urls: string[];
}

export interface Ping {
  tag?: "ping";
}

export interface Progress {
  tag?: "watch.progress";
  stream: number;
}

export interface Put {
  tag?: "kv.put";
  key: Bytes;
  value?: Bytes;
  lease?: Id;
  prev_kv?: boolean;
  ignore_value?: boolean;
  ignore_lease?: boolean;
  guard?: Guard | null;
}

export interface PutResult {
  tag: "put";
  revision: number;
  prev_kv: KeyValue | null;
}

export interface Range {
  tag?: "kv.range";
  key: Bytes;
  range_end?: Bytes;
  limit?: number;
  revision?: number;
  sort_order?: number;
  sort_target?: number;
  keys_only?: boolean;
  count_only?: boolean;
  min_mod_revision?: number;
  max_mod_revision?: number;
  min_create_revision?: number;
  max_create_revision?: number;
  serializable?: boolean;
  max_staleness_ms?: number;
  min_revision?: number;
  space?: number;
}

export interface RangeResult {
  tag: "range";
  revision: number;
  kvs: KeyValue[];
  more: boolean;
  count: number;
}

export interface Reauthenticate {
  tag?: "auth.reauthenticate";
  token: string;
}

export interface Retention {
  max_age_ms: number;
  max_messages: number;
  max_bytes: number;
}

export interface RevisionAt {
  tag?: "cluster.revision_at";
  clock_ms?: number;
}

export interface RevisionAtResult {
  revision: number;
  clock_ms: number;
  now_ms: number;
}

export interface RoleAdd {
  tag?: "roles.add";
  role: string;
}

export interface RoleDelete {
  tag?: "roles.delete";
  role: string;
}

export interface RoleGet {
  tag?: "roles.get";
  role: string;
}

export interface RoleGrant {
  tag?: "roles.grant";
  role: string;
  key?: KeyPermission | null;
  domain?: DomainPermission | null;
}

export interface RoleInfo {
  role: string;
  keys: KeyPermission[];
  domains: DomainPermission[];
}

export interface RoleList {
  tag?: "roles.list";
}

export interface RoleListResult {
  roles: string[];
}

export interface RoleRevoke {
  tag?: "roles.revoke";
  role: string;
  key?: KeyPermission | null;
  domain?: DomainPermission | null;
}

export interface ServiceChange {
  tag: "change";
  revision: number;
  changed: Instance[];
  removed: Instance[];
}

export interface ServiceDeregister {
  tag?: "services.deregister";
  namespace: string;
  service: string;
  instance: string;
}

export interface ServiceDiscover {
  tag?: "services.discover";
  namespace: string;
  service: string;
  tags?: string[];
  metadata?: Record<string, string>;
  zone?: string;
  version?: string;
  statuses?: string[];
  revision?: number;
  serializable?: boolean;
}

export interface ServiceDiscoverResult {
  revision: number;
  instances: Instance[];
}

export interface ServiceList {
  tag?: "services.list";
  namespace: string;
  prefix?: string;
  revision?: number;
}

export interface ServiceListResult {
  services: ServiceSummary[];
}

export interface ServiceRegister {
  tag?: "services.register";
  namespace: string;
  service: string;
  session: Id;
  instance?: string;
  address?: string;
  port?: number;
  tags?: string[];
  metadata?: Record<string, string>;
  zone?: string;
  version?: string;
  weight?: number;
  status?: string;
}

export interface ServiceRegisterResult {
  revision: number;
  instance: string;
  created: boolean;
}

export interface ServiceResult {
  revision: number;
  changed: boolean;
}

export interface ServiceSetStatus {
  tag?: "services.set_status";
  namespace: string;
  service: string;
  instance: string;
  status: string;
  reason?: string;
}

export interface ServiceSnapshot {
  tag: "snapshot";
  revision: number;
  instances: Instance[];
}

export interface ServiceSummary {
  namespace: string;
  service: string;
  instances: number;
  statuses: Record<string, number>;
}

export interface ServiceWatch {
  tag?: "services.watch";
  namespace: string;
  service?: string;
  start_revision?: number;
  credit?: number;
}

export interface SessionClose {
  tag?: "sessions.close";
  session: Id;
}

export interface SessionGet {
  tag?: "sessions.get";
  session: Id;
}

export interface SessionInfo {
  session: Id;
  ttl_ms: number;
  remaining_ms: number;
  application: string;
  host: string;
  pid: number;
  actor: string;
  opened_ms: number;
  metadata: Record<string, string>;
  holds: string[];
}

export interface SessionList {
  tag?: "sessions.list";
}

export interface SessionListResult {
  sessions: SessionInfo[];
}

export interface SessionOpen {
  tag?: "sessions.open";
  ttl_ms: number;
  session?: Id;
  application?: string;
  host?: string;
  pid?: number;
  metadata?: Record<string, string>;
}

export interface SessionOpenResult {
  session: Id;
  ttl_ms: number;
}

export interface StreamInfo {
  peer: string;
  user: string;
  client: Id;
  operation: string;
  space: number;
  key: Bytes;
  range_end: Bytes;
  namespace: string;
  name: string;
  state: string;
  lag: number;
}

export interface StreamList {
  tag?: "cluster.streams";
  limit?: number;
}

export interface StreamListResult {
  streams: StreamInfo[];
  total: number;
  others: number;
}

export interface SubscriptionInfo {
  namespace: string;
  pattern: string;
  name: string;
  session: Id;
  peer: string;
  positions: Record<string, number>;
  lag: number;
}

export interface TicketState {
  ticket: string;
  state: string;
  token: number;
  position: number;
  reason: string;
}

export interface TopicCreate {
  tag?: "topics.create";
  namespace: string;
  topic: string;
  retention?: Retention | null;
}

export interface TopicDelete {
  tag?: "topics.delete";
  namespace: string;
  topic: string;
}

export interface TopicGap {
  tag: "truncated";
  topic: string;
  first_sequence: number;
  after_sequence: number;
}

export interface TopicGet {
  tag?: "topics.get";
  namespace: string;
  topic: string;
  revision?: number;
}

export interface TopicInfo {
  namespace: string;
  topic: string;
  retention: Retention;
  first_sequence: number;
  last_sequence: number;
  messages: number;
  bytes: number;
  created_ms: number;
}

export interface TopicList {
  tag?: "topics.list";
  namespace: string;
  pattern?: string;
  revision?: number;
}

export interface TopicListResult {
  topics: TopicInfo[];
}

export interface TopicMessage {
  topic: string;
  sequence: number;
  revision: number;
  timestamp_ms: number;
  payload: Bytes;
  headers: Record<string, string>;
}

export interface TopicMessages {
  tag: "messages";
  messages: TopicMessage[];
  revision: number;
}

export interface TopicPublish {
  tag?: "topics.publish";
  namespace: string;
  topic: string;
  payload: Bytes;
  headers?: Record<string, string>;
  guard?: Guard | null;
}

export interface TopicPublishResult {
  revision: number;
  sequence: number;
}

export interface TopicRead {
  tag?: "topics.read";
  namespace: string;
  topic: string;
  first?: number;
  limit?: number;
}

export interface TopicReadResult {
  first_sequence: number;
  last_sequence: number;
  messages: TopicMessage[];
}

export interface TopicReady {
  tag: "ready";
  revision: number;
}

export interface TopicResult {
  revision: number;
  changed: boolean;
}

export interface TopicSubscribe {
  tag?: "topics.subscribe";
  namespace: string;
  pattern: string;
  start?: string;
  position?: number;
  after?: Record<string, number>;
  credit?: number;
  session?: Id;
  name?: string;
}

export interface TopicSubscribers {
  tag?: "topics.subscribers";
  namespace: string;
  topic?: string;
}

export interface TopicSubscribersResult {
  subscriptions: SubscriptionInfo[];
}

export interface Txn {
  tag?: "kv.txn";
  compare?: Compare[];
  success?: (Put | Range | Delete | Txn)[];
  failure?: (Put | Range | Delete | Txn)[];
  guard?: Guard | null;
}

export interface TxnResult {
  tag: "txn";
  revision: number;
  succeeded: boolean;
  responses: (PutResult | RangeResult | DeleteResult | TxnResult)[];
}

export interface UserAdd {
  tag?: "users.add";
  user: string;
  password?: string;
  no_password?: boolean;
  certificate_names?: string[];
  password_hash?: string;
}

export interface UserChangePassword {
  tag?: "users.change_password";
  user: string;
  password?: string;
  password_hash?: string;
}

export interface UserDelete {
  tag?: "users.delete";
  user: string;
}

export interface UserGet {
  tag?: "users.get";
  user: string;
}

export interface UserGrantRole {
  tag?: "users.grant_role";
  user: string;
  role: string;
}

export interface UserInfo {
  user: string;
  roles: string[];
  no_password: boolean;
  certificate_names: string[];
}

export interface UserList {
  tag?: "users.list";
}

export interface UserListResult {
  users: string[];
}

export interface UserRevokeRole {
  tag?: "users.revoke_role";
  user: string;
  role: string;
}

export interface UserSetCertificates {
  tag?: "users.set_certificates";
  user: string;
  certificate_names: string[];
}

export interface Watch {
  tag?: "watch.create";
  key: Bytes;
  range_end?: Bytes;
  start_revision?: number;
  prev_kv?: boolean;
  no_put?: boolean;
  no_delete?: boolean;
  progress?: boolean;
  credit?: number;
  space?: number;
}

export interface WatchCancelled {
  tag: "cancelled";
  code: string;
  message: string;
  compact_revision: number;
}

export interface WatchEvents {
  tag: "events";
  revision: number;
  events: Event[];
}

export interface WatchProgress {
  tag: "progress";
  revision: number;
}

export interface WhoAmI {
  tag?: "auth.whoami";
}

/** What each operation is asked with, and what it answers. */
export interface Calls {
  "kv.put": [Put, PutResult];
  "kv.range": [Range, RangeResult];
  "kv.delete": [Delete, DeleteResult];
  "kv.txn": [Txn, TxnResult];
  "kv.compact": [Compact, CompactResult];
  "stream.credit": [Credit, null];
  "stream.cancel": [Cancel, null];
  "watch.progress": [Progress, null];
  "leases.grant": [LeaseGrant, LeaseGrantResult];
  "leases.revoke": [LeaseRevoke, LeaseRevokeResult];
  "leases.keepalive": [LeaseKeepAlive, LeaseKeepAliveResult];
  "leases.ttl": [LeaseTimeToLive, LeaseInfo];
  "leases.list": [LeaseList, LeaseListResult];
  "sessions.open": [SessionOpen, SessionOpenResult];
  "sessions.close": [SessionClose, LeaseRevokeResult];
  "sessions.get": [SessionGet, SessionInfo];
  "sessions.list": [SessionList, SessionListResult];
  "services.register": [ServiceRegister, ServiceRegisterResult];
  "services.deregister": [ServiceDeregister, ServiceResult];
  "services.set_status": [ServiceSetStatus, ServiceResult];
  "services.discover": [ServiceDiscover, ServiceDiscoverResult];
  "services.list": [ServiceList, ServiceListResult];
  "topics.create": [TopicCreate, TopicResult];
  "topics.delete": [TopicDelete, TopicResult];
  "topics.publish": [TopicPublish, TopicPublishResult];
  "topics.get": [TopicGet, TopicInfo];
  "topics.list": [TopicList, TopicListResult];
  "topics.read": [TopicRead, TopicReadResult];
  "topics.subscribers": [TopicSubscribers, TopicSubscribersResult];
  "locks.acquire": [LockAcquire, TicketState];
  "locks.release": [LockRelease, LockReleaseResult];
  "locks.cancel": [LockCancel, LockReleaseResult];
  "locks.force_release": [LockForceRelease, LockReleaseResult];
  "locks.ticket": [LockTicket, TicketState];
  "locks.get": [LockGet, LockInfo];
  "locks.list": [LockList, LockListResult];
  "elections.campaign": [ElectionCampaign, TicketState];
  "elections.proclaim": [ElectionProclaim, ElectionResult];
  "elections.resign": [ElectionResign, ElectionResult];
  "elections.cancel": [ElectionCancel, ElectionResult];
  "elections.ticket": [ElectionTicket, TicketState];
  "elections.get": [ElectionGet, ElectionInfo];
  "elections.list": [ElectionList, ElectionListResult];
  "discovery.new": [DiscoveryNew, DiscoveryNewResult];
  "discovery.register": [DiscoveryRegister, DiscoveryInfo];
  "discovery.get": [DiscoveryGet, DiscoveryInfo];
  "hello": [Hello, HelloResult];
  "ping": [Ping, null];
  "cluster.status": [ClusterStatus, ClusterStatusResult];
  "cluster.members": [ClusterMembers, ClusterMembersResult];
  "cluster.streams": [StreamList, StreamListResult];
  "members.add": [MemberAdd, MemberChangeResult];
  "members.remove": [MemberRemove, MemberChangeResult];
  "members.promote": [MemberPromote, MemberChangeResult];
  "members.update": [MemberUpdate, MemberChangeResult];
  "cluster.move_leader": [LeaderMove, LeaderMoveResult];
  "alarms.list": [AlarmList, AlarmListResult];
  "alarms.disarm": [AlarmDisarm, AlarmListResult];
  "cluster.hash": [HashKeys, HashKeysResult];
  "cluster.revision_at": [RevisionAt, RevisionAtResult];
  "cluster.blame": [Blame, BlameResult];
  "auth.enable": [AuthEnable, AuthResult];
  "auth.disable": [AuthDisable, AuthResult];
  "auth.status": [AuthStatus, AuthStatusResult];
  "auth.init": [AuthInit, AuthResult];
  "auth.login": [Login, LoginResult];
  "auth.reauthenticate": [Reauthenticate, Identity];
  "auth.whoami": [WhoAmI, Identity];
  "users.add": [UserAdd, AuthResult];
  "users.delete": [UserDelete, AuthResult];
  "users.change_password": [UserChangePassword, AuthResult];
  "users.set_certificates": [UserSetCertificates, AuthResult];
  "users.grant_role": [UserGrantRole, AuthResult];
  "users.revoke_role": [UserRevokeRole, AuthResult];
  "users.get": [UserGet, UserInfo];
  "users.list": [UserList, UserListResult];
  "roles.add": [RoleAdd, AuthResult];
  "roles.delete": [RoleDelete, AuthResult];
  "roles.grant": [RoleGrant, AuthResult];
  "roles.revoke": [RoleRevoke, AuthResult];
  "roles.get": [RoleGet, RoleInfo];
  "roles.list": [RoleList, RoleListResult];
  "api_keys.create": [ApiKeyCreate, ApiKeyCreateResult];
  "api_keys.revoke": [ApiKeyRevoke, AuthResult];
  "api_keys.list": [ApiKeyList, ApiKeyListResult];
}

/** What each stream is opened with, and what its items are. */
export interface Streams {
  "watch.create": [Watch, WatchEvents | WatchProgress | WatchCancelled];
  "topics.subscribe": [TopicSubscribe, TopicMessages | TopicGap | TopicReady];
  "services.watch": [ServiceWatch, ServiceSnapshot | ServiceChange];
  "elections.observe": [ElectionObserve, ElectionChange];
  "cluster.watch": [ClusterWatch, ClusterSample];
}

/** For each operation its request, and the struct of its answer or of its items. */
export const OPERATIONS: Record<string, [string, string]> = {
  "kv.put": ["Put", "PutResult"],
  "kv.range": ["Range", "RangeResult"],
  "kv.delete": ["Delete", "DeleteResult"],
  "kv.txn": ["Txn", "TxnResult"],
  "kv.compact": ["Compact", "CompactResult"],
  "watch.create": ["Watch", "WatchEvents|WatchProgress|WatchCancelled"],
  "stream.credit": ["Credit", ""],
  "stream.cancel": ["Cancel", ""],
  "watch.progress": ["Progress", ""],
  "leases.grant": ["LeaseGrant", "LeaseGrantResult"],
  "leases.revoke": ["LeaseRevoke", "LeaseRevokeResult"],
  "leases.keepalive": ["LeaseKeepAlive", "LeaseKeepAliveResult"],
  "leases.ttl": ["LeaseTimeToLive", "LeaseInfo"],
  "leases.list": ["LeaseList", "LeaseListResult"],
  "sessions.open": ["SessionOpen", "SessionOpenResult"],
  "sessions.close": ["SessionClose", "LeaseRevokeResult"],
  "sessions.get": ["SessionGet", "SessionInfo"],
  "sessions.list": ["SessionList", "SessionListResult"],
  "services.register": ["ServiceRegister", "ServiceRegisterResult"],
  "services.deregister": ["ServiceDeregister", "ServiceResult"],
  "services.set_status": ["ServiceSetStatus", "ServiceResult"],
  "services.discover": ["ServiceDiscover", "ServiceDiscoverResult"],
  "services.list": ["ServiceList", "ServiceListResult"],
  "services.watch": ["ServiceWatch", "ServiceSnapshot|ServiceChange"],
  "topics.create": ["TopicCreate", "TopicResult"],
  "topics.delete": ["TopicDelete", "TopicResult"],
  "topics.publish": ["TopicPublish", "TopicPublishResult"],
  "topics.subscribe": ["TopicSubscribe", "TopicMessages|TopicGap|TopicReady"],
  "topics.get": ["TopicGet", "TopicInfo"],
  "topics.list": ["TopicList", "TopicListResult"],
  "topics.read": ["TopicRead", "TopicReadResult"],
  "topics.subscribers": ["TopicSubscribers", "TopicSubscribersResult"],
  "locks.acquire": ["LockAcquire", "TicketState"],
  "locks.release": ["LockRelease", "LockReleaseResult"],
  "locks.cancel": ["LockCancel", "LockReleaseResult"],
  "locks.force_release": ["LockForceRelease", "LockReleaseResult"],
  "locks.ticket": ["LockTicket", "TicketState"],
  "locks.get": ["LockGet", "LockInfo"],
  "locks.list": ["LockList", "LockListResult"],
  "elections.campaign": ["ElectionCampaign", "TicketState"],
  "elections.proclaim": ["ElectionProclaim", "ElectionResult"],
  "elections.resign": ["ElectionResign", "ElectionResult"],
  "elections.cancel": ["ElectionCancel", "ElectionResult"],
  "elections.ticket": ["ElectionTicket", "TicketState"],
  "elections.get": ["ElectionGet", "ElectionInfo"],
  "elections.list": ["ElectionList", "ElectionListResult"],
  "elections.observe": ["ElectionObserve", "ElectionChange"],
  "discovery.new": ["DiscoveryNew", "DiscoveryNewResult"],
  "discovery.register": ["DiscoveryRegister", "DiscoveryInfo"],
  "discovery.get": ["DiscoveryGet", "DiscoveryInfo"],
  "hello": ["Hello", "HelloResult"],
  "ping": ["Ping", ""],
  "cluster.status": ["ClusterStatus", "ClusterStatusResult"],
  "cluster.members": ["ClusterMembers", "ClusterMembersResult"],
  "cluster.watch": ["ClusterWatch", "ClusterSample"],
  "cluster.streams": ["StreamList", "StreamListResult"],
  "members.add": ["MemberAdd", "MemberChangeResult"],
  "members.remove": ["MemberRemove", "MemberChangeResult"],
  "members.promote": ["MemberPromote", "MemberChangeResult"],
  "members.update": ["MemberUpdate", "MemberChangeResult"],
  "cluster.move_leader": ["LeaderMove", "LeaderMoveResult"],
  "alarms.list": ["AlarmList", "AlarmListResult"],
  "alarms.disarm": ["AlarmDisarm", "AlarmListResult"],
  "cluster.hash": ["HashKeys", "HashKeysResult"],
  "cluster.revision_at": ["RevisionAt", "RevisionAtResult"],
  "cluster.blame": ["Blame", "BlameResult"],
  "auth.enable": ["AuthEnable", "AuthResult"],
  "auth.disable": ["AuthDisable", "AuthResult"],
  "auth.status": ["AuthStatus", "AuthStatusResult"],
  "auth.init": ["AuthInit", "AuthResult"],
  "auth.login": ["Login", "LoginResult"],
  "auth.reauthenticate": ["Reauthenticate", "Identity"],
  "auth.whoami": ["WhoAmI", "Identity"],
  "users.add": ["UserAdd", "AuthResult"],
  "users.delete": ["UserDelete", "AuthResult"],
  "users.change_password": ["UserChangePassword", "AuthResult"],
  "users.set_certificates": ["UserSetCertificates", "AuthResult"],
  "users.grant_role": ["UserGrantRole", "AuthResult"],
  "users.revoke_role": ["UserRevokeRole", "AuthResult"],
  "users.get": ["UserGet", "UserInfo"],
  "users.list": ["UserList", "UserListResult"],
  "roles.add": ["RoleAdd", "AuthResult"],
  "roles.delete": ["RoleDelete", "AuthResult"],
  "roles.grant": ["RoleGrant", "AuthResult"],
  "roles.revoke": ["RoleRevoke", "AuthResult"],
  "roles.get": ["RoleGet", "RoleInfo"],
  "roles.list": ["RoleList", "RoleListResult"],
  "api_keys.create": ["ApiKeyCreate", "ApiKeyCreateResult"],
  "api_keys.revoke": ["ApiKeyRevoke", "AuthResult"],
  "api_keys.list": ["ApiKeyList", "ApiKeyListResult"],
};

/**
 * The fields of each struct in the order of its array: `#tag`, `name`, `name:Struct`
 * for a field of structs, `=` and the default as JSON.
 */
export const FIELDS: Record<string, string> = {
  Alarm: "member alarm",
  AlarmDisarm: "#alarms.disarm member=\"0000000000000000\" alarm=\"\"",
  AlarmList: "#alarms.list",
  AlarmListResult: "alarms:Alarm",
  ApiKeyCreate: "#api_keys.create user role=\"\" expires_ms=0 label=\"\" secret=\"\" key=\"0000000000000000\" secret_hash=\"\"",
  ApiKeyCreateResult: "key secret auth_revision=0",
  ApiKeyInfo: "key user role=\"\" expires_ms=0 label=\"\" created_ms=0",
  ApiKeyList: "#api_keys.list user=\"\"",
  ApiKeyListResult: "keys:ApiKeyInfo",
  ApiKeyRevoke: "#api_keys.revoke key",
  AuthDisable: "#auth.disable",
  AuthEnable: "#auth.enable",
  AuthInit: "#auth.init password=\"\" password_hash=\"\"",
  AuthResult: "auth_revision",
  AuthStatus: "#auth.status",
  AuthStatusResult: "enabled auth_revision",
  Blame: "#cluster.blame key=\"\" domain=\"\" namespace=\"default\" name=\"\" limit=0 before=0",
  BlameLine: "revision kind what=\"\" actor=\"\" origin=\"\" cause=\"\" operation=\"\" trace=\"\" clock_ms=0",
  BlameResult: "lines:BlameLine compact_revision=0 more=false",
  Cancel: "#stream.cancel stream",
  ClusterMembers: "#cluster.members",
  ClusterMembersResult: "members:MemberInfo",
  ClusterSample: "member time_ms leader term leaderless_ms read_us members:MemberStanding",
  ClusterStatus: "#cluster.status",
  ClusterStatusResult: "cluster member name version leader role term index applied_index revision compact_revision live_keys bytes_used bytes_quota alarms=[] connections=0 watches=0 leases=0 uptime_ms=0 commit_index=0 reads=0 writes=0",
  ClusterWatch: "#cluster.watch",
  Compact: "#kv.compact revision physical=false",
  CompactResult: "revision",
  Compare: "target result key number=0 value=\"\" range_end=\"\"",
  Credit: "#stream.credit stream amount",
  Delete: "#kv.delete key range_end=\"\" prev_kv=false guard:Guard=null",
  DeleteResult: "#delete revision deleted=0 prev_kvs:KeyValue=[]",
  DiscoveryGet: "#discovery.get namespace token revision=0",
  DiscoveryInfo: "namespace token size members:DiscoveryMember=[] complete=false created_ms=0 expires_ms=0",
  DiscoveryMember: "member name peer_urls revision registered_ms=0",
  DiscoveryNew: "#discovery.new namespace size=3 token=\"\"",
  DiscoveryNewResult: "revision token size",
  DiscoveryRegister: "#discovery.register namespace token member name peer_urls",
  DomainPermission: "action namespace=\"*\" name=\"*\"",
  ElectionCampaign: "#elections.campaign namespace name session owner value=\"\" ticket=\"\" timeout_ms=null follow=false",
  ElectionCancel: "#elections.cancel namespace name ticket",
  ElectionCandidate: "ticket session owner since_ms timeout_ms=null application=\"\" host=\"\" pid=0",
  ElectionChange: "revision kind leader:ElectionLeader=null",
  ElectionGet: "#elections.get namespace name revision=0",
  ElectionInfo: "namespace name leader:ElectionLeader=null candidates:ElectionCandidate=[] waiting=0",
  ElectionLeader: "token session owner ticket since_ms value=\"\" application=\"\" host=\"\" pid=0",
  ElectionList: "#elections.list namespace prefix=\"\" revision=0",
  ElectionListResult: "elections:ElectionInfo",
  ElectionObserve: "#elections.observe namespace name start_revision=0 credit=0",
  ElectionProclaim: "#elections.proclaim namespace name session owner token value",
  ElectionResign: "#elections.resign namespace name session owner token",
  ElectionResult: "revision done=true",
  ElectionTicket: "#elections.ticket namespace name ticket follow=false",
  Event: "type kv:KeyValue prev_kv:KeyValue=null",
  Guard: "kind namespace name token session owner",
  HashKeys: "#cluster.hash revision=0",
  HashKeysResult: "hash revision compact_revision",
  Hello: "#hello version=1 client=\"0000000000000000\" cluster=\"0000000000000000\" agent=\"\" features=[]",
  HelloResult: "version client resumed cluster member member_name=\"\" server=\"\" features=[] endpoints=[] max_request_bytes=1572864 max_in_flight=256",
  Identity: "user roles=[] scope=\"\" expires_ms=0 clock_ms=0 enabled=false keys:KeyPermission=[] domains:DomainPermission=[] insecure_open=false",
  Instance: "namespace service instance session address=\"\" port=0 tags=[] metadata={} zone=\"\" version=\"\" weight=1 status=\"passing\" status_reason=\"\" registered_ms=0 revision=0",
  KeyPermission: "access key range_end=\"\"",
  KeyValue: "key create_revision=0 mod_revision=0 version=0 lease=\"0000000000000000\" value=\"\"",
  LeaderMove: "#cluster.move_leader member=\"0000000000000000\"",
  LeaderMoveResult: "former leader",
  LeaseGrant: "#leases.grant ttl_ms lease=\"0000000000000000\"",
  LeaseGrantResult: "lease ttl_ms",
  LeaseInfo: "lease ttl_ms=0 remaining_ms=-1 keys=[]",
  LeaseKeepAlive: "#leases.keepalive leases",
  LeaseKeepAliveResult: "ttls_ms",
  LeaseList: "#leases.list",
  LeaseListResult: "leases:LeaseInfo",
  LeaseRevoke: "#leases.revoke lease",
  LeaseRevokeResult: "revision deleted=0",
  LeaseTimeToLive: "#leases.ttl lease keys=false",
  LockAcquire: "#locks.acquire namespace name session owner ticket=\"\" timeout_ms=null reason=\"\" follow=false",
  LockCancel: "#locks.cancel namespace name ticket",
  LockForceRelease: "#locks.force_release namespace name reason token=0",
  LockGet: "#locks.get namespace name revision=0",
  LockHolder: "token session owner ticket since_ms reason=\"\" application=\"\" host=\"\" pid=0",
  LockInfo: "namespace name holder:LockHolder=null queue:LockWaiter=[] waiting=0",
  LockList: "#locks.list namespace prefix=\"\" revision=0",
  LockListResult: "locks:LockInfo",
  LockRelease: "#locks.release namespace name session owner token",
  LockReleaseResult: "revision released=true",
  LockTicket: "#locks.ticket namespace name ticket follow=false",
  LockWaiter: "ticket session owner since_ms timeout_ms=null reason=\"\" application=\"\" host=\"\" pid=0",
  Login: "#auth.login user password cookie=false",
  LoginResult: "token user expires_ms=0 auth_revision=0 clock_ms=0",
  MemberAdd: "#members.add peer_urls name=\"\" is_learner=true promote_when_ready=false member=\"0000000000000000\"",
  MemberChangeResult: "member:MemberInfo members:MemberInfo",
  MemberInfo: "member name=\"\" peer_urls=[] client_urls=[] is_learner=false is_started=true promote_when_ready=false",
  MemberPromote: "#members.promote member",
  MemberRemove: "#members.remove member",
  MemberStanding: "member:MemberInfo heard_ms=-1 round_trip_us=0 status:ClusterStatusResult=null",
  MemberUpdate: "#members.update member peer_urls",
  Ping: "#ping",
  Progress: "#watch.progress stream",
  Put: "#kv.put key value=\"\" lease=\"0000000000000000\" prev_kv=false ignore_value=false ignore_lease=false guard:Guard=null",
  PutResult: "#put revision prev_kv:KeyValue=null",
  Range: "#kv.range key range_end=\"\" limit=0 revision=0 sort_order=0 sort_target=0 keys_only=false count_only=false min_mod_revision=0 max_mod_revision=0 min_create_revision=0 max_create_revision=0 serializable=false max_staleness_ms=0 min_revision=0 space=0",
  RangeResult: "#range revision kvs:KeyValue=[] more=false count=0",
  Reauthenticate: "#auth.reauthenticate token",
  Retention: "max_age_ms=86400000 max_messages=100000 max_bytes=268435456",
  RevisionAt: "#cluster.revision_at clock_ms=0",
  RevisionAtResult: "revision clock_ms now_ms",
  RoleAdd: "#roles.add role",
  RoleDelete: "#roles.delete role",
  RoleGet: "#roles.get role",
  RoleGrant: "#roles.grant role key:KeyPermission=null domain:DomainPermission=null",
  RoleInfo: "role keys:KeyPermission=[] domains:DomainPermission=[]",
  RoleList: "#roles.list",
  RoleListResult: "roles",
  RoleRevoke: "#roles.revoke role key:KeyPermission=null domain:DomainPermission=null",
  ServiceChange: "#change revision changed:Instance=[] removed:Instance=[]",
  ServiceDeregister: "#services.deregister namespace service instance",
  ServiceDiscover: "#services.discover namespace service tags=[] metadata={} zone=\"\" version=\"\" statuses=[] revision=0 serializable=false",
  ServiceDiscoverResult: "revision instances:Instance",
  ServiceList: "#services.list namespace prefix=\"\" revision=0",
  ServiceListResult: "services:ServiceSummary",
  ServiceRegister: "#services.register namespace service session instance=\"\" address=\"\" port=0 tags=[] metadata={} zone=\"\" version=\"\" weight=1 status=\"passing\"",
  ServiceRegisterResult: "revision instance created=true",
  ServiceResult: "revision changed=true",
  ServiceSetStatus: "#services.set_status namespace service instance status reason=\"\"",
  ServiceSnapshot: "#snapshot revision instances:Instance",
  ServiceSummary: "namespace service instances statuses={}",
  ServiceWatch: "#services.watch namespace service=\"\" start_revision=0 credit=0",
  SessionClose: "#sessions.close session",
  SessionGet: "#sessions.get session",
  SessionInfo: "session ttl_ms remaining_ms=-1 application=\"\" host=\"\" pid=0 actor=\"\" opened_ms=0 metadata={} holds=[]",
  SessionList: "#sessions.list",
  SessionListResult: "sessions:SessionInfo",
  SessionOpen: "#sessions.open ttl_ms session=\"0000000000000000\" application=\"\" host=\"\" pid=0 metadata={}",
  SessionOpenResult: "session ttl_ms",
  StreamInfo: "peer user client operation space=0 key=\"\" range_end=\"\" namespace=\"\" name=\"\" state=\"synced\" lag=0",
  StreamList: "#cluster.streams limit=1000",
  StreamListResult: "streams:StreamInfo total=0 others=0",
  SubscriptionInfo: "namespace pattern name session peer positions lag",
  TicketState: "ticket state token=0 position=0 reason=\"\"",
  TopicCreate: "#topics.create namespace topic retention:Retention=null",
  TopicDelete: "#topics.delete namespace topic",
  TopicGap: "#truncated topic first_sequence after_sequence",
  TopicGet: "#topics.get namespace topic revision=0",
  TopicInfo: "namespace topic retention:Retention first_sequence=1 last_sequence=0 messages=0 bytes=0 created_ms=0",
  TopicList: "#topics.list namespace pattern=\">\" revision=0",
  TopicListResult: "topics:TopicInfo",
  TopicMessage: "topic sequence revision timestamp_ms payload headers={}",
  TopicMessages: "#messages messages:TopicMessage revision=0",
  TopicPublish: "#topics.publish namespace topic payload headers={} guard:Guard=null",
  TopicPublishResult: "revision sequence",
  TopicRead: "#topics.read namespace topic first=0 limit=100",
  TopicReadResult: "first_sequence last_sequence messages:TopicMessage",
  TopicReady: "#ready revision",
  TopicResult: "revision changed=true",
  TopicSubscribe: "#topics.subscribe namespace pattern start=\"latest\" position=0 after={} credit=0 session=\"0000000000000000\" name=\"\"",
  TopicSubscribers: "#topics.subscribers namespace topic=\"\"",
  TopicSubscribersResult: "subscriptions:SubscriptionInfo",
  Txn: "#kv.txn compare:Compare=[] success:Put|Range|Delete|Txn=[] failure:Put|Range|Delete|Txn=[] guard:Guard=null",
  TxnResult: "#txn revision succeeded=false responses:PutResult|RangeResult|DeleteResult|TxnResult=[]",
  UserAdd: "#users.add user password=\"\" no_password=false certificate_names=[] password_hash=\"\"",
  UserChangePassword: "#users.change_password user password=\"\" password_hash=\"\"",
  UserDelete: "#users.delete user",
  UserGet: "#users.get user",
  UserGrantRole: "#users.grant_role user role",
  UserInfo: "user roles=[] no_password=false certificate_names=[]",
  UserList: "#users.list",
  UserListResult: "users",
  UserRevokeRole: "#users.revoke_role user role",
  UserSetCertificates: "#users.set_certificates user certificate_names",
  Watch: "#watch.create key range_end=\"\" start_revision=0 prev_kv=false no_put=false no_delete=false progress=false credit=0 space=0",
  WatchCancelled: "#cancelled code message compact_revision=0",
  WatchEvents: "#events revision events:Event",
  WatchProgress: "#progress revision",
  WhoAmI: "#auth.whoami",
};
