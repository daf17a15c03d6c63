"""Drives every call of etcd3gw, by the JSON gateway: drive_etcd3gw.py PORT."""

import base64
import sys
import threading

import etcd3gw
from driving import Recorder, equal


def b64(text):
    return base64.b64encode(text.encode()).decode()


# Another one writes: a client waits for the answers to a watch on its only connection.
writer = etcd3gw.Etcd3Client(port=int(sys.argv[1]), timeout=20)
client = Recorder(
    etcd3gw.Etcd3Client(port=int(sys.argv[1]), timeout=20),
    watch_prefix_once="encodes the end of the range twice, and waits in vain for etcd as well",
)

equal(client.get("none"), [])
equal(client.put("k/a", "1"), True)
equal(client.create("k/a", "2"), False)
equal(client.create("k/b", "2"), True)
equal(client.get("k/a"), [b"1"])
((value, facts),) = client.get("k/a", metadata=True)
equal((value, facts["key"], facts["version"]), (b"1", b"k/a", "1"))
found = client.get_prefix("k/", sort_order="descend", sort_target="key")
equal([value for value, _ in found], [b"2", b"1"])
equal(len(client.get_all()), 2)
equal(client.replace("k/a", "1", "3"), True)
equal(client.replace("k/a", "1", "4"), False)
answer = client.transaction(
    {
        "compare": [{"key": b64("k/a"), "result": "EQUAL", "target": "VALUE", "value": b64("3")}],
        "success": [{"request_put": {"key": b64("k/c"), "value": b64("5")}}],
        "failure": [],
    }
)
equal(answer["succeeded"], True)
equal(client.delete("k/c"), True)
equal(client.delete("k/c"), False)
equal(client.delete_prefix("k/"), True)

events, cancel = client.watch("w/a")
client.put("w/a", "1")
equal(next(events)["kv"]["value"], b"1")
cancel()
events, cancel = client.watch_prefix("w/")
client.delete("w/a")
equal(next(events)["type"], "DELETE")
cancel()
writing = threading.Timer(0.5, writer.put, ("w/b", "2"))
writing.start()
equal(client.watch_once("w/b", 20)["kv"]["value"], b"2")
writing.join()

lease = client.lease(60)
client.put("l/a", "1", lease)
equal(lease.keys(), [b"l/a"])
equal(0 < lease.ttl() <= 60, True)
equal(lease.refresh(), 60)
equal(lease.revoke(), True)
equal(client.get("l/a"), [])

with client.lock("mine", ttl=10) as lock:
    equal(lock.is_acquired(), True)
    equal(client.lock("mine", ttl=10).acquire(), False)
    equal(lock.refresh(), 10)
equal(lock.is_acquired(), False)

equal(len(client.members()), 3)
equal(client.status()["version"], "3.4.23")
equal("kvs" in client.post(client.get_url("/kv/range"), json={"key": b64("w/b")}), True)
client.tell()
