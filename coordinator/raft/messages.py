"""How messages and entries are sorted and measured.

The size of an entry counts its payload and a header of a few bytes (the variable-length form of its
fields in the protocol-buffer encoding). It does not depend on the codec in use, so limits cut a log
at the same places whatever travels on the wire.
"""

from collections.abc import Sequence
from typing import Final

from coordinator.wire.raft import Entry, MessageType

NO_LIMIT: Final = (1 << 64) - 1
"""A size limit that is never reached, in bytes."""

HEADER_SIZE_MAX: Final = 35
"""Bytes an entry can count for besides its payload: four fields with tags, the type in one byte."""

NO_ONE: Final = 0
"""The id of no member: nobody was voted for, no leader is known."""

LOCAL_APPEND: Final = -1
"""Target of MSG_STORAGE_APPEND: the local log writer. Members have positive ids."""
LOCAL_APPLY: Final = -2
"""Target of MSG_STORAGE_APPLY: the local state machine."""

TRANSFER_CONTEXT: Final = b"CampaignTransfer"
"""Context of a vote asked for on the leader's own request: voters do not protect that leader."""


def _flags(*kinds: MessageType) -> tuple[bool, ...]:
    return tuple(kind in kinds for kind in MessageType)


IS_LOCAL: Final = _flags(
    MessageType.MSG_HUP,
    MessageType.MSG_BEAT,
    MessageType.MSG_UNREACHABLE,
    MessageType.MSG_SNAP_STATUS,
    MessageType.MSG_CHECK_QUORUM,
    MessageType.MSG_STORAGE_APPEND,
    MessageType.MSG_STORAGE_APPEND_RESP,
    MessageType.MSG_STORAGE_APPLY,
    MessageType.MSG_STORAGE_APPLY_RESP,
)
"""By message type: never accepted from another member."""

IS_RESPONSE: Final = _flags(
    MessageType.MSG_APP_RESP,
    MessageType.MSG_VOTE_RESP,
    MessageType.MSG_HEARTBEAT_RESP,
    MessageType.MSG_UNREACHABLE,
    MessageType.MSG_READ_INDEX_RESP,
    MessageType.MSG_PRE_VOTE_RESP,
    MessageType.MSG_STORAGE_APPEND_RESP,
    MessageType.MSG_STORAGE_APPLY_RESP,
)
"""By message type: only accepted from members of the configuration."""

IS_VOTE: Final = _flags(
    MessageType.MSG_VOTE,
    MessageType.MSG_VOTE_RESP,
    MessageType.MSG_PRE_VOTE,
    MessageType.MSG_PRE_VOTE_RESP,
)
"""By message type: part of an election, and sent with a term of its own."""

IS_FROM_LEADER: Final = _flags(
    MessageType.MSG_APP,
    MessageType.MSG_HEARTBEAT,
    MessageType.MSG_SNAP,
)
"""By message type: only a leader sends it."""

IS_TERMLESS: Final = _flags(MessageType.MSG_PROP, MessageType.MSG_READ_INDEX)
"""By message type: forwarded to whoever leads, hence sent without a term."""

WAITS_FOR_APPEND: Final = _flags(
    MessageType.MSG_APP_RESP,
    MessageType.MSG_VOTE_RESP,
    MessageType.MSG_PRE_VOTE_RESP,
)
"""By message type: may leave only once everything it promises is durable (Raft thesis §3.8).

Rejections wait as well. They would probably be safe to send at once, but they are rare and may rest
on state that is not durable yet (a vote for someone else, a longer log).
"""


def vote_response(kind: MessageType) -> MessageType:
    """Return the type that answers a vote or pre-vote request."""
    if kind == MessageType.MSG_VOTE:
        return MessageType.MSG_VOTE_RESP
    return MessageType.MSG_PRE_VOTE_RESP


def _width(number: int) -> int:
    """Return how many bytes a variable-length integer takes, 7 bits to the byte."""
    return (number.bit_length() + 6) // 7 or 1


def entry_size(entry: Entry) -> int:
    """Return the size of one entry in bytes, header included."""
    payload = len(entry.data)
    # Written out, `_width` included: a lone entry is the most frequent batch there is.
    size = (
        2 + ((entry.term.bit_length() + 6) // 7 or 1) + ((entry.index.bit_length() + 6) // 7 or 1)
    )
    if payload:
        size += 1 + (payload.bit_length() + 6) // 7 + payload
    return size + 2 if entry.type else size


def entries_size(entries: Sequence[Entry]) -> int:
    """Return the size of consecutive entries in bytes, headers included."""
    if len(entries) < 2:
        return entry_size(entries[0]) if entries else 0
    first, last = entries[0], entries[-1]
    lengths = [len(entry.data) for entry in entries]
    shortest, longest = min(lengths), max(lengths)
    # Terms never fall and indexes always rise within a log, so equal widths at both ends mean
    # equal widths throughout, and the headers need not be looked at one by one.
    width = (longest.bit_length() + 6) // 7
    if (
        shortest > 0
        and (shortest.bit_length() + 6) // 7 == width
        and (first.term == last.term or _width(first.term) == _width(last.term))
        and (_width(first.index) == _width(last.index))
        and all_normal(entries)
    ):
        header = 3 + _width(last.term) + _width(last.index) + width
        return sum(lengths) + len(lengths) * header
    return sum([entry_size(entry) for entry in entries])


def all_normal(entries: Sequence[Entry]) -> bool:
    """Whether there is no configuration change among entries."""
    # Adding up a list is the quickest way through it, and this is on the way of every proposal.
    return not sum([entry.type for entry in entries])


def payloads_size(entries: Sequence[Entry]) -> int:
    """Return the size of the payloads alone in bytes; an entry without payload counts nothing."""
    if len(entries) == 1:
        return len(entries[0].data)
    return sum([len(entry.data) for entry in entries])


def limit_size(entries: list[Entry], size_max: int) -> list[Entry]:
    """Return the longest prefix of consecutive entries that fits into a number of bytes.

    Args:
        entries: Consecutive entries of a log.
        size_max: Limit in bytes, headers included; `NO_LIMIT` for none.

    Returns:
        The prefix, and at least one entry if there are any: progress counts for more than the
        limit.
    """
    count = len(entries)
    if size_max >= NO_LIMIT or count < 2:
        return entries
    # Most of the time everything fits even with the longest headers.
    if payloads_size(entries) + count * HEADER_SIZE_MAX <= size_max:
        return entries
    size = entry_size(entries[0])
    for position in range(1, count):
        size += entry_size(entries[position])
        if size > size_max:
            return entries[:position]
    return entries
