"""Service instances as they lie in the keyspace, and the filters of discovery. Pure.

One record per instance, ``(namespace, services, instance, service, instance)``, tied to its
session. The value is the `Instance` itself, with ``session`` and ``revision`` left 0: those
are the lease and the mod_revision of the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from coordinator.replica.domain import Records
from coordinator.wire import systemkey
from coordinator_sdk.protocol.kv import Event, EventType, KeyValue
from coordinator_sdk.protocol.services import (
    PASSING,
    WARNING,
    Instance,
    ServiceChange,
    ServiceDiscover,
    ServiceSnapshot,
    ServiceSummary,
)

DOMAIN = "services"
DEFAULT_STATUSES = (PASSING, WARNING)
"""The statuses that take traffic, which `discover` gives unless asked for others."""
ANY_STATUS = "*"

encode_instance = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Instance).decode


def instance_key(namespace: str, service: str, instance: str) -> bytes:
    """Give the key of an instance."""
    return systemkey.pack(namespace, DOMAIN, "instance", service, instance)


def instances(namespace: str, service: str = "") -> tuple[bytes, bytes]:
    """Give the range of the instances of a service, or of all services of the namespace."""
    if service:
        return systemkey.children(namespace, DOMAIN, "instance", service)
    return systemkey.children(namespace, DOMAIN, "instance")


def instances_by_prefix(namespace: str, prefix: str) -> tuple[bytes, bytes]:
    """Give the range of the instances of the services whose name starts with ``prefix``."""
    return systemkey.text_prefix(namespace, DOMAIN, "instance", prefix=prefix)


def instance_view(record: KeyValue) -> Instance:
    """Show an instance."""
    shown = _decode(record.value)
    shown.session = record.lease
    shown.revision = record.mod_revision
    return shown


def discover(records: Records, query: ServiceDiscover) -> list[Instance]:
    """Give the instances that a query asks for, by instance id."""
    found = map(instance_view, records.scan(*instances(query.namespace, query.service)))
    accepts = instance_filter(query)
    return [instance for instance in found if accepts(instance)]


def summaries(records: Records, namespace: str, prefix: str) -> list[ServiceSummary]:
    """Count the instances of each service by status; services in the order of their names."""
    shown: dict[str, ServiceSummary] = {}
    for record in records.scan(*instances_by_prefix(namespace, prefix)):
        instance = _decode(record.value)
        summary = shown.get(instance.service)
        if summary is None:
            summary = ServiceSummary(namespace, instance.service, 0, {})
            shown[instance.service] = summary
        summary.instances += 1
        summary.statuses[instance.status] = summary.statuses.get(instance.status, 0) + 1
    return list(shown.values())


def snapshot(records: Records, revision: int, namespace: str, service: str) -> ServiceSnapshot:
    """Show all instances, for a watch that begins."""
    found = map(instance_view, records.scan(*instances(namespace, service)))
    return ServiceSnapshot(revision, list(found))


def change(revision: int, events: Sequence[Event]) -> ServiceChange:
    """Show what one revision did to instances; the last event of each counts."""
    last: dict[bytes, Event] = {event.kv.key: event for event in events}
    shown = ServiceChange(revision, [], [])
    for event in last.values():
        if event.type == EventType.PUT:
            shown.changed.append(instance_view(event.kv))
        else:
            shown.removed.append(_removed(event))
    return shown


def _removed(event: Event) -> Instance:
    """Show an instance as it was; by its names alone where its last state is not at hand."""
    if event.prev_kv is not None:
        return instance_view(event.prev_kv)
    namespace, _, _, service, instance = systemkey.unpack(event.kv.key)
    return Instance(str(namespace), str(service), str(instance), 0)


# ---------------------------------------------------------------- filters

Filter = Callable[[Instance], bool]


def instance_filter(query: ServiceDiscover) -> Filter:
    """Build the test that decides which instances a query gives.

    Raises:
        ValueError: The version filter is malformed.
    """
    statuses = query.statuses or list(DEFAULT_STATUSES)
    tests: list[Filter] = []
    if ANY_STATUS not in statuses:
        tests.append(lambda instance: instance.status in statuses)
    if query.zone:
        tests.append(lambda instance: instance.zone == query.zone)
    if query.tags:
        wanted = {tag for tag in query.tags if not tag.startswith("!")}
        unwanted = {tag[1:] for tag in query.tags if tag.startswith("!")}
        tests.append(lambda instance: wanted <= set(instance.tags))
        tests.append(lambda instance: unwanted.isdisjoint(instance.tags))
    if query.metadata:
        metadata = query.metadata.items()
        tests.append(lambda instance: metadata <= instance.metadata.items())
    if query.version:
        version = version_filter(query.version)
        tests.append(lambda instance: version(instance.version))
    # Most ask for no more than the status, of a thousand instances at a time.
    return tests[0] if len(tests) == 1 else lambda instance: all(test(instance) for test in tests)


_CLAUSE = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*(\S+)\s*\Z")
_VERSION = re.compile(
    r"v?(?P<release>\d{1,18}(?:\.\d{1,18}){0,15})"
    r"(?:[-_.]?(?P<stage>dev|alpha|a|beta|b|preview|pre|rc|c)[-_.]?(?P<number>\d{0,18}))?"
    r"(?:[-_.]?post[-_.]?(?P<post>\d{1,18}))?"
    r"(?:\+[0-9a-z.-]*)?\Z",
    re.IGNORECASE,
)
_STAGES = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}
_FINAL = 4

Version = tuple[tuple[int, ...], int, int, int]


def parse_version(text: str) -> Version | None:
    """Read a version such as ``1.4``, ``v2.0.1``, ``2.0rc1`` or ``1.0.post2``.

    Returns:
        What compares as the versions do: trailing zeros do not count, a dev, alpha, beta or
        candidate release comes before the final one, a post release after it, and what
        follows ``+`` is ignored. None if the text is no such version.
    """
    found = _VERSION.match(text)
    if found is None:
        return None
    release = [int(part) for part in found["release"].split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    stage = _STAGES[found["stage"].lower()] if found["stage"] else _FINAL
    return tuple(release), stage, int(found["number"] or 0), int(found["post"] or -1)


def version_filter(text: str) -> Callable[[str], bool]:
    """Build the test for a version filter.

    Args:
        text: Empty for any version; a list of comparisons such as ``>=2,<3`` that must all
            hold; or one version, which must be equal letter by letter.

    Raises:
        ValueError: A comparison is malformed.
    """
    if not text:
        return lambda version: True
    if not any(sign in text for sign in "<>=!"):
        return lambda version: version == text
    clauses = [_clause(part) for part in text.split(",")]

    def accepts(version: str) -> bool:
        parsed = parse_version(version)
        return parsed is not None and all(holds(parsed) for holds in clauses)

    return accepts


def _clause(text: str) -> Callable[[Version], bool]:
    found = _CLAUSE.match(text)
    bound = parse_version(found[2]) if found else None
    if found is None or bound is None:
        raise ValueError(f"{text.strip()!r} is no comparison such as '>=2.1'")
    limit: Version = bound
    comparisons: dict[str, Callable[[Version], bool]] = {
        "==": lambda version: version == limit,
        "!=": lambda version: version != limit,
        ">=": lambda version: version >= limit,
        "<=": lambda version: version <= limit,
        ">": lambda version: version > limit,
        "<": lambda version: version < limit,
    }
    return comparisons[found[1]]
