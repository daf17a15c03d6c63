"""Messages, entries and bundles of work as the transcripts write them."""

from collections.abc import Iterable

from coordinator.raft.messages import LOCAL_APPEND, LOCAL_APPLY
from coordinator.raft.ready import Ready, SoftState
from coordinator.wire.raft import (
    AnyConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    decode_conf_change,
)

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
_CHANGE_LETTERS = {
    "v": ConfChangeType.ADD_NODE,
    "l": ConfChangeType.ADD_LEARNER_NODE,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}


def camel(name: str) -> str:
    """Return the name of an enum's member in camel case: MSG_APP_RESP becomes MsgAppResp."""
    return "".join(part.title() for part in name.split("_"))


MESSAGE_NAMES = {camel(kind.name): kind for kind in MessageType}


def quote(data: bytes) -> str:
    """Return bytes as a double-quoted string with escapes."""
    parts: list[str] = []
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if char in _ESCAPES:
            parts.append(_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            parts.append(char)
        elif code < 0x80:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'


def describe_changes(changes: Iterable[ConfChangeSingle]) -> str:
    """Return changes in the notation of the transcripts: v1 l2 r3 u4."""
    letters = {kind: letter for letter, kind in _CHANGE_LETTERS.items()}
    return " ".join(f"{letters[change.type]}{change.node_id}" for change in changes)


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    """Return the changes that a text in the notation of the transcripts means.

    Raises:
        ValueError: It means nothing.
    """
    changes = []
    for token in text.split():
        if len(token) < 2:
            raise ValueError(f"unknown token {token}")
        if token[0] not in _CHANGE_LETTERS:
            raise ValueError(f"unknown input: {token}")
        changes.append(ConfChangeSingle(_CHANGE_LETTERS[token[0]], int(token[1:])))
    return tuple(changes)


def describe_entry(entry: Entry) -> str:
    """Return one entry."""
    if entry.type == EntryType.NORMAL:
        name, payload = "EntryNormal", quote(entry.data)
    else:
        change: AnyConfChange = decode_conf_change(entry) or ConfChangeV2()
        payload = describe_changes(change.as_v2().changes)
        name = "EntryConfChange" + ("V2" if entry.type == EntryType.CONF_CHANGE_V2 else "")
    return f"{entry.term}/{entry.index} {name}" + (f" {payload}" if payload else "")


def describe_entries(entries: Iterable[Entry]) -> str:
    """Return entries, one a line."""
    return "".join(describe_entry(entry) + "\n" for entry in entries)


def _numbers(ids: Iterable[int]) -> str:
    return "[" + " ".join(str(member) for member in ids) + "]"


def describe_conf_state(state: ConfState) -> str:
    """Return a configuration."""
    return (
        f"Voters:{_numbers(state.voters)} VotersOutgoing:{_numbers(state.voters_outgoing)} "
        f"Learners:{_numbers(state.learners)} LearnersNext:{_numbers(state.learners_next)} "
        f"AutoLeave:{str(state.auto_leave).lower()}"
    )


def describe_snapshot(snapshot: Snapshot) -> str:
    """Return where a snapshot stands."""
    metadata = snapshot.metadata
    return (
        f"Index:{metadata.index} Term:{metadata.term} "
        f"ConfState:{describe_conf_state(metadata.conf_state)}"
    )


def describe_target(member: int) -> str:
    """Return the name of a sender or receiver."""
    names = {0: "None", LOCAL_APPEND: "AppendThread", LOCAL_APPLY: "ApplyThread"}
    return names.get(member, f"{member:x}")


def describe_message(message: Message, indent: str = "") -> str:
    """Return one message, on several lines if it carries several things."""
    text = (
        f"{indent}{describe_target(message.from_)}->{describe_target(message.to)} "
        f"{camel(message.type.name)} Term:{message.term} Log:{message.log_term}/{message.index}"
    )
    if message.reject:
        text += f" Rejected (Hint: {message.reject_hint})"
    if message.commit:
        text += f" Commit:{message.commit}"
    if message.vote:
        text += f" Vote:{message.vote}"
    if len(message.entries) == 1:
        text += f" Entries:[{describe_entry(message.entries[0])}]"
    elif message.entries:
        text += " Entries:["
        text += "".join(f"\n{indent}  {describe_entry(entry)}" for entry in message.entries)
        text += f"\n{indent}]"
    if message.snapshot is not None and message.snapshot.metadata.index:
        text += f"\n{indent}  Snapshot: {describe_snapshot(message.snapshot)}"
    if message.responses:
        text += " Responses:["
        text += "".join(f"\n{describe_message(one, indent + '  ')}" for one in message.responses)
        text += f"\n{indent}]"
    return text


def describe_hard_state(state: HardState) -> str:
    """Return a hard state."""
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def describe_soft_state(state: SoftState) -> str:
    """Return role and leader."""
    return f"Lead:{state.lead} State:State{camel(state.state.name)}"


def describe_ready(rd: Ready) -> str:
    """Return a bundle of work."""
    text = ""
    if rd.soft_state is not None:
        text += describe_soft_state(rd.soft_state) + "\n"
    if rd.hard_state is not None:
        text += f"HardState {describe_hard_state(rd.hard_state)}\n"
    if rd.read_states:
        states = " ".join(f"{{{one.index} {_numbers(one.context)}}}" for one in rd.read_states)
        text += f"ReadStates [{states}]\n"
    if rd.entries:
        text += "Entries:\n" + describe_entries(rd.entries)
    if rd.snapshot is not None:
        text += f"Snapshot {describe_snapshot(rd.snapshot)}\n"
    if rd.committed_entries:
        text += "CommittedEntries:\n" + describe_entries(rd.committed_entries)
    if rd.messages:
        text += "Messages:\n"
        text += "".join(describe_message(message) + "\n" for message in rd.messages)
    if not text:
        return "<empty Ready>"
    return f"Ready MustSync={str(rd.must_sync).lower()}:\n{text}"
