"""Changes of the configuration: any sequence of them, and what must hold after each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.confchange import Changer, Membership, check_invariants, restore
from coordinator.raft.errors import ConfChangeRefused
from coordinator.raft.progress import Progress
from coordinator.raft.tracker import ProgressTracker, TrackerConfig
from coordinator.wire.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)

CHANGES = st.lists(
    st.builds(ConfChangeSingle, st.sampled_from(list(ConfChangeType)), st.integers(0, 6)),
    max_size=5,
)
STEPS = st.lists(st.tuples(st.sampled_from(["simple", "enter", "auto", "leave"]), CHANGES))
ADD = ConfChangeType.ADD_NODE


def tracker() -> ProgressTracker:
    return ProgressTracker(10, 0)


def changed(step: str, current: ProgressTracker, changes: list[ConfChangeSingle]) -> Membership:
    changer = Changer(current, 7)
    if step == "simple":
        return changer.simple(changes)
    if step == "leave":
        return changer.leave_joint()
    return changer.enter_joint(changes, auto_leave=step == "auto")


def picture(current: ProgressTracker) -> list[str]:
    return [str(current.config), *(f"{one} {its}" for one, its in current.progress.items())]


@given(STEPS)
def test_every_change_keeps_the_invariants(
    steps: list[tuple[str, list[ConfChangeSingle]]],
) -> None:
    """After any change roles are disjoint and everyone is tracked; refusals leave no trace."""
    current = tracker()
    for step, changes in steps:
        before = picture(current)
        try:
            membership = changed(step, current, changes)
        except ConfChangeRefused:
            assert picture(current) == before
            continue
        assert picture(current) == before
        old = current.config
        current.config, current.progress = check_invariants(membership)
        config = current.config
        everyone = config.voter_ids() + config.learners
        assert sorted(current.progress) == sorted(everyone) == list(current.progress)
        assert config.voters
        if step == "simple":
            assert sum(voter not in config.voters for voter in old.voters) <= 1
        if step in ("enter", "auto"):
            assert config.outgoing == old.voters


@given(STEPS)
def test_every_configuration_can_be_restored(
    steps: list[tuple[str, list[ConfChangeSingle]]],
) -> None:
    """A configuration written into a snapshot comes back the same."""
    current = tracker()
    for step, changes in steps:
        try:
            current.config, current.progress = changed(step, current, changes)
        except ConfChangeRefused:
            continue
        state = current.config.conf_state()
        restored = restore(tracker(), 7, state)
        assert restored.config.conf_state() == state
        assert list(restored.progress) == list(current.progress)


@given(CHANGES)
def test_joint_and_simple_lead_to_the_same_place(changes: list[ConfChangeSingle]) -> None:
    """A change that fits the simple protocol gives the same configuration through a joint one."""
    start = tracker()
    start.config, start.progress = restore(tracker(), 7, ConfState((1, 2, 3), (4,)))
    try:
        simple = Changer(start, 7).simple(changes)
    except ConfChangeRefused:
        return
    joint = tracker()
    joint.config, joint.progress = Changer(start, 7).enter_joint(changes, auto_leave=True)
    left = Changer(joint, 7).leave_joint()
    assert left.config == simple.config


def test_progress_survives_a_change() -> None:
    """What is known of a member stays known when others come and go."""
    current = tracker()
    current.config, current.progress = restore(current, 7, ConfState((1, 2)))
    current.progress[2].match = 5
    current.progress[2].inflights.add(6, 1)
    membership = Changer(current, 7).simple([ConfChangeSingle(ADD, 3)])
    assert membership.progress[2].match == 5
    assert membership.progress[2].inflights is current.progress[2].inflights
    assert membership.progress[3].recent_active


def broken(config: TrackerConfig, learners: tuple[int, ...] = ()) -> Membership:
    progress = {
        member: Progress(
            match=0, next=1, inflights=tracker().new_inflights(), is_learner=member in learners
        )
        for member in (1, 2, 3)
    }
    return Membership(config, progress)


@pytest.mark.parametrize(
    ("membership", "message"),
    [
        (broken(TrackerConfig(voters=(9,))), "no progress for 9"),
        (broken(TrackerConfig(voters=(1,), outgoing=(2,), learners_next=(3,))), "not Voters"),
        (
            broken(TrackerConfig(voters=(1,), outgoing=(2,), learners_next=(2,)), (2,)),
            "already marked",
        ),
        (broken(TrackerConfig(voters=(1,), outgoing=(2,), learners=(2,)), (2,)), r"Voters\[1\]"),
        (broken(TrackerConfig(voters=(1,), learners=(1,)), (1,)), r"Voters\[0\]"),
        (broken(TrackerConfig(voters=(1,), learners=(2,))), "not marked"),
        (broken(TrackerConfig(voters=(1,), auto_leave=True)), "AutoLeave"),
    ],
)
def test_broken_memberships_are_found(membership: Membership, message: str) -> None:
    """Each invariant of a membership is checked, and its breach named."""
    with pytest.raises(ConfChangeRefused, match=message):
        check_invariants(membership)


def test_what_a_change_means() -> None:
    """A change says whether it enters a joint configuration, leaves it, and leaves it by itself."""
    two = (ConfChangeSingle(ADD, 1), ConfChangeSingle(ADD, 2))
    implicit, explicit = (
        ConfChangeTransition.JOINT_IMPLICIT,
        ConfChangeTransition.JOINT_EXPLICIT,
    )
    for change, expected in (
        (ConfChangeV2(), (True, False, False)),
        (ConfChangeV2(context=b"x"), (True, False, False)),
        (ConfChangeV2(changes=two[:1]), (False, False, False)),
        (ConfChangeV2(changes=two), (False, True, True)),
        (ConfChangeV2(implicit, two[:1]), (False, True, True)),
        (ConfChangeV2(explicit, two), (False, True, False)),
        (ConfChange(ADD, 1).as_v2(), (False, False, False)),
    ):
        meant = (change.leaves_joint(), change.enters_joint(), change.leaves_automatically())
        assert meant == expected
