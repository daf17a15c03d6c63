"""The Cluster service."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.etcd.messages import METHODS
from coordinator.etcd.permits import propose
from coordinator.etcd.status import BAD_URLS, told
from coordinator.node.initial_cluster import peer_url
from coordinator_sdk.errors import CoordinatorError, error_from_wire
from coordinator_sdk.protocol.cluster import (
    MemberAdd,
    MemberInfo,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Shared, Unary
    from coordinator.etcd.messages import Message
    from coordinator.replica.requests import Outcome

_SERVICE = "/etcdserverpb.Cluster/"
PEER_URLS_MAX = 16


def _urls(given: Any) -> list[str]:
    """Read peer URLs, in the one form in which they are compared.

    Raises:
        StatusError: One is none.
    """
    try:
        found = sorted({peer_url(url) for url in given})
    except ValueError:
        raise told(BAD_URLS) from None
    if not 1 <= len(found) <= PEER_URLS_MAX:
        raise told(BAD_URLS)
    return found


class Members:
    """The members. As with etcd, the headers of these answers carry no revision."""

    def __init__(self, shared: Shared) -> None:
        self._node = shared.node
        self._headers = shared.headers

    def calls(self) -> Mapping[str, Unary]:
        """Give the calls of the service by path."""
        return {
            f"{_SERVICE}MemberAdd": self._add,
            f"{_SERVICE}MemberRemove": self._remove,
            f"{_SERVICE}MemberUpdate": self._update,
            f"{_SERVICE}MemberList": self._list,
            f"{_SERVICE}MemberPromote": self._promote,
        }

    def _add(self, call: Call, m: Message) -> None:
        member = 1 << 61 | secrets.randbits(61)
        body = MemberAdd(_urls(m.peerURLs), is_learner=m.isLearner, member=member)
        self._change(call, body, "MemberAdd")

    def _remove(self, call: Call, m: Message) -> None:
        self._change(call, MemberRemove(m.ID), "MemberRemove")

    def _update(self, call: Call, m: Message) -> None:
        self._change(call, MemberUpdate(m.ID, _urls(m.peerURLs)), "MemberUpdate")

    def _promote(self, call: Call, m: Message) -> None:
        self._change(call, MemberPromote(m.ID), "MemberPromote")

    def _change(self, call: Call, body: Any, name: str) -> None:
        propose(self._node, call.caller, body, partial(self._changed, call, name))

    def _changed(self, call: Call, name: str, outcome: Outcome) -> None:
        if outcome.error is not None:
            call.fail(error_from_wire(*outcome.error))
            return
        answer = METHODS[_SERVICE + name].response()
        if name == "MemberAdd":
            _fill(answer.member, outcome.result.member)
        self._reply(call, answer, outcome.result.members)

    def _list(self, call: Call, m: Message) -> None:
        def ready(error: CoordinatorError | None) -> None:
            if error is not None:
                call.fail(error)
            else:
                answer = METHODS[f"{_SERVICE}MemberList"].response()
                self._reply(call, answer, self._node.members())

        # etcd 3.4 lists what the member knows; later clients may ask for more.
        self._node.read(ready, serializable=not m.linearizable)

    def _reply(self, call: Call, answer: Message, members: list[MemberInfo]) -> None:
        for member in members:
            _fill(answer.members.add(), member)
        call.reply(self._headers.at(0) + answer.SerializeToString())


def _fill(message: Message, member: MemberInfo) -> None:
    message.ID = member.member
    message.name = member.name if member.is_started else ""
    message.peerURLs.extend(member.peer_urls)
    message.clientURLs.extend(member.client_urls)
    message.isLearner = member.is_learner
