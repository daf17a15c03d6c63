"""What is refused before it is proposed, with the texts etcd's clients match."""

import pytest

from coordinator.keyspace import check
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.kv import Compare, Delete, Guard, Put, Range, Txn, Watch

EMPTY = "etcdserver: key is not provided"
MANY = "etcdserver: too many operations in txn request"
TWICE = "etcdserver: duplicate key given in txn request"
LONG = "x" * 257
TOO_LONG = "guard.%s: at most 256 characters"
SORT = "etcdserver: invalid sort option"


def txn(*success, failure=(), compare=()) -> Txn:
    return Txn(list(compare), list(success), list(failure))


REFUSED = [
    (Put(b""), EMPTY, "key"),
    (Range(b""), EMPTY, "key"),
    (Delete(b""), EMPTY, "key"),
    (Put(b"k", b"v", ignore_value=True), "etcdserver: value is provided", "value"),
    (Put(b"k", lease=1, ignore_lease=True), "etcdserver: lease is provided", "lease"),
    (txn(compare=[Compare(0, 0, b"")]), EMPTY, "compare[0].key"),
    (txn(Put(b"a"), Put(b"")), EMPTY, "success[1].key"),
    (txn(failure=[Delete(b"")]), EMPTY, "failure[0].key"),
    (txn(txn(Range(b""))), EMPTY, "success[0].success[0].key"),
    (txn(None), "etcdserver: key not found", "success[0]"),
    (txn(Range(b"k", sort_order=3)), SORT, "success[0].sort_order"),
    (Range(b"k", sort_target=5), SORT, "sort_target"),
    (Range(b"k", space=2), "space has no meaning for 2", "space"),
    (
        txn(compare=[Compare(5, 0, b"k")]),
        "compare[0].target has no meaning for 5",
        "compare[0].target",
    ),
    (
        txn(compare=[Compare(0, 4, b"k")]),
        "compare[0].result has no meaning for 4",
        "compare[0].result",
    ),
    (Put(b"k", lease=-1), "lease must not be negative", "lease"),
    (Range(b"k", limit=-1), "limit must not be negative", "limit"),
    # A refusal repeats what its guard says, and is kept.
    (Put(b"k", guard=Guard("locks", "n", LONG, 1, 1, "o")), TOO_LONG % "name", "guard.name"),
    (Delete(b"k", guard=Guard(LONG, "n", "l", 1, 1, "o")), TOO_LONG % "kind", "guard.kind"),
    (
        txn(Txn(guard=Guard("locks", LONG, "l", 1, 1, "o"))),
        "success[0]." + TOO_LONG % "namespace",
        "success[0].guard.namespace",
    ),
    (Txn(guard=Guard("locks", "n", "l", 1, 1, LONG)), TOO_LONG % "owner", "guard.owner"),
    (Range(b"k", revision=-1), "revision must not be negative", "revision"),
    (txn(Range(b"k", limit=-1)), "success[0].limit must not be negative", "success[0].limit"),
    # Two puts of a key, or a put and a delete that covers it, in one branch.
    (txn(Put(b"k"), Put(b"k")), TWICE, "success[1].key"),
    (txn(Put(b"k"), Delete(b"k")), TWICE, "success[0].key"),
    (txn(Delete(b"a", b"z"), Put(b"k")), TWICE, "success[1].key"),
    (txn(Put(b"k"), txn(Put(b"k"))), TWICE, "success[0].key"),
    (txn(Put(b"k"), txn(failure=[Delete(b"k")])), TWICE, "success[0].key"),
    (txn(Delete(b"k"), txn(Put(b"k"))), TWICE, "success[1]"),
    (txn(Delete(b"k"), txn(failure=[Put(b"k")])), TWICE, "success[1]"),
    (txn(txn(Put(b"k")), txn(Put(b"k"))), TWICE, "success[1]"),
    (txn(txn(Put(b"k")), txn(failure=[Put(b"k")])), TWICE, "success[1]"),
    (txn(txn(Delete(b"k")), txn(Put(b"k"))), TWICE, "success[1]"),
    (txn(failure=[Put(b"k"), Put(b"k")]), TWICE, "failure[1].key"),
]

ALLOWED = [
    Put(b"k"),
    Put(b"k", ignore_value=True),
    Range(b"k", b"a"),
    Delete(b"k", b"a"),
    txn(),
    # The two branches exclude each other, at every depth.
    txn(Put(b"k"), failure=[Put(b"k")]),
    txn(txn(Put(b"k"), failure=[Put(b"k")])),
    txn(txn(Put(b"k"), failure=[Delete(b"k")])),
    txn(Delete(b"a", b"k"), Put(b"k")),
    # etcd finds neither of these, so they are decided in the order of the operations.
    txn(txn(Put(b"k")), txn(Delete(b"k"))),
    txn(Delete(b"a", b"\0"), Put(b"k")),
    txn(Delete(b"k"), Delete(b"k")),
]


@pytest.mark.parametrize(("op", "text", "field"), REFUSED)
def test_what_can_never_succeed_is_refused(op, text, field) -> None:
    """An operation that is wrong in itself is refused with etcd's text and the field's name."""
    with pytest.raises(InvalidRequest) as caught:
        check.check(op)
    assert (str(caught.value), caught.value.details["field"]) == (text, field)


@pytest.mark.parametrize("op", ALLOWED)
def test_what_may_succeed_passes(op) -> None:
    """An operation whose fate depends on the state passes the check."""
    check.check(op)


def test_negative_numbers_pass_for_etcds_clients() -> None:
    """Without ``strict``, negative limits and revisions pass, as they do in etcd."""
    check.check(Range(b"k", limit=-1, revision=-1, min_mod_revision=-1), strict=False)
    check.check(txn(Put(b"k", lease=-1)), strict=False)


@pytest.mark.parametrize(
    ("op", "field"),
    [
        (txn(*[Put(b"%d" % n) for n in range(129)]), "success"),
        (txn(failure=[Range(b"k")] * 129), "failure"),
        (txn(compare=[Compare(0, 0, b"k")] * 129), "compare"),
        (txn(txn(*[Range(b"k")] * 100), *[Range(b"k")] * 40), "success[0].success"),
        (txn(txn(compare=[Compare(0, 0, b"k")] * 2), *[Range(b"k")] * 126), "success[0].compare"),
    ],
)
def test_a_transaction_has_a_limit_of_operations(op, field) -> None:
    """More than 128 compares or operations of a branch are too many; nested ones share the rest."""
    with pytest.raises(InvalidRequest, match=MANY) as caught:
        check.check(op)
    assert caught.value.details["field"] == field


def test_the_limit_of_operations_is_exact() -> None:
    """128 operations pass, and so does a nested one that uses exactly what is left."""
    check.check(txn(*[Put(b"%d" % n) for n in range(128)]))
    check.check(txn(txn(*[Range(b"k")] * 28), *[Range(b"k")] * 99))
    check.check(txn(*[Range(b"k")] * 200), ops_max=200)


def test_deep_nesting_is_refused_before_it_is_followed() -> None:
    """Nesting deeper than the limit is refused, however deep it goes."""
    op = txn()
    for _ in range(5000):
        op = txn(op)
    with pytest.raises(InvalidRequest, match=MANY):
        check.check(op)


def test_something_else_is_no_operation() -> None:
    """What is no operation is refused as etcd refuses an empty one."""
    with pytest.raises(InvalidRequest, match="etcdserver: key not found"):
        check.check(Compare(0, 0, b"k"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Watch(b"b", b"a"), "mvcc: watcher range is empty"),
        (Watch(b"b", b"b"), "mvcc: watcher range is empty"),
        (Watch(b"k", space=2), "space has no meaning for 2"),
        (Watch(b"k", credit=-1), "credit must not be negative"),
    ],
)
def test_a_watch_must_cover_something(op, text) -> None:
    """A watch of an empty range is refused."""
    with pytest.raises(InvalidRequest, match=text):
        check.check_watch(op)


@pytest.mark.parametrize("op", [Watch(b""), Watch(b"", b"\0"), Watch(b"k", b"\0"), Watch(b"k")])
def test_a_watch_may_cover_everything(op) -> None:
    """A watch may have no key, and no end."""
    check.check_watch(op)
