"""Is a history linearizable? The search of Wing and Gong with Lowe's memory, register by register.

A history is a list of operations on registers, each with the moment it was called and the moment
it returned. It is linearizable if every operation can be given one instant in between, at which it
happened at once, such that all of them in that order are what one register would have answered.

Operations whose outcome nobody knows may have happened at any moment after the call, or never.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

PUT, GET, DELETE, SWAP = "put", "get", "delete", "swap"
FOREVER = float("inf")

Value = bytes | None
"""What a register holds; None if it holds nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client did.

    Attributes:
        kind: `PUT`, `GET`, `DELETE` or `SWAP` (write ``value`` if ``expected`` is there).
        key: The register.
        called: When, on one clock for all clients.
        returned: When; `FOREVER` if the outcome is not known.
        value: What was written, or read.
        expected: What a swap wants to find.
        succeeded: Whether a swap has written.
        client: Who, for people.
    """

    kind: str
    key: str
    called: float
    returned: float
    value: Value = None
    expected: Value = None
    succeeded: bool = True
    client: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the outcome is known."""
        return self.returned != FOREVER

    def __str__(self) -> str:
        what = {
            PUT: f"put {self.value!r}",
            GET: f"get -> {self.value!r}",
            DELETE: "delete",
            SWAP: f"swap {self.expected!r} for {self.value!r} -> {self.succeeded}",
        }[self.kind]
        if not self.is_known:
            what += " -> ?"
        return f"[{self.called:.6f} {self.returned:.6f}] client {self.client}: {what}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A register whose history is not linearizable.

    Attributes:
        key: The register.
        operations: Operations at the place beyond which no order exists, by the call.
    """

    key: str
    operations: list[Operation] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.key} is not linearizable around", *map(str, self.operations)])


SHOWN_MAX = 12


def violations(history: Iterable[Operation]) -> list[Violation]:
    """Check every register by itself, which is enough: linearizability is local."""
    registers: dict[str, list[Operation]] = {}
    for operation in history:
        registers.setdefault(operation.key, []).append(operation)
    found = []
    for key, operations in registers.items():
        stuck = check_register(operations)
        if stuck is not None:
            found.append(Violation(key, stuck))
    return found


def check_register(operations: list[Operation]) -> list[Operation] | None:
    """Look for an order; gives None if there is one, else the operations where it gets stuck."""
    search = _Search(simplified(operations))
    return None if search.succeeds() else search.stuck


def simplified(operations: list[Operation]) -> list[Operation]:
    """Leave out what shows nothing, and bound what is unknown, without changing the verdict.

    Where all values are distinct and only puts and reads occur, a put that nobody knows about and
    nobody has read might as well not have happened, and one that has been read happened before
    the first such read returned. Without this every unknown put would double the search.
    """
    kept = [one for one in operations if one.is_known or one.kind != GET]
    written = [one.value for one in kept if one.kind == PUT]
    if len(written) != len(set(written)) or any(one.kind not in (PUT, GET) for one in kept):
        return kept
    read: dict[Value, float] = {}
    for one in kept:
        if one.kind == GET:
            read[one.value] = min(one.returned, read.get(one.value, FOREVER))
    bounded = []
    for one in kept:
        if one.is_known:
            bounded.append(one)
        elif one.value in read:
            bounded.append(replace(one, returned=max(one.called, read[one.value])))
    return bounded


def step(state: Value, operation: Operation) -> tuple[bool, Value]:
    """Let an operation happen; tells whether it could answer so, and what is there after it."""
    if operation.kind == PUT:
        return True, operation.value
    if operation.kind == GET:
        return state == operation.value, state
    if operation.kind == DELETE:
        return True, None
    does_swap = state == operation.expected
    after = operation.value if does_swap else state
    return not operation.is_known or does_swap == operation.succeeded, after


class _Entry:
    """A call or a return, in a list from which both can be taken and put back."""

    __slots__ = ("after", "before", "id", "returning")

    def __init__(self, id: int, returning: _Entry | None) -> None:
        self.id = id
        self.returning = returning
        """The return that belongs to this call; None for a return."""
        self.before: _Entry | None = None
        self.after: _Entry | None = None


class _Search:
    """Depth first: let one of the pending operations happen, and take it back if that fails.

    Attributes:
        stuck: The operations that were pending where the search got furthest.
    """

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = sorted(operations, key=lambda one: (one.called, one.returned))
        self._head = _Entry(-1, None)
        self.stuck: list[Operation] = []
        self._link()

    def _link(self) -> None:
        events: list[tuple[float, int, int, _Entry]] = []
        for id, operation in enumerate(self._operations):
            returning = _Entry(id, None)
            # At one and the same moment calls come first: then the two are concurrent.
            events.append((operation.called, 0, id, _Entry(id, returning)))
            events.append((operation.returned, 1, id, returning))
        last = self._head
        for *_, entry in sorted(events, key=lambda event: event[:3]):
            entry.before, last.after = last, entry
            last = entry

    def succeeds(self) -> bool:
        """Tell whether there is an order."""
        state: Value = None
        happened = 0
        seen: set[tuple[int, Value]] = set()
        taken: list[tuple[_Entry, Value]] = []
        furthest = -1
        entry = self._head.after
        while entry is not None:
            if entry.returning is not None:
                fits, after = step(state, self._operations[entry.id])
                known = (happened | 1 << entry.id, after)
                if fits and known not in seen:
                    seen.add(known)
                    taken.append((entry, state))
                    happened, state = known
                    _lift(entry)
                    entry = self._head.after
                    continue
                entry = entry.after
                continue
            # This operation has returned, and did not happen yet: something before was wrong.
            if len(taken) > furthest:
                furthest = len(taken)
                self.stuck = self._around(entry.id, taken)
            if not taken:
                return False
            entry, state = taken.pop()
            happened &= ~(1 << entry.id)
            _unlift(entry)
            entry = entry.after
        return True

    def _around(self, id: int, taken: list[tuple[_Entry, Value]]) -> list[Operation]:
        late = self._operations[id]
        recent = {entry.id for entry, _ in taken[-SHOWN_MAX // 2 :]}
        pending = {
            number
            for number, one in enumerate(self._operations)
            if one.called <= late.returned and one.returned >= late.called
        }
        shown = sorted(recent | set(sorted(pending)[:SHOWN_MAX]) | {id})
        return [self._operations[number] for number in shown]


def _lift(entry: _Entry) -> None:
    returning = entry.returning
    assert returning is not None
    for one in (entry, returning):
        assert one.before is not None
        one.before.after = one.after
        if one.after is not None:
            one.after.before = one.before


def _unlift(entry: _Entry) -> None:
    returning = entry.returning
    assert returning is not None
    for one in (returning, entry):
        assert one.before is not None
        one.before.after = one
        if one.after is not None:
            one.after.before = one
