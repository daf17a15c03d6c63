"""What a leader knows of a follower: states, window, steps forward and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.errors import InvariantBroken
from coordinator.raft.progress import Inflights, Progress, ProgressState
from coordinator.raft.tracker import ProgressTracker, TrackerConfig


def progress(match: int = 3, following: int = 5, window: int = 256) -> Progress:
    return Progress(match=match, next=following, inflights=Inflights(window))


@given(st.lists(st.one_of(st.integers(1, 9), st.none())), st.integers(1, 4), st.integers(0, 30))
def test_the_window_never_exceeds_its_limits(
    steps: list[int | None], count_max: int, bytes_max: int
) -> None:
    """A window takes messages until a limit is reached, and frees them in order."""
    window = Inflights(count_max, bytes_max)
    sent: list[tuple[int, int]] = []
    for index, size in enumerate(steps, 1):
        if size is None:
            window.free_to(index // 2)
            sent = [one for one in sent if one[0] > index // 2]
        elif window.full():
            with pytest.raises(InvariantBroken):
                window.add(index, size)
        else:
            is_full = window.add(index, size)
            assert is_full is window.full()
            sent.append((index, size))
        assert window.count() == len(sent) <= count_max
        assert window.bytes == sum(its for _, its in sent)
        if bytes_max and sent:
            assert window.bytes - sent[-1][1] < bytes_max
    twin = window.copy()
    window.reset()
    assert (window.count(), window.bytes) == (0, 0)
    assert twin.count() == len(sent)


def test_probes_pause_the_flow() -> None:
    """A probe with entries stops the flow until it is answered; an empty one does not."""
    its = progress()
    its.sent_entries(0, 0)
    assert not its.is_paused()
    its.sent_entries(2, 20)
    assert its.is_paused()
    assert its.next == 5


def test_streaming_moves_on_by_itself() -> None:
    """While streaming, every message moves the next index, until the window is full."""
    its = progress(window=2)
    its.become_replicate()
    assert its.next == 4
    its.sent_entries(3, 30)
    assert (its.next, its.is_paused()) == (7, False)
    its.sent_entries(1, 10)
    assert (its.next, its.is_paused()) == (8, True)
    its.sent_entries(0, 0)
    assert its.is_paused()


def test_nothing_is_sent_during_a_snapshot() -> None:
    """A follower that waits for a snapshot is paused, and is probed behind it afterwards."""
    its = progress()
    its.become_snapshot(9)
    assert its.is_paused()
    assert (its.next, its.sent_commit) == (10, 9)
    with pytest.raises(InvariantBroken, match="SNAPSHOT"):
        its.sent_entries(1, 1)
    its.become_probe()
    assert (its.next, its.pending_snapshot, its.is_paused()) == (10, 0, False)


@pytest.mark.parametrize(
    ("state", "match", "following", "rejected", "hint", "worth", "expected"),
    [
        (ProgressState.REPLICATE, 5, 10, 5, 5, False, 10),
        (ProgressState.REPLICATE, 5, 10, 4, 4, False, 10),
        (ProgressState.REPLICATE, 5, 10, 9, 9, True, 6),
        (ProgressState.PROBE, 0, 10, 5, 5, False, 10),
        (ProgressState.PROBE, 0, 10, 9, 9, True, 9),
        (ProgressState.PROBE, 0, 10, 9, 2, True, 3),
        (ProgressState.PROBE, 0, 10, 9, 0, True, 1),
        (ProgressState.PROBE, 4, 10, 9, 2, True, 5),
    ],
)
def test_rejections_step_back(
    state: ProgressState,
    match: int,
    following: int,
    rejected: int,
    hint: int,
    worth: bool,
    expected: int,
) -> None:
    """A rejection moves the next index back, to the hint if there is one; late ones do nothing."""
    its = progress(match, following)
    its.state = state
    assert its.maybe_decrease(rejected, hint) is worth
    assert its.next == expected


@pytest.mark.parametrize(
    ("index", "news", "match", "following"), [(2, False, 3, 5), (3, False, 3, 5), (4, True, 4, 5)]
)
def test_acknowledgements_move_forward(index: int, news: bool, match: int, following: int) -> None:
    """An acknowledgement moves match forward, never back, and next stays ahead of it."""
    its = progress()
    assert its.maybe_update(index) is news
    assert (its.match, its.next) == (match, following)
    assert its.maybe_update(8)
    assert (its.match, its.next) == (8, 9)


def test_progress_describes_itself() -> None:
    """Everything unusual about a follower is named in its description."""
    its = progress(window=1)
    assert str(its) == "StateProbe match=3 next=5 inactive"
    its.is_learner = its.recent_active = True
    its.become_replicate()
    its.sent_entries(1, 1)
    assert str(its) == "StateReplicate match=3 next=5 learner paused inflight=1[full]"
    its.become_snapshot(7)
    assert str(its) == "StateSnapshot match=3 next=8 learner paused pendingSnap=7"


def test_copies_share_what_they_should() -> None:
    """A copy for a new configuration shares the window; one to look at shares nothing."""
    its = progress()
    assert its.copy().inflights is its.inflights
    seen = its.snapshot_copy()
    its.inflights.add(1, 1)
    assert seen.inflights.count() == 0


def test_the_commit_index_is_only_sent_if_it_may_help() -> None:
    """The commit index is told again only if the follower could commit more by it."""
    its = progress(match=3, following=6)
    assert its.can_bump_commit(4)
    its.sent_commit = 5
    assert not its.can_bump_commit(9)
    assert not its.can_bump_commit(5)


def test_configurations_describe_themselves() -> None:
    """A configuration names both halves, the learners, and who will be one."""
    config = TrackerConfig((1, 2), (2, 3), (4,), (3,), auto_leave=True)
    assert str(config) == "voters=(1 2)&&(2 3) learners=(4) learners_next=(3) autoleave"
    assert config.voter_ids() == (1, 2, 3)
    assert config.is_joint


def test_votes_of_learners_and_strangers_do_not_count() -> None:
    """Only voters count in an election, and each of them once."""
    tracker = ProgressTracker(1, 0)
    tracker.config = TrackerConfig((1, 2, 3), learners=(4,))
    tracker.progress = {
        member: Progress(match=0, next=1, inflights=Inflights(1), is_learner=member == 4)
        for member in (1, 2, 3, 4)
    }
    for member in (1, 4, 9):
        tracker.record_vote(member, True)
    tracker.record_vote(1, False)
    granted, refused, result = tracker.tally_votes()
    assert (granted, refused, result.name) == (1, 0, "PENDING")
    tracker.progress[1].recent_active = True
    assert not tracker.quorum_active()
    tracker.progress[2].recent_active = True
    assert tracker.quorum_active()
    tracker.config = TrackerConfig((1, 2, 3), (1, 2))
    tracker.progress[1].match, tracker.progress[3].match = 5, 6
    assert tracker.committed() == 0
    assert not tracker.is_singleton()
