"""A domain for tests: its commands do to the transaction whatever they are told."""

from __future__ import annotations

from msgspec import Struct

from coordinator.replica.domain import Domain, DomainTxn
from coordinator.wire import systemkey
from coordinator_sdk.errors import Conflict
from coordinator_sdk.protocol.kv import KeyValue

NAME = "probe"


def key(name: str, kind: str = "record") -> bytes:
    """Give a key of the domain."""
    return systemkey.pack("default", NAME, kind, name)


class Done(Struct, array_like=True):
    """Answer to `Do`."""

    revision: int


class Do(Struct, array_like=True, tag="probe.do"):
    """Write records, start and cancel timers, and then perhaps be refused."""

    puts: list[str] = []
    value: bytes = b""
    lease: int = 0
    deletes: list[str] = []
    timers: list[str] = []
    cancels: list[str] = []
    duration_ms: int = 1000
    fails: bool = False


def apply_do(txn: DomainTxn, command: Do) -> Done:
    """Do as told."""
    for name in command.puts:
        txn.put(key(name), command.value, command.lease)
    for name in command.deletes:
        txn.delete(key(name))
    for name in command.timers:
        txn.set_timer(key(name), command.duration_ms)
    for name in command.cancels:
        txn.cancel_timer(key(name))
    if command.fails:
        raise Conflict("as told")
    return Done(txn.revision)


def on_lease_end(txn: DomainTxn, record: KeyValue) -> None:
    """Leave a trace of each record that went with its lease, in the order of the calls."""
    name = str(systemkey.unpack(record.key)[3])
    txn.put(key(name, "gone"), b"")


def on_timer(txn: DomainTxn, timer: bytes) -> None:
    """Count how often each timer has run."""
    name = str(systemkey.unpack(timer)[3])
    if name == "refuse":
        raise Conflict("as told")
    fired = txn.get(key(name, "fired"))
    count = int(fired.value) if fired is not None else 0
    txn.put(key(name, "fired"), b"%d" % (count + 1))
    if name == "again":
        txn.set_timer(timer, 1000)


PROBE = Domain(NAME, commands={Do: apply_do}, on_lease_end=on_lease_end, on_timer=on_timer)
