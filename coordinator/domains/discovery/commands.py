"""What changes discovery tokens, as the state machine applies it. Pure."""

from __future__ import annotations

from typing import Any

from coordinator.domains.discovery import model
from coordinator.domains.discovery.model import MemberRecord, TokenRecord
from coordinator.replica.domain import Domain, DomainTxn
from coordinator.replica.permission import Place, Rule, allowed
from coordinator.wire import systemkey
from coordinator_sdk.errors import AlreadyExists, Conflict, Exhausted
from coordinator_sdk.protocol.discovery import (
    DiscoveryGet,
    DiscoveryInfo,
    DiscoveryMember,
    DiscoveryNew,
    DiscoveryNewResult,
    DiscoveryRegister,
)

TOKENS_MAX = 1000
"""Tokens in a namespace, those that are only remembered included."""


def apply_new(txn: DomainTxn, command: DiscoveryNew) -> DiscoveryNewResult:
    """Make a token.

    Raises:
        AlreadyExists: There is one of that name already.
        Exhausted: There are too many.
    """
    namespace, token = command.namespace, command.token
    key = model.token_key(namespace, token)
    if txn.get(key) is not None:
        raise AlreadyExists(f"token: {token} exists already", field="token")
    if txn.count(*model.tokens(namespace), limit=TOKENS_MAX) >= TOKENS_MAX:
        raise Exhausted(
            f"at most {TOKENS_MAX} discovery tokens; each is forgotten two days after it was made",
            limit="discovery_tokens",
        )
    txn.put(key, model.encode(TokenRecord(command.size, txn.meta.clock_ms)))
    txn.set_timer(model.timer_key(namespace, token), model.LIFE_MS)
    return DiscoveryNewResult(txn.revision, token, command.size)


def apply_register(txn: DomainTxn, command: DiscoveryRegister) -> DiscoveryInfo:
    """Let a member come; one that has come keeps its place.

    Raises:
        NotFound: There is no such token.
        Gone: The token has ended.
        AlreadyExists: Another member has come with this name or peer URL.
        Conflict: The cluster is complete without it, or complete with other URLs.
    """
    namespace, token, member = command.namespace, command.token, command.member
    wanted = model.find(txn, namespace, token)
    present = model.come(txn, namespace, token)
    known = [one for one in present if one.member == member]
    stored = MemberRecord(command.name, command.peer_urls, txn.meta.clock_ms)
    if known:
        stored.registered_ms = known[0].registered_ms
        if (known[0].name, known[0].peer_urls) == (stored.name, stored.peer_urls):
            return model.token_view(txn, namespace, token)
    if len(present) >= wanted.size:
        raise _complete(token, present, known)
    _check_distinct(command, present)
    txn.put(model.member_key(namespace, token, member), model.encode(stored))
    return model.token_view(txn, namespace, token)


def _complete(token: str, present: list[DiscoveryMember], known: list[DiscoveryMember]) -> Conflict:
    names = ", ".join(f"{one.name} ({', '.join(one.peer_urls)})" for one in present)
    if known:
        text = f"{known[0].name} is one of them under these URLs and can no longer change"
    else:
        text = "a further member joins by `coordctl member add`"
    return Conflict(
        f"the cluster of this token is complete: {names}; {text}",
        token=token,
        size=len(present),
        members=[one.name for one in present],
    )


def _check_distinct(command: DiscoveryRegister, present: list[DiscoveryMember]) -> None:
    for one in present:
        if one.member == command.member:
            continue
        if one.name == command.name:
            raise AlreadyExists(
                f"name: {one.name!r} is taken by another member of this token, with "
                f"{', '.join(one.peer_urls)}; --name must differ",
                field="name",
            )
        for index, url in enumerate(command.peer_urls):
            if url in one.peer_urls:
                raise AlreadyExists(
                    f"peer_urls[{index}]: {url} is taken by {one.name!r} of this token",
                    field=f"peer_urls[{index}]",
                )


def on_timer(txn: DomainTxn, key: bytes) -> None:
    """End a token and remember that; the second time, forget it."""
    namespace, _, _, token = map(str, systemkey.unpack(key))
    record = txn.get(model.token_key(namespace, token))
    if record is None:
        return
    stored = model.decode_token(record.value)
    if stored.has_ended:
        txn.delete(record.key)
        return
    for member in txn.scan(*model.members(namespace, token), limit=model.SIZE_MAX):
        txn.delete(member.key)
    stored.has_ended = True
    txn.put(record.key, model.encode(stored))
    txn.set_timer(key, model.REMEMBERED_MS)


RULES: dict[type[Any], Rule] = {
    DiscoveryNew: allowed("discovery:create", at=Place("")),
    # Who has the token needs no name for it.
    DiscoveryRegister: allowed("discovery:join", at=Place("")),
    DiscoveryGet: allowed("discovery:join", at=Place("")),
}

DOMAIN = Domain(
    model.DOMAIN,
    commands={DiscoveryNew: apply_new, DiscoveryRegister: apply_register},
    on_timer=on_timer,
    consuming=(DiscoveryNew, DiscoveryRegister),
    rules=RULES,
)
