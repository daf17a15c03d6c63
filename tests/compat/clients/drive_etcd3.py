"""Drives every call of etcd3 (python-etcd3) against a member: drive_etcd3.py PORT."""

import sys
import tempfile
import threading

import etcd3
from driving import Recorder, equal, refused

client = Recorder(etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=20))
equal(client.get("none"), (None, None))
client.put("k/a", "1")
equal(client.put("k/a", "2", prev_kv=True).prev_kv.value, b"1")
value, facts = client.get("k/a")
equal((value, facts.key, facts.version), (b"2", b"k/a", 2))
equal(client.get("k/a", serializable=True)[0], b"2")
equal(client.get_response("k/a").count, 1)
equal(client.put_if_not_exists("k/a", "3"), False)
equal(client.put_if_not_exists("k/b", "3"), True)
equal([v for v, _ in client.get_prefix("k/", sort_order="descend")], [b"3", b"2"])
equal(client.get_prefix_response("k/", keys_only=True).count, 2)
equal([v for v, _ in client.get_range("k/a", "k/b")], [b"2"])
equal(client.get_range_response("k/a", "k/b").count, 1)
equal(len(list(client.get_all())), 2)
equal(client.get_all_response().count, 2)
equal(client.replace("k/a", "2", "4"), True)
equal(client.replace("k/a", "2", "5"), False)
ok, answers = client.transaction(
    compare=[client.transactions.value("k/a") == "4", client.transactions.version("k/b") > 0],
    success=[client.transactions.put("k/c", "5"), client.transactions.get("k/a")],
    failure=[client.transactions.delete("k/a")],
)
equal((ok, len(answers)), (True, 2))
equal(client.delete("k/c"), True)
equal(client.delete_prefix("k/").deleted, 2)

events, cancel = client.watch("w/a")
client.put("w/a", "1")
equal(next(events).value, b"1")
cancel()
events, cancel = client.watch_prefix("w/")
client.delete("w/a")
equal(isinstance(next(events), etcd3.events.DeleteEvent), True)
cancel()
for call in ("watch_response", "watch_prefix_response"):
    answers, cancel = getattr(client, call)("w/")
    client.put("w/", call)
    equal(next(answers).events[0].value, call.encode())
    cancel()
for call in ("add_watch_callback", "add_watch_prefix_callback"):
    seen, told = [], threading.Event()

    def note(answer, seen=seen, told=told):
        seen.extend(answer.events)
        told.set()

    number = getattr(client, call)("w/", note)
    client.put("w/", call)
    equal(told.wait(20), True)
    equal(seen[0].value, call.encode())
    client.cancel_watch(number)
for call in (
    "watch_once",
    "watch_prefix_once",
    "watch_once_response",
    "watch_prefix_once_response",
):
    writing = threading.Timer(0.3, client.put, ("w/", call))
    writing.start()
    found = getattr(client, call)("w/", timeout=20)
    found = found.events[0] if call.endswith("response") else found
    equal(found.value, call.encode())
    writing.join()
revision = client.put("w/b", "2").header.revision
client.compact(revision, physical=True)
events, cancel = client.watch("w/b", start_revision=1)
equal(refused(etcd3.exceptions.RevisionCompactedError, next, events).compacted_revision, revision)

lease = client.lease(60)
client.put("l/a", "1", lease=lease)
info = client.get_lease_info(lease.id)
equal((info.grantedTTL, list(info.keys)), (60, [b"l/a"]))
equal([one.TTL for one in client.refresh_lease(lease.id)], [60])
lease.refresh()
equal((lease.granted_ttl, 0 < lease.remaining_ttl <= 60, lease.keys), (60, True, [b"l/a"]))
client.revoke_lease(lease.id)
equal(client.get("l/a")[0], None)
with client.lock("mine", ttl=10) as lock:
    equal(lock.is_acquired(), True)
    equal(client.lock("mine", ttl=10).acquire(timeout=0.2), False)
equal(lock.is_acquired(), False)

members = list(client.members)
equal(len(members), 3)
added = client.add_member(["http://127.0.0.1:1"])
client.update_member(added.id, ["http://127.0.0.1:2"])
client.remove_member(added.id)
equal(client.status().leader.id in {one.id for one in members}, True)
client.create_alarm()
equal(len(list(client.list_alarms())), 1)
client.disarm_alarm()
equal(list(client.list_alarms()), [])
equal(isinstance(client.hash(), int), True)
client.defragment()
with tempfile.TemporaryFile() as file:
    client.snapshot(file)
    equal(file.tell() > 1000, True)
client.close()
client.tell()
