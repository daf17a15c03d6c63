"""Filters of discovery, summaries and the changes that a watch sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domains.services import model
from coordinator.domains.services.commands import DOMAIN
from coordinator_sdk.protocol.kv import Event, EventType, KeyValue
from coordinator_sdk.protocol.services import (
    STATUSES,
    Instance,
    ServiceDeregister,
    ServiceDiscover,
    ServiceRegister,
    ServiceSetStatus,
)
from tests.domains.fake_txn import FakeMachine

NS = "default"
names = st.sampled_from(["a", "b", "c"])
tag_filters = st.sampled_from(["a", "b", "c", "!a", "!b"])


@given(
    instances=st.lists(
        st.builds(
            Instance,
            namespace=st.just(NS),
            service=st.just("s"),
            instance=st.text(min_size=1, max_size=5),
            session=st.just(1),
            tags=st.lists(names, max_size=3),
            metadata=st.dictionaries(names, names, max_size=3),
            zone=st.sampled_from(["", "x", "y"]),
            version=st.sampled_from(["", "1.0", "2.1"]),
            status=st.sampled_from(STATUSES),
        ),
        max_size=8,
    ),
    query=st.builds(
        ServiceDiscover,
        namespace=st.just(NS),
        service=st.just("s"),
        tags=st.lists(tag_filters, max_size=3),
        metadata=st.dictionaries(names, names, max_size=2),
        zone=st.sampled_from(["", "x"]),
        version=st.sampled_from(["", "1.0", ">=2"]),
        statuses=st.lists(st.sampled_from([*STATUSES, "*"]), max_size=3),
    ),
)
def test_discovery_gives_exactly_what_matches(instances, query):
    """An instance is found if and only if every filter of the query holds for it."""
    machine = FakeMachine(DOMAIN)
    machine.open_session(1)
    by_id = {instance.instance: instance for instance in instances}
    for name, i in by_id.items():
        machine.apply(
            ServiceRegister(
                NS, "s", 1, name, "", 0, i.tags, i.metadata, i.zone, i.version, 1, i.status
            )
        )

    def wanted(i: Instance) -> bool:
        statuses = query.statuses or ["passing", "warning"]
        if "*" not in statuses and i.status not in statuses:
            return False
        for tag in query.tags:
            if tag.startswith("!") == (tag.lstrip("!") in i.tags):
                return False
        if any(i.metadata.get(key) != value for key, value in query.metadata.items()):
            return False
        if query.version and i.version != {"1.0": "1.0", ">=2": "2.1"}[query.version]:
            return False
        return not query.zone or i.zone == query.zone

    expected = sorted(name for name, i in by_id.items() if wanted(i))
    assert [i.instance for i in model.discover(machine, query)] == sorted(
        expected, key=lambda name: model.instance_key(NS, "s", name)
    )


@pytest.mark.parametrize(
    ("text", "version", "accepted"),
    [
        ("", "anything", True),
        ("1.2", "1.2", True),
        ("1.2", "1.2.0", False),
        ("nightly", "nightly", True),
        ("==1.2", "1.2.0", True),
        ("==1.2", "v1.2", True),
        ("!=1.2", "1.2.0", False),
        ("!=1.2", "1.3", True),
        (">=2,<3", "2.0", True),
        (">=2,<3", "2.99.1", True),
        (">=2,<3", "3.0", False),
        (">=2,<3", "1.9", False),
        (">=2,<3", "", False),
        (">=2", "nightly", False),
        (">2", "2.0.post1", True),
        (">2", "2.0", False),
        (">=2", "2.0rc1", False),
        (">=2.0rc1", "2.0", True),
        (">=2.0a1", "2.0.dev4", False),
        ("<2.0b2", "2.0b1", True),
        ("<=1.10", "1.9", True),
        (" >= 1.0 , < 2 ", "1.5", True),
        ("==1.0", "1.0+build.5", True),
    ],
)
def test_versions_compare_as_people_count(text, version, accepted):
    """A list of comparisons counts numbers as numbers, and candidates before releases."""
    assert model.version_filter(text)(version) is accepted


@pytest.mark.parametrize(
    "text", [">=", ">=x", ">=1,", "=1", "~1,>2", ">=1 2", ">=" + "1." * 20 + "1"]
)
def test_a_malformed_version_filter_is_refused(text):
    """A comparison without a version, or without a known sign, is an error."""
    with pytest.raises(ValueError, match="no comparison"):
        model.version_filter(text)


def test_the_list_counts_instances_by_status():
    """The list names each service once, with its instances by status, in order of names."""
    machine = FakeMachine(DOMAIN)
    machine.open_session(1)
    for service, instance in (("b", "1"), ("a", "1"), ("a", "2"), ("ab", "1")):
        machine.apply(ServiceRegister(NS, service, 1, instance))
    machine.apply(ServiceSetStatus(NS, "a", "2", "critical"))
    shown = model.summaries(machine, NS, "a")
    assert [(s.service, s.instances, s.statuses) for s in shown] == [
        ("a", 2, {"passing": 1, "critical": 1}),
        ("ab", 1, {"passing": 1}),
    ]
    assert [s.service for s in model.summaries(machine, NS, "")] == ["a", "ab", "b"]


def test_a_revision_is_shown_as_one_change():
    """What one revision changed and removed is one change; removed ones are shown as they were."""
    machine = FakeMachine(DOMAIN)
    machine.open_session(1)
    machine.apply(ServiceRegister(NS, "s", 1, "i1", port=5))
    change = model.change(machine.published, machine.log[machine.published])
    assert [(i.instance, i.port, i.session) for i in change.changed] == [("i1", 5, 1)]
    machine.apply(ServiceDeregister(NS, "s", "i1"))
    change = model.change(machine.published, machine.log[machine.published])
    assert change.changed == []
    assert [(i.instance, i.port) for i in change.removed] == [("i1", 5)]


def test_a_removed_instance_is_named_even_without_its_last_state():
    """Where the last state is not at hand, the names of what was removed are."""
    gone = KeyValue(model.instance_key(NS, "s", "i1"), mod_revision=9)
    change = model.change(9, [Event(EventType.DELETE, gone)])
    (removed,) = change.removed
    assert (removed.namespace, removed.service, removed.instance) == (NS, "s", "i1")


def test_a_snapshot_has_every_status():
    """The first item of a watch holds all instances, whatever their status."""
    machine = FakeMachine(DOMAIN)
    machine.open_session(1)
    machine.apply(ServiceRegister(NS, "s", 1, "i1", status="critical"))
    machine.apply(ServiceRegister(NS, "t", 1, "i1"))
    assert len(model.snapshot(machine, 4, NS, "").instances) == 2
    assert [i.service for i in model.snapshot(machine, 4, NS, "s").instances] == ["s"]
