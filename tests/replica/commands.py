"""Strategies: commands whose values meet each other, and commands that nobody sends."""

from __future__ import annotations

import types
import typing
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import NODEFAULT, Struct, structs

from coordinator_sdk.protocol.kv import (
    Compact,
    Compare,
    Delete,
    Guard,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Range,
    Txn,
)
from coordinator_sdk.protocol.locks import (
    LockAcquire,
    LockCancel,
    LockForceRelease,
    LockRelease,
)
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen
from coordinator_sdk.protocol.topics import Retention, TopicCreate, TopicDelete, TopicPublish

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
LEASES = st.sampled_from([0, 0, 0, 1, 2])
SESSIONS = st.sampled_from([11, 12, 13])
NAMES = st.sampled_from(["x", "y"])
TOKENS = st.integers(1, 60)
TTLS = st.sampled_from([500, 2000, 60_000])
REVISIONS = st.integers(0, 40)

_puts = st.builds(Put, KEYS, st.binary(max_size=3), LEASES, st.booleans())
_deletes = st.builds(Delete, KEYS, st.sampled_from([b"", b"", b"c", b"\0"]), st.booleans())
_ranges = st.builds(Range, KEYS, st.sampled_from([b"", b"d", b"\0"]))
_compares = st.builds(
    Compare, st.integers(0, 4), st.integers(0, 3), KEYS, st.integers(0, 20), st.binary(max_size=3)
)
_owners = st.sampled_from(["p", "q"])
_tickets = st.sampled_from(["t1", "t2", "t3", "t4"])
_guards = st.builds(Guard, st.just("locks"), st.just("default"), NAMES, TOKENS, SESSIONS, _owners)


@st.composite
def _txns(draw: Any) -> Txn:
    """Transactions whose operations touch different keys, as the check before the log demands."""
    branches = []
    for _ in range(2):
        keys = draw(st.lists(KEYS, max_size=3, unique=True))
        branches.append(
            [draw(st.one_of(st.just(Put(key, b"t")), st.just(Delete(key)))) for key in keys]
            + draw(st.lists(_ranges, max_size=1))
        )
    return Txn(draw(st.lists(_compares, max_size=2)), *branches)


MEETING = st.one_of(
    _puts,
    _puts,
    _deletes,
    _txns(),
    st.builds(Put, KEYS, st.binary(max_size=3), guard=_guards),
    st.builds(LeaseGrant, TTLS, st.integers(1, 2)),
    st.builds(LeaseRevoke, st.integers(1, 2)),
    st.builds(SessionOpen, TTLS, SESSIONS, st.just("app")),
    st.builds(SessionClose, SESSIONS),
    st.builds(
        LockAcquire,
        st.just("default"),
        NAMES,
        SESSIONS,
        _owners,
        _tickets,
        st.sampled_from([None, 0, 300, 5000]),
    ),
    st.builds(LockRelease, st.just("default"), NAMES, SESSIONS, _owners, TOKENS),
    st.builds(LockCancel, st.just("default"), NAMES, _tickets),
    st.builds(LockForceRelease, st.just("default"), NAMES, st.just("why")),
    st.builds(TopicPublish, st.just("default"), NAMES, st.binary(max_size=3)),
    st.builds(
        TopicCreate,
        st.just("default"),
        NAMES,
        st.builds(Retention, st.sampled_from([0, 8000]), st.integers(0, 3), st.integers(0, 60)),
    ),
    st.builds(TopicDelete, st.just("default"), NAMES),
    st.builds(Compact, REVISIONS),
)
"""Commands whose names, leases, sessions and tokens are few: they get in each other's way."""

_NUMBERS = st.sampled_from([0, 1, 2, -1, 1000, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63)])
_TEXTS = st.sampled_from(["", "a", "\0", "a\0b", "\ufffd\U0010ffff", "é" * 300, "a.>", "*"])
_BYTES = st.sampled_from([b"", b"\0", b"a", b"\xff", b"\xff" * 40, b"a" * 3000])


def anything(kind: Any, depth: int = 2) -> st.SearchStrategy[Any]:
    """Give values of a type as far as decoding checks it, sensible or not."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return anything(args[0], depth)
    if origin in (Union, types.UnionType):
        kinds = [arg for arg in args if depth or not _is_struct(arg)] or [type(None)]
        return st.one_of([anything(arg, depth) for arg in kinds])
    if origin is list:
        if not depth:
            return st.just([])
        return st.lists(anything(args[0], depth - 1), max_size=2)
    if origin is dict:
        return st.dictionaries(anything(args[0]), anything(args[1]), max_size=1)
    if kind is type(None):
        return st.none()
    if _is_struct(kind):
        return struct_of(kind, depth - 1) if depth else st.nothing()
    return {
        int: _NUMBERS,
        str: _TEXTS,
        bytes: _BYTES,
        bool: st.booleans(),
        typing.Any: st.none(),
    }[kind]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def struct_of(kind: type[Struct], depth: int = 2) -> st.SearchStrategy[Any]:
    """Give structs of a type with any values in them."""
    hints = get_type_hints(kind, include_extras=True)
    given = {}
    for field in structs.fields(kind):
        values = anything(hints[field.name], max(depth, 0))
        if field.default is not NODEFAULT:
            values = st.one_of(st.just(field.default), values)
        given[field.name] = values
    return st.builds(kind, **given)
