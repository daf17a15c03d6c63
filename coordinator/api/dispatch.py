"""One table: the type of a request, and what serves it.

Built once from the operations of the keyspace, the sessions, the cluster and the domains.
Serving a change costs a few function calls: no task, no future, no logging.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from coordinator.api.checks import Check, check_struct
from coordinator.api.connection import Connection, OneCall
from coordinator.api.limits import Limits
from coordinator.api.permits import authorize, show
from coordinator.api.reading import NowView, filled, fresh, past_view
from coordinator.api.registry import Caller, Change, Live, Operation, Query
from coordinator_sdk.errors import (
    Compacted,
    CoordinatorError,
    Internal,
    InvalidRequest,
    RequestTooLarge,
    Unauthenticated,
    UnknownOperation,
    error_from_wire,
)
from coordinator_sdk.protocol.auth import USER_EMPTY

if TYPE_CHECKING:
    from coordinator.node.node import Node
    from coordinator.replica.requests import Outcome

logger = logging.getLogger("coordinator.api")

Serve = Callable[[Any, int, Any], None]
"""Serves a request: connection, id, body."""
HAND_CHECKED = ("kv.put", "kv.range", "kv.delete", "kv.txn", "auth.reauthenticate")
"""Operations whose own check covers everything: too frequent for the general one, or with words of
their own, because what is too long to be a token proves nothing like any other wrong one."""

_encode = msgspec.msgpack.Encoder().encode


class Dispatcher:
    """The table, and the two ways to use it.

    Attributes:
        table: What serves each type of request; raises for what is wrong with it.
        served: How many requests of each type were served, by tag.
    """

    def __init__(
        self, node: Node, operations: Iterable[Mapping[type[Any], Operation]], limits: Limits
    ) -> None:
        self.node = node
        self.limits = limits
        self.operations: dict[type[Any], Operation] = {}
        for group in operations:
            for kind, operation in group.items():
                assert kind not in self.operations, f"{kind.__name__} is served twice"
                self.operations[kind] = operation
        self._counts: dict[str, list[int]] = {}
        self.table: dict[type[Any], Serve] = {
            kind: self._compile(kind, operation) for kind, operation in self.operations.items()
        }

    @property
    def served(self) -> dict[str, int]:
        """How many requests of each type were served, by tag."""
        return {tag: count[0] for tag, count in self._counts.items()}

    async def call(self, body: Struct, caller: Caller) -> tuple[int, Any]:
        """Perform an operation and wait for its answer.

        Returns:
            The revision that the answer carries, and the result.

        Raises:
            CoordinatorError: What it was refused with.
        """
        serve = self.table.get(type(body))
        if serve is None:
            raise UnknownOperation(f"unknown operation {type(body).__name__!r}")
        _check_size(body, self.limits.request_bytes)
        one = OneCall(self.node, caller, self.limits)
        try:
            serve(one, 0, body)
            return await one.done
        finally:
            one.end()

    def check_sizes(
        self, frame_bytes: int, requests: list[Any], failures: list[tuple[int, CoordinatorError]]
    ) -> None:
        """Move requests that are too large to the failures; only a large frame can hold one."""
        if frame_bytes <= self.limits.request_bytes:
            return
        for request in list(requests):
            try:
                _check_size(request.body, self.limits.request_bytes)
            except RequestTooLarge as error:
                requests.remove(request)
                failures.append((request.id, error))

    # ------------------------------------------------------------- making the table

    def _compile(self, kind: type[Any], operation: Operation) -> Serve:
        tag = str(kind.__struct_config__.tag)
        count = self._counts.setdefault(tag, [0])
        check = _checks(kind, tag, operation.check)
        if isinstance(operation, Change):
            return self._change(operation, check, count)
        if isinstance(operation, Query):
            return _query(kind, operation, check, count)
        return _live(kind, operation, check, count)

    def _change(self, operation: Change, check: Check | None, count: list[int]) -> Serve:
        node = self.node
        propose, prepare, after = node.propose, operation.prepare, operation.after
        instead, before = operation.instead, operation.before

        def serve(connection: Connection, id: int, body: Any) -> None:
            count[0] += 1
            if not connection.caller.actor and node.machine.auth.enabled:
                raise Unauthenticated(USER_EMPTY)
            if check is not None:
                check(body)
            if instead is not None and instead(connection, id, body):
                return
            if before is not None:
                connection.spawn(guarded(connection, id, prepared(connection, id, body)))
                return
            go_on(connection, id, body, None)

        async def prepared(connection: Connection, id: int, body: Any) -> None:
            assert before is not None
            await _let_pass(connection, body)
            go_on(connection, id, body, await before(connection, id, body))

        def go_on(
            connection: Connection, id: int, body: Any, told: Callable[[Any], Any] | None
        ) -> None:
            caller = connection.caller
            client = caller.client
            if client and id <= 0:
                raise InvalidRequest("id: the ids of changes are positive", field="id")
            if prepare is not None:
                prepare(body, caller, id)
            if told is not None:
                done = partial(_applied_told, connection, id, told)
            elif after is None:
                done = partial(_applied, connection, id)
            else:
                done = partial(_applied_then, connection, id, body, after)
            propose(
                body,
                done=done,
                actor=caller.actor,
                origin=caller.origin,
                client=client,
                sequence=id if client else 0,
                floor=connection.floor,
                auth_revision=caller.auth_revision,
                scope=caller.scope,
            )

        return serve


def _checks(kind: type[Any], tag: str, own: Check | None) -> Check | None:
    if tag in HAND_CHECKED:
        return own
    general = check_struct(kind)
    if own is None:
        return general
    first, second = general, own

    def both(body: Any) -> None:
        first(body)
        second(body)

    return both


def _check_size(body: Struct, most: int) -> None:
    if len(_encode(body)) > most:
        raise RequestTooLarge("etcdserver: request is too large", field="request", limit=most)


# The callbacks below run inside the node's turn: whatever happens, they must not raise.


def _applied(connection: Connection, id: int, outcome: Outcome) -> None:
    try:
        error = outcome.error
        if outcome.pending is not None and not connection.is_closed:
            connection.spawn(guarded(connection, id, _answer_filled(connection, id, outcome)))
        elif error is None:
            connection.answer(id, outcome.revision, outcome.result)
        else:
            connection.fail(id, refusal(error))
    except Exception as failure:
        broken(connection, id, failure)


def _applied_told(
    connection: Connection, id: int, told: Callable[[Any], Any], outcome: Outcome
) -> None:
    """Answer with more than is kept: what is kept must not change."""
    try:
        if outcome.error is None:
            connection.answer(id, outcome.revision, told(outcome.result))
        else:
            connection.fail(id, refusal(outcome.error))
    except Exception as failure:
        broken(connection, id, failure)


async def _let_pass(connection: Connection, body: Any) -> None:
    """Refuse what its caller may not ask for, before anything is done for it.

    Raises:
        Unauthenticated: It has to prove who it is.
        PermissionDenied: It may not.
    """
    if not may_ask(connection, body):
        # This member may not have heard yet what the caller may by now.
        await fresh(connection.node)
        authorize(connection.node, connection.caller, body)


async def _answer_filled(connection: Connection, id: int, outcome: Outcome) -> None:
    """Answer a change that also read the past, once the values that lay on disk are there."""
    try:
        for part in outcome.pending or ():
            await filled(connection.node, part)
    except Compacted:
        raise Internal(
            f"applied at revision {outcome.revision}; what it read of the past is gone by now",
            revision=outcome.revision,
        ) from None
    connection.answer(id, outcome.revision, outcome.result)


def _applied_then(
    connection: Connection,
    id: int,
    body: Any,
    after: Callable[[Connection, int, Any, Any], None],
    outcome: Outcome,
) -> None:
    if outcome.error is None and not connection.is_closed:
        try:
            after(connection, id, body, outcome.result)
        except CoordinatorError as error:
            connection.fail(id, error)
            return
        except Exception as error:
            broken(connection, id, error)
            return
    _applied(connection, id, outcome)


def refusal(error: tuple[str, str, dict[str, Any]]) -> CoordinatorError:
    """Make the exception of what the state machine refused."""
    made = error_from_wire(*error)
    assert isinstance(made, CoordinatorError)
    return made


def broken(connection: Connection, id: int, error: Exception) -> None:
    """Answer a request that failed for a reason that should not exist."""
    logger.error("a request broke: %r", error, exc_info=error)
    connection.fail(id, Internal("the member failed to serve the request; its log says more"))


def _live(kind: type[Any], operation: Live, check: Check | None, count: list[int]) -> Serve:
    inner, judges_itself, at_once = operation.serve, operation.judges_itself, operation.at_once
    waits = operation.fresh

    def serve(connection: Connection, id: int, body: Any) -> None:
        count[0] += 1
        if check is not None:
            check(body)
        is_free = judges_itself or not connection.node.machine.auth.enabled
        if waits or not (is_free or (at_once and may_ask(connection, body))):
            # This member may not have heard yet what is asked for, or what the caller may by now.
            connection.node.read(partial(_judged, connection, id, body, inner))
        else:
            inner(connection, id, body)

    return serve


def may_ask(connection: Connection, body: Any) -> bool:
    """Tell whether a caller may ask for something, as far as this member knows."""
    try:
        authorize(connection.node, connection.caller, body)
    except CoordinatorError:
        return False
    return True


def _judged(
    connection: Connection,
    id: int,
    body: Any,
    inner: Callable[[Connection, int, Any], None],
    error: CoordinatorError | None,
) -> None:
    """Serve what the caller may ask for, by a state that is new enough."""
    if error is not None:
        connection.fail(id, error)
        return
    if connection.is_closed:
        return
    try:
        authorize(connection.node, connection.caller, body)
        inner(connection, id, body)
    except CoordinatorError as refused:
        connection.fail(id, refused)
    except Exception as failure:
        broken(connection, id, failure)


def _query(kind: type[Any], operation: Query, check: Check | None, count: list[int]) -> Serve:
    fields = kind.__struct_fields__
    has_revision = "revision" in fields and operation.ranges is not None
    may_be_stale = "serializable" in fields

    def serve(connection: Connection, id: int, body: Any) -> None:
        count[0] += 1
        if check is not None:
            check(body)
        past = body.revision if has_revision else 0
        answer = partial(_read_past if past else _read_now, connection, id, body, operation)
        connection.node.read(answer, serializable=may_be_stale and body.serializable)

    return serve


def _read_now(
    connection: Connection, id: int, body: Any, query: Query, error: CoordinatorError | None
) -> None:
    if error is not None:
        connection.fail(id, error)
        return
    if connection.is_closed or connection.defer(
        partial(_read_now, connection, id, body, query, None)
    ):
        return
    try:
        node = connection.node
        view = NowView(node.keyspace)
        asker = authorize(node, connection.caller, body)
        result = query.answer(view, body)
        if asker is not None:
            show(node, asker, body, result)
        connection.answer(id, view.revision, result)
    except CoordinatorError as refused:
        connection.fail(id, refused)
    except Exception as failure:
        broken(connection, id, failure)


def timed_first(
    connection: Connection,
    id: int,
    find: Callable[[], list[Any]],
    lease_of: Callable[[Any], int],
    answer: Callable[[list[Any]], Any],
    error: CoordinatorError | None,
) -> None:
    """Answer with things that live on leases, once the leader has said how long each has left.

    Args:
        connection: Whose request it is.
        id: The request.
        find: Reads them, with 0 as their ``remaining_ms``, once the state may be read.
        lease_of: Gives the lease of one.
        answer: Makes the answer of them.
        error: What prevents the read, or None.
    """
    if error is not None:
        connection.fail(id, error)
        return
    try:
        infos = find()
    except CoordinatorError as refused:
        connection.fail(id, refused)
        return
    except Exception as failure:
        broken(connection, id, failure)
        return

    def told(left: list[int] | CoordinatorError) -> None:
        if isinstance(left, CoordinatorError):
            connection.fail(id, left)
            return
        for info, remaining_ms in zip(infos, left, strict=True):
            info.remaining_ms = remaining_ms
        try:
            result = answer(infos)
        except CoordinatorError as refused:
            connection.fail(id, refused)
            return
        connection.answer(id, connection.node.revision, result)

    if infos:
        connection.node.look([lease_of(info) for info in infos], told)
    else:
        told([])


def _read_past(
    connection: Connection, id: int, body: Any, query: Query, error: CoordinatorError | None
) -> None:
    if error is not None:
        connection.fail(id, error)
    elif not connection.is_closed:
        connection.spawn(guarded(connection, id, _past(connection, id, body, query)))


async def _past(connection: Connection, id: int, body: Any, query: Query) -> None:
    assert query.ranges is not None
    node = connection.node
    authorize(node, connection.caller, body)
    view = await past_view(node, query.ranges(body), body.revision)
    asker = authorize(node, connection.caller, body)
    result = query.answer(view, body)
    if asker is not None:
        show(node, asker, body, result)
    connection.answer(id, node.keyspace.revision, result)


async def guarded(connection: Connection, id: int, work: Any) -> None:
    """Await ``work``; its failure becomes the answer to request ``id``."""
    try:
        await work
    except CoordinatorError as error:
        connection.fail(id, error)
    except Exception as error:
        broken(connection, id, error)


def new_id() -> int:
    """Choose an id: a positive int63."""
    return secrets.randbelow((1 << 63) - 1) + 1
