"""Locks as the API shows them."""

from coordinator.domains.locks import model
from coordinator.domains.locks.commands import DOMAIN
from coordinator_sdk.protocol.locks import LockAcquire
from tests.domains.fake_txn import FakeMachine

NS = "default"


def test_a_lock_shows_holder_and_queue_in_order() -> None:
    """A lock is shown with who holds it, since when and why, and who waits, first to last."""
    machine = FakeMachine(DOMAIN)
    for session, name in ((1, "billing"), (2, "search"), (3, "mail")):
        machine.open_session(session, name)
        machine.apply(LockAcquire(NS, "backup", session, "o", f"t{session}", reason="nightly"))
    shown = model.lock_view(machine, NS, "backup")
    assert shown.holder is not None
    assert (shown.holder.session, shown.holder.application, shown.holder.reason) == (
        1,
        "billing",
        "nightly",
    )
    assert (shown.holder.host, shown.holder.pid, shown.holder.since_ms) == ("host", 7, 1_000_000)
    assert [waiter.application for waiter in shown.queue] == ["search", "mail"]
    assert shown.waiting == 2


def test_a_name_that_nobody_asked_for_is_a_free_lock() -> None:
    """An unknown lock is shown as free."""
    shown = model.lock_view(FakeMachine(DOMAIN), NS, "backup")
    assert (shown.holder, shown.queue, shown.waiting) == (None, [], 0)


def test_the_list_has_the_held_locks_of_a_prefix() -> None:
    """The list gives the held locks of one namespace by name, with the length of the queues."""
    machine = FakeMachine(DOMAIN)
    machine.open_session(1)
    for namespace, name in ((NS, "db/b"), (NS, "db/a"), (NS, "web"), ("other", "db/c")):
        machine.apply(LockAcquire(namespace, name, 1, "o", name))
    machine.apply(LockAcquire(NS, "db/a", 1, "p", "t"))
    shown = model.locks_view(machine, NS, "db/")
    assert [(lock.name, lock.waiting, lock.queue) for lock in shown] == [
        ("db/a", 1, []),
        ("db/b", 0, []),
    ]
    assert [lock.name for lock in model.locks_view(machine, NS, "")] == ["db/a", "db/b", "web"]


def test_keys_tell_names_apart() -> None:
    """No name's range holds another name's records."""
    names = ["a", "a\x00", "a\x00b", "ab", "b"]
    for name in names:
        start, end = model.waiters(NS, name)
        inside = [n for n in names if start <= model.waiters(NS, n)[0] < end]
        assert inside == [name]
