"""Drives every call of etcd3-py, by the JSON gateway: drive_etcd3_py.py PORT."""

import sys

from driving import Recorder, equal
from etcd3 import Client


def connected():
    """Make a client. It gives a member 300 ms to tell its version, on a busy machine too few."""
    for _ in range(20):
        try:
            return Client("127.0.0.1", int(sys.argv[1]), timeout=20)
        except AttributeError:
            continue
    raise AssertionError("no version is told")


client = Recorder(
    connected(),
    watch_cancel="cancels on a stream of its own, where there is nothing to cancel",
)

equal(client.version().etcdserver, "3.4.23")
client.health()
client.metrics_raw()
list(client.metrics())
client.put("k/a", "1")
equal(client.put("k/a", "2", prev_kv=True).prev_kv.value, b"1")
client.put("k/b", "3")
found = client.range("k/", prefix=True, sort_order="DESCEND", sort_target="KEY")
equal([(one.key, one.value) for one in found.kvs], [(b"k/b", b"3"), (b"k/a", b"2")])
equal(client.range(all=True, count_only=True).count, 2)
txn = client.Txn()
txn.compare(txn.key("k/a").value == "2")
txn.success(txn.put("k/c", "5"))
txn.failure(txn.delete("k/a"))
equal(txn.commit().succeeded, True)
client.txn([], [client.put("k/d", "1", txn_obj=True)], [])
equal(client.delete_range("k/", prefix=True).deleted, 4)
client.call_rpc("/kv/range", {"key": b"k/a"})

revision = client.put("w/a", "1").header.revision
for make in (
    lambda: client.watch_create("w/a", start_revision=revision),
    lambda: client.watch(create_request={"key": b"w/a", "start_revision": revision}),
):
    answers = iter(make())
    equal(next(answers).created, True)
    equal(next(answers).events[0].kv.value, b"1")
watcher = client.Watcher("w/", prefix=True, start_revision=revision, max_retries=0)
with watcher:
    for event in watcher:
        equal(event.value, b"1")
        break
    watcher.stop()
client.compact(revision, physical=True)

lease = client.lease_grant(60)
client.put("l/a", "1", lease=lease.ID)
told = client.lease_time_to_live(lease.ID, keys=True)
equal((told.grantedTTL, [bytes(one) for one in told.keys]), (60, [b"l/a"]))
equal(client.lease_keep_alive_once(lease.ID).TTL, 60)
next(iter(client.lease_keep_alive(b'{"ID": %d}' % lease.ID)))
client.lease_revoke(lease.ID)
equal("kvs" in client.range("l/a"), False)
with client.Lease(ttl=60) as held:
    equal(held.alive(), True)
    client.put("l/b", "1", lease=held.ID)
with client.Lock("mine", lock_ttl=10) as lock:
    client.put("locked", "1")
key = client.lock("raw").key
client.unlock(key)

member = client.member_list().members[0]
added = client.member_add(["http://127.0.0.1:1"]).member
client.member_update(added.ID, ["http://127.0.0.1:2"])
client.member_remove(added.ID)
equal(client.status().version, "3.4.23")
client.hash()
client.defragment()
next(iter(client.snapshot()))
client.alarm_activate(member.ID, "NOSPACE")
equal(len(client.alarm_get(member.ID, "NOSPACE").alarms), 1)
client.alarm(member.ID)
client.alarm_deactivate(member.ID, "NOSPACE")

client.user_add("root", "pw")
client.role_add("root")
client.user_grant_role("root", "root")
client.user_add("bob", "pw")
client.user_change_password("bob", "pw2")
client.role_add("reading")
client.role_grant_permission("reading", "k/", prefix=True)
client.user_grant_role("bob", "reading")
equal(client.user_get("bob").roles, ["reading"])
equal(client.user_list().users, ["bob", "root"])
equal(client.role_list().roles, ["reading", "root"])
equal(client.role_get("reading").perm[0].key, b"k/")
client.auth_enable()
client.auth("root", "pw")
equal(bool(client.authenticate("bob", "pw2").token), True)
client.put("k/a", "1")
client.auth_disable()
# It sends keys as they are given here, and in base64 elsewhere.
client.role_revoke_permission("reading", "ay8=", range_end="azA=")
client.user_revoke_role("bob", "reading")
client.role_delete("reading")
client.user_delete("bob")
client.close()
client.tell()
