"""etcd's public field numbers: every message, enumeration and call of its v3 API.

One definition a line; a line that begins with blanks goes on. A field is ``name:type=number``,
with ``*`` for a repeated one and ``<name>`` for a member of a oneof. These are facts of a public
interface, where later releases only add; unknown fields are skipped by whoever reads them.
"""

TABLE = """
package mvccpb
message KeyValue key:bytes=1 create_revision:int64=2 mod_revision:int64=3 version:int64=4
  value:bytes=5 lease:int64=6
message Event type:mvccpb.Event.EventType=1 kv:mvccpb.KeyValue=2 prev_kv:mvccpb.KeyValue=3
enum Event.EventType PUT=0 DELETE=1
package authpb
message UserAddOptions no_password:bool=1
message User name:bytes=1 password:bytes=2 roles:string*=3 options:authpb.UserAddOptions=4
message Permission permType:authpb.Permission.Type=1 key:bytes=2 range_end:bytes=3
enum Permission.Type READ=0 WRITE=1 READWRITE=2
message Role name:bytes=1 keyPermission:authpb.Permission*=2
package etcdserverpb
enum AlarmType NONE=0 NOSPACE=1 CORRUPT=2
message ResponseHeader cluster_id:uint64=1 member_id:uint64=2 revision:int64=3
  raft_term:uint64=4
message RangeRequest key:bytes=1 range_end:bytes=2 limit:int64=3 revision:int64=4
  sort_order:etcdserverpb.RangeRequest.SortOrder=5
  sort_target:etcdserverpb.RangeRequest.SortTarget=6 serializable:bool=7 keys_only:bool=8
  count_only:bool=9 min_mod_revision:int64=10 max_mod_revision:int64=11
  min_create_revision:int64=12 max_create_revision:int64=13
enum RangeRequest.SortOrder NONE=0 ASCEND=1 DESCEND=2
enum RangeRequest.SortTarget KEY=0 VERSION=1 CREATE=2 MOD=3 VALUE=4
message RangeResponse header:etcdserverpb.ResponseHeader=1 kvs:mvccpb.KeyValue*=2 more:bool=3
  count:int64=4
message PutRequest key:bytes=1 value:bytes=2 lease:int64=3 prev_kv:bool=4 ignore_value:bool=5
  ignore_lease:bool=6
message PutResponse header:etcdserverpb.ResponseHeader=1 prev_kv:mvccpb.KeyValue=2
message DeleteRangeRequest key:bytes=1 range_end:bytes=2 prev_kv:bool=3
message DeleteRangeResponse header:etcdserverpb.ResponseHeader=1 deleted:int64=2
  prev_kvs:mvccpb.KeyValue*=3
message RequestOp request_range:etcdserverpb.RangeRequest=1<request>
  request_put:etcdserverpb.PutRequest=2<request>
  request_delete_range:etcdserverpb.DeleteRangeRequest=3<request>
  request_txn:etcdserverpb.TxnRequest=4<request>
message ResponseOp response_range:etcdserverpb.RangeResponse=1<response>
  response_put:etcdserverpb.PutResponse=2<response>
  response_delete_range:etcdserverpb.DeleteRangeResponse=3<response>
  response_txn:etcdserverpb.TxnResponse=4<response>
message Compare result:etcdserverpb.Compare.CompareResult=1
  target:etcdserverpb.Compare.CompareTarget=2 key:bytes=3 version:int64=4<target_union>
  create_revision:int64=5<target_union> mod_revision:int64=6<target_union>
  value:bytes=7<target_union> lease:int64=8<target_union> range_end:bytes=64
enum Compare.CompareResult EQUAL=0 GREATER=1 LESS=2 NOT_EQUAL=3
enum Compare.CompareTarget VERSION=0 CREATE=1 MOD=2 VALUE=3 LEASE=4
message TxnRequest compare:etcdserverpb.Compare*=1 success:etcdserverpb.RequestOp*=2
  failure:etcdserverpb.RequestOp*=3
message TxnResponse header:etcdserverpb.ResponseHeader=1 succeeded:bool=2
  responses:etcdserverpb.ResponseOp*=3
message CompactionRequest revision:int64=1 physical:bool=2
message CompactionResponse header:etcdserverpb.ResponseHeader=1
message HashRequest
message HashKVRequest revision:int64=1
message HashKVResponse header:etcdserverpb.ResponseHeader=1 hash:uint32=2
  compact_revision:int64=3
message HashResponse header:etcdserverpb.ResponseHeader=1 hash:uint32=2
message SnapshotRequest
message SnapshotResponse header:etcdserverpb.ResponseHeader=1 remaining_bytes:uint64=2
  blob:bytes=3
message WatchRequest create_request:etcdserverpb.WatchCreateRequest=1<request_union>
  cancel_request:etcdserverpb.WatchCancelRequest=2<request_union>
  progress_request:etcdserverpb.WatchProgressRequest=3<request_union>
message WatchCreateRequest key:bytes=1 range_end:bytes=2 start_revision:int64=3
  progress_notify:bool=4 filters:etcdserverpb.WatchCreateRequest.FilterType*=5 prev_kv:bool=6
  watch_id:int64=7 fragment:bool=8
enum WatchCreateRequest.FilterType NOPUT=0 NODELETE=1
message WatchCancelRequest watch_id:int64=1
message WatchProgressRequest
message WatchResponse header:etcdserverpb.ResponseHeader=1 watch_id:int64=2 created:bool=3
  canceled:bool=4 compact_revision:int64=5 cancel_reason:string=6 fragment:bool=7
  events:mvccpb.Event*=11
message LeaseGrantRequest TTL:int64=1 ID:int64=2
message LeaseGrantResponse header:etcdserverpb.ResponseHeader=1 ID:int64=2 TTL:int64=3
  error:string=4
message LeaseRevokeRequest ID:int64=1
message LeaseRevokeResponse header:etcdserverpb.ResponseHeader=1
message LeaseCheckpoint ID:int64=1 remaining_TTL:int64=2
message LeaseCheckpointRequest checkpoints:etcdserverpb.LeaseCheckpoint*=1
message LeaseCheckpointResponse header:etcdserverpb.ResponseHeader=1
message LeaseKeepAliveRequest ID:int64=1
message LeaseKeepAliveResponse header:etcdserverpb.ResponseHeader=1 ID:int64=2 TTL:int64=3
message LeaseTimeToLiveRequest ID:int64=1 keys:bool=2
message LeaseTimeToLiveResponse header:etcdserverpb.ResponseHeader=1 ID:int64=2 TTL:int64=3
  grantedTTL:int64=4 keys:bytes*=5
message LeaseLeasesRequest
message LeaseStatus ID:int64=1
message LeaseLeasesResponse header:etcdserverpb.ResponseHeader=1
  leases:etcdserverpb.LeaseStatus*=2
message Member ID:uint64=1 name:string=2 peerURLs:string*=3 clientURLs:string*=4
  isLearner:bool=5
message MemberAddRequest peerURLs:string*=1 isLearner:bool=2
message MemberAddResponse header:etcdserverpb.ResponseHeader=1 member:etcdserverpb.Member=2
  members:etcdserverpb.Member*=3
message MemberRemoveRequest ID:uint64=1
message MemberRemoveResponse header:etcdserverpb.ResponseHeader=1 members:etcdserverpb.Member*=2
message MemberUpdateRequest ID:uint64=1 peerURLs:string*=2
message MemberUpdateResponse header:etcdserverpb.ResponseHeader=1 members:etcdserverpb.Member*=2
message MemberListRequest linearizable:bool=1
message MemberListResponse header:etcdserverpb.ResponseHeader=1 members:etcdserverpb.Member*=2
message MemberPromoteRequest ID:uint64=1
message MemberPromoteResponse header:etcdserverpb.ResponseHeader=1
  members:etcdserverpb.Member*=2
message DefragmentRequest
message DefragmentResponse header:etcdserverpb.ResponseHeader=1
message MoveLeaderRequest targetID:uint64=1
message MoveLeaderResponse header:etcdserverpb.ResponseHeader=1
message AlarmRequest action:etcdserverpb.AlarmRequest.AlarmAction=1 memberID:uint64=2
  alarm:etcdserverpb.AlarmType=3
enum AlarmRequest.AlarmAction GET=0 ACTIVATE=1 DEACTIVATE=2
message AlarmMember memberID:uint64=1 alarm:etcdserverpb.AlarmType=2
message AlarmResponse header:etcdserverpb.ResponseHeader=1 alarms:etcdserverpb.AlarmMember*=2
message StatusRequest
message StatusResponse header:etcdserverpb.ResponseHeader=1 version:string=2 dbSize:int64=3
  leader:uint64=4 raftIndex:uint64=5 raftTerm:uint64=6 raftAppliedIndex:uint64=7
  errors:string*=8 dbSizeInUse:int64=9 isLearner:bool=10
message AuthEnableRequest
message AuthDisableRequest
message AuthStatusRequest
message AuthenticateRequest name:string=1 password:string=2
message AuthUserAddRequest name:string=1 password:string=2 options:authpb.UserAddOptions=3
  hashedPassword:string=4
message AuthUserGetRequest name:string=1
message AuthUserDeleteRequest name:string=1
message AuthUserChangePasswordRequest name:string=1 password:string=2 hashedPassword:string=3
message AuthUserGrantRoleRequest user:string=1 role:string=2
message AuthUserRevokeRoleRequest name:string=1 role:string=2
message AuthRoleAddRequest name:string=1
message AuthRoleGetRequest role:string=1
message AuthUserListRequest
message AuthRoleListRequest
message AuthRoleDeleteRequest role:string=1
message AuthRoleGrantPermissionRequest name:string=1 perm:authpb.Permission=2
message AuthRoleRevokePermissionRequest role:string=1 key:bytes=2 range_end:bytes=3
message AuthEnableResponse header:etcdserverpb.ResponseHeader=1
message AuthDisableResponse header:etcdserverpb.ResponseHeader=1
message AuthStatusResponse header:etcdserverpb.ResponseHeader=1 enabled:bool=2
  authRevision:uint64=3
message AuthenticateResponse header:etcdserverpb.ResponseHeader=1 token:string=2
message AuthUserAddResponse header:etcdserverpb.ResponseHeader=1
message AuthUserGetResponse header:etcdserverpb.ResponseHeader=1 roles:string*=2
message AuthUserDeleteResponse header:etcdserverpb.ResponseHeader=1
message AuthUserChangePasswordResponse header:etcdserverpb.ResponseHeader=1
message AuthUserGrantRoleResponse header:etcdserverpb.ResponseHeader=1
message AuthUserRevokeRoleResponse header:etcdserverpb.ResponseHeader=1
message AuthRoleAddResponse header:etcdserverpb.ResponseHeader=1
message AuthRoleGetResponse header:etcdserverpb.ResponseHeader=1 perm:authpb.Permission*=2
message AuthRoleListResponse header:etcdserverpb.ResponseHeader=1 roles:string*=2
message AuthUserListResponse header:etcdserverpb.ResponseHeader=1 users:string*=2
message AuthRoleDeleteResponse header:etcdserverpb.ResponseHeader=1
message AuthRoleGrantPermissionResponse header:etcdserverpb.ResponseHeader=1
message AuthRoleRevokePermissionResponse header:etcdserverpb.ResponseHeader=1
rpc KV.Range RangeRequest -> RangeResponse
rpc KV.Put PutRequest -> PutResponse
rpc KV.DeleteRange DeleteRangeRequest -> DeleteRangeResponse
rpc KV.Txn TxnRequest -> TxnResponse
rpc KV.Compact CompactionRequest -> CompactionResponse
rpc Watch.Watch stream WatchRequest -> stream WatchResponse
rpc Lease.LeaseGrant LeaseGrantRequest -> LeaseGrantResponse
rpc Lease.LeaseRevoke LeaseRevokeRequest -> LeaseRevokeResponse
rpc Lease.LeaseKeepAlive stream LeaseKeepAliveRequest -> stream LeaseKeepAliveResponse
rpc Lease.LeaseTimeToLive LeaseTimeToLiveRequest -> LeaseTimeToLiveResponse
rpc Lease.LeaseLeases LeaseLeasesRequest -> LeaseLeasesResponse
rpc Cluster.MemberAdd MemberAddRequest -> MemberAddResponse
rpc Cluster.MemberRemove MemberRemoveRequest -> MemberRemoveResponse
rpc Cluster.MemberUpdate MemberUpdateRequest -> MemberUpdateResponse
rpc Cluster.MemberList MemberListRequest -> MemberListResponse
rpc Cluster.MemberPromote MemberPromoteRequest -> MemberPromoteResponse
rpc Maintenance.Alarm AlarmRequest -> AlarmResponse
rpc Maintenance.Status StatusRequest -> StatusResponse
rpc Maintenance.Defragment DefragmentRequest -> DefragmentResponse
rpc Maintenance.Hash HashRequest -> HashResponse
rpc Maintenance.HashKV HashKVRequest -> HashKVResponse
rpc Maintenance.Snapshot SnapshotRequest -> stream SnapshotResponse
rpc Maintenance.MoveLeader MoveLeaderRequest -> MoveLeaderResponse
rpc Auth.AuthEnable AuthEnableRequest -> AuthEnableResponse
rpc Auth.AuthDisable AuthDisableRequest -> AuthDisableResponse
rpc Auth.AuthStatus AuthStatusRequest -> AuthStatusResponse
rpc Auth.Authenticate AuthenticateRequest -> AuthenticateResponse
rpc Auth.UserAdd AuthUserAddRequest -> AuthUserAddResponse
rpc Auth.UserGet AuthUserGetRequest -> AuthUserGetResponse
rpc Auth.UserList AuthUserListRequest -> AuthUserListResponse
rpc Auth.UserDelete AuthUserDeleteRequest -> AuthUserDeleteResponse
rpc Auth.UserChangePassword AuthUserChangePasswordRequest -> AuthUserChangePasswordResponse
rpc Auth.UserGrantRole AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse
rpc Auth.UserRevokeRole AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse
rpc Auth.RoleAdd AuthRoleAddRequest -> AuthRoleAddResponse
rpc Auth.RoleGet AuthRoleGetRequest -> AuthRoleGetResponse
rpc Auth.RoleList AuthRoleListRequest -> AuthRoleListResponse
rpc Auth.RoleDelete AuthRoleDeleteRequest -> AuthRoleDeleteResponse
rpc Auth.RoleGrantPermission AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse
rpc Auth.RoleRevokePermission AuthRoleRevokePermissionRequest ->
  AuthRoleRevokePermissionResponse
package v3lockpb
message LockRequest name:bytes=1 lease:int64=2
message LockResponse header:etcdserverpb.ResponseHeader=1 key:bytes=2
message UnlockRequest key:bytes=1
message UnlockResponse header:etcdserverpb.ResponseHeader=1
rpc Lock.Lock LockRequest -> LockResponse
rpc Lock.Unlock UnlockRequest -> UnlockResponse
package v3electionpb
message LeaderKey name:bytes=1 key:bytes=2 rev:int64=3 lease:int64=4
message CampaignRequest name:bytes=1 lease:int64=2 value:bytes=3
message CampaignResponse header:etcdserverpb.ResponseHeader=1 leader:v3electionpb.LeaderKey=2
message LeaderRequest name:bytes=1
message LeaderResponse header:etcdserverpb.ResponseHeader=1 kv:mvccpb.KeyValue=2
message ResignRequest leader:v3electionpb.LeaderKey=1
message ResignResponse header:etcdserverpb.ResponseHeader=1
message ProclaimRequest leader:v3electionpb.LeaderKey=1 value:bytes=2
message ProclaimResponse header:etcdserverpb.ResponseHeader=1
rpc Election.Campaign CampaignRequest -> CampaignResponse
rpc Election.Proclaim ProclaimRequest -> ProclaimResponse
rpc Election.Leader LeaderRequest -> LeaderResponse
rpc Election.Observe LeaderRequest -> stream LeaderResponse
rpc Election.Resign ResignRequest -> ResignResponse
"""
