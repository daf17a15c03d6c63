"""The conversation across connections, without loop, socket or clock."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator_sdk._calls import Call, decoder, nothing
from coordinator_sdk._endpoints import RetryPolicy
from coordinator_sdk._modes import BEAT, CHANGE, READ
from coordinator_sdk._session import BATCH_REQUESTS_MAX, STUCK_SECONDS, Session
from coordinator_sdk._streams import (
    ElectionStream,
    ServiceStream,
    Stream,
    SubscriptionStream,
    WatchStream,
)
from coordinator_sdk.errors import (
    ClientClosed,
    ClusterMismatch,
    Compacted,
    ConnectFailed,
    ConnectionLost,
    CoordinatorError,
    Internal,
    NoLeader,
    NotFound,
    OutcomeUnknown,
)
from coordinator_sdk.protocol import cluster, kv, services, topics
from coordinator_sdk.protocol.codec import MSGPACK
from coordinator_sdk.protocol.frames import Header
from tests.sdk.model import Cluster, Member

PUT = decoder(kv.PutResult)
RANGE = decoder(kv.RangeResult)
HELLO = decoder(cluster.HelloResult)


class Answer:
    """A sink that insists on one answer."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.answers = 0
        self.is_cancelled = False

    def done(self) -> bool:
        return self.answers > 0 or self.is_cancelled

    def cancelled(self) -> bool:
        return self.is_cancelled

    def set_result(self, result: Any, /) -> None:
        assert not self.done(), "a second answer"
        self.answers, self.value = self.answers + 1, result

    def set_exception(self, exception: BaseException, /) -> None:
        assert not self.done(), "a second answer"
        self.answers, self.error = self.answers + 1, exception


class Wire:
    """A client and a cluster, and the connection between them."""

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self.cluster = Cluster()
        self.session = Session(policy or RetryPolicy(deadline=None), random.Random(1).random)
        self.member: Member | None = None
        self.answers: deque[bytes] = deque()
        self.now = 1000.0

    def connect(self) -> None:
        """Connect and greet."""
        self.member = Member(self.cluster)
        greeting = Answer()
        floor, batch = self.session.hello(greeting, HELLO, "test", self.now)
        [item] = self.member.handle(MSGPACK.encode_requests(floor, batch))
        self.receive(self.member.frame([item]))
        if greeting.error is not None:
            raise greeting.error
        self.session.greet(greeting.value, self.now)

    def disconnect(self) -> None:
        """Cut the connection; answers under way are lost."""
        self.member = None
        self.answers.clear()
        self.session.disconnect(OSError("cut"))

    def receive(self, data: bytes) -> None:
        """Hand a frame to the client."""
        header, items = MSGPACK.decode_frame(data)
        self.session.receive(header, items, self.now)

    def send(self) -> bool:
        """Carry one frame to the server, and leave its answer on the wire."""
        taken = self.session.take(self.now)
        if taken is None or self.member is None:
            return False
        items = self.member.handle(MSGPACK.encode_requests(*taken))
        if items:
            self.answers.append(self.member.frame(items))
        return True

    def pump(self) -> None:
        """Put what the streams have to say on the wire."""
        if self.member is not None and (items := self.member.pump()):
            self.answers.append(self.member.frame(items))

    def settle(self) -> None:
        """Carry everything both ways until nothing moves."""
        while True:
            moved = self.send()
            self.pump()
            while self.answers:
                moved = True
                self.receive(self.answers.popleft())
            if not moved:
                return

    def put(self, key: bytes = b"k", value: bytes = b"") -> Answer:
        """Submit a change."""
        answer = Answer()
        self.session.submit(Call(kv.Put(key, value), PUT, CHANGE, answer))
        return answer

    def get(self, key: bytes = b"k") -> Answer:
        """Submit a read."""
        answer = Answer()
        self.session.submit(Call(kv.Range(key), RANGE, READ, answer))
        return answer


@pytest.fixture
def wire() -> Wire:
    """A connected client."""
    wire = Wire()
    wire.connect()
    return wire


def test_requests_of_one_turn_leave_in_one_frame(wire: Wire) -> None:
    """Everything queued leaves in one frame, with ids that count up and a floor."""
    answers = [wire.put(), wire.get(), wire.put()]
    taken = wire.session.take(wire.now)
    assert taken is not None
    floor, batch = taken
    assert floor == batch[0][0]
    assert [id - floor for id, _ in batch] == [0, 1, 2]
    assert wire.session.take(wire.now) is None
    assert not any(answer.done() for answer in answers)


def test_an_answer_reaches_its_call_in_any_order(wire: Wire) -> None:
    """Answers find their calls by id, whatever their order; strangers are ignored."""
    first, second = wire.get(b"a"), wire.get(b"b")
    taken = wire.session.take(wire.now)
    assert taken is not None
    [(one, _), (two, _)] = taken[1]
    b = kv.RangeResult(5, [kv.KeyValue(b"b")])
    a = kv.RangeResult(5, [kv.KeyValue(b"a")])
    items = [
        MSGPACK.encode_result(999, 5, b),
        MSGPACK.encode_result(two, 5, b),
        MSGPACK.encode_result(one, 5, a),
        MSGPACK.encode_result(one, 5, b),
        MSGPACK.encode_failure(two, NoLeader("late")),
    ]
    wire.receive(MSGPACK.join_frame(Header(77, 1, 1, 5), items))
    assert (first.value.kvs[0].key, second.value.kvs[0].key) == (b"a", b"b")
    assert wire.session.revision == 5


def test_the_window_holds_changes_back(wire: Wire) -> None:
    """At most 256 changes leave since the oldest unanswered one; reads pass, order is kept."""
    puts = [wire.put(b"%d" % number) for number in range(600)]
    read = wire.get()
    taken = wire.session.take(wire.now)
    assert taken is not None
    floor, batch = taken
    assert len(batch) == 257
    assert isinstance(batch[-1][1], kv.Range)
    assert wire.session.take(wire.now) is None
    # All but the oldest are answered: the window does not move.
    assert wire.member is not None
    items = wire.member.handle(MSGPACK.encode_requests(floor, batch))
    wire.receive(wire.member.frame(items[1:]))
    assert read.done()
    assert wire.session.take(wire.now) is None
    wire.receive(wire.member.frame(items[:1]))
    wire.settle()
    assert all(answer.error is None and answer.answers == 1 for answer in puts)
    revisions = [answer.value.revision for answer in puts]
    assert revisions == sorted(revisions)


def test_a_frame_has_a_limit(wire: Wire) -> None:
    """One frame carries a bounded number of requests."""
    for _ in range(BATCH_REQUESTS_MAX + 10):
        wire.get()
    first, second = wire.session.take(wire.now), wire.session.take(wire.now)
    assert first is not None
    assert second is not None
    assert (len(first[1]), len(second[1])) == (BATCH_REQUESTS_MAX, 10)


def test_a_cancelled_call_is_not_sent(wire: Wire) -> None:
    """A call that is cancelled before it leaves is never applied."""
    answer = wire.put()
    answer.is_cancelled = True
    assert wire.session.take(wire.now) is None
    assert not wire.cluster.applied


def test_a_change_in_doubt_is_sent_again_with_its_id(wire: Wire) -> None:
    """A change whose answer was lost is sent again under its id, and applied once."""
    answer = wire.put()
    wire.send()
    wire.disconnect()
    assert not answer.done()
    wire.connect()
    wire.settle()
    assert answer.value.revision == 2
    assert list(wire.cluster.applied.values()) == [1]


def test_a_forgotten_client_learns_that_the_outcome_is_unknown(wire: Wire) -> None:
    """If the cluster does not know the client any more, a change in doubt is not repeated."""
    in_doubt, read = wire.put(), wire.get()
    wire.send()
    wire.disconnect()
    unsent = wire.put(b"later")
    wire.cluster.clients.clear()
    wire.connect()
    wire.settle()
    assert isinstance(in_doubt.error, OutcomeUnknown)
    assert read.error is None
    assert unsent.error is None
    assert set(wire.cluster.applied.values()) == {1}


def test_a_refused_change_is_tried_again(wire: Wire) -> None:
    """A change that the cluster cannot serve now is sent again under its id, after a pause."""
    wire.cluster.refuse = lambda body: NoLeader("electing")
    answer = wire.put()
    wire.settle()
    assert not answer.done()
    due = wire.session.next_at()
    assert due is not None
    wire.cluster.refuse = lambda body: None
    wire.session.tick(wire.now)
    assert due <= wire.now + 0.05
    wire.now += 0.05
    wire.session.tick(wire.now)
    wire.settle()
    assert answer.value.revision == 2


def test_a_change_refused_and_forgotten_is_sent_as_new(wire: Wire) -> None:
    """A change that was only ever refused is safe to send under a new id."""
    wire.cluster.refuse = lambda body: NoLeader("electing")
    answer = wire.put()
    wire.settle()
    wire.disconnect()
    wire.cluster.clients.clear()
    wire.cluster.refuse = lambda body: None
    wire.connect()
    wire.settle()
    assert answer.value.revision == 2


def test_a_change_refused_after_doubt_stays_in_doubt(wire: Wire) -> None:
    """A refusal after a lost answer does not prove that the change was never applied."""
    answer = wire.put()
    wire.send()
    wire.disconnect()
    wire.cluster.refuse = lambda body: (
        None if isinstance(body, cluster.Hello) else NoLeader("electing")
    )
    wire.connect()
    wire.settle()
    wire.disconnect()
    wire.cluster.clients.clear()
    wire.connect()
    wire.settle()
    assert isinstance(answer.error, OutcomeUnknown)


def test_overdue_calls_fail_by_what_is_known() -> None:
    """After the deadline a call says whether it was sent, may have been applied, or was refused."""
    wire = Wire(RetryPolicy(deadline=30.0))
    unsent = wire.put()
    assert wire.session.take(wire.now) is None
    wire.now += 31
    wire.session.tick(wire.now)
    assert isinstance(unsent.error, ConnectFailed)
    wire.connect()
    change, read = wire.put(), wire.get()
    wire.session.take(wire.now)
    wire.now += 31
    wire.session.tick(wire.now)
    assert isinstance(change.error, OutcomeUnknown)
    assert isinstance(read.error, ConnectionLost)
    wire.cluster.refuse = lambda body: NoLeader("electing")
    refused = wire.put()
    wire.settle()
    wire.now += 31
    wire.session.tick(wire.now)
    assert isinstance(refused.error, NoLeader)
    assert not wire.session.busy()


def test_beats_fail_with_their_connection(wire: Wire) -> None:
    """Keepalives are not repeated by the session: a late one would tell the wrong time."""
    answer = Answer()
    wire.session.submit(Call(cluster.Ping(), nothing, BEAT, answer))
    wire.send()
    wire.disconnect()
    assert isinstance(answer.error, ConnectionLost)


def test_another_cluster_is_refused(wire: Wire) -> None:
    """A client does not go on with another cluster than the one it knows."""
    wire.disconnect()
    wire.cluster = Cluster(cluster_id=88)
    with pytest.raises(ClusterMismatch):
        wire.connect()


def test_an_unreadable_answer_fails_its_call_only(wire: Wire) -> None:
    """An answer of the wrong shape fails one call with Internal; the others live."""
    bad, good = wire.put(), wire.get()
    taken = wire.session.take(wire.now)
    assert taken is not None
    items = [
        MSGPACK.encode_result(taken[1][0][0], 5, cluster.Ping()),
        MSGPACK.encode_result(taken[1][1][0], 5, kv.RangeResult(5)),
    ]
    wire.receive(MSGPACK.join_frame(Header(77, 1, 1, 5), items))
    assert isinstance(bad.error, Internal)
    assert good.value.revision == 5


def test_closing_fails_everything(wire: Wire) -> None:
    """Nothing is left waiting when the client is closed."""
    sent = wire.put()
    wire.send()
    unsent = wire.put()
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.session.fail_all(ClientClosed("closed"))
    assert isinstance(sent.error, ClientClosed)
    assert isinstance(unsent.error, ClientClosed)
    assert isinstance(stream.error, ClientClosed)
    assert not wire.session.busy()


# ----------------------------------------------------------------- streams


def drain(stream: Stream[Any]) -> list[Any]:
    """Read everything a stream has."""
    items = []
    while stream.items:
        items.append(stream.take())
    return items


def test_a_watch_resumes_where_it_was(wire: Wire) -> None:
    """After a broken connection a watch goes on with the first revision not received."""
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    assert stream.ready
    wire.put()
    wire.settle()
    wire.disconnect()
    wire.cluster.apply(kv.Put(b"k", b"while away"))
    wire.cluster.apply(kv.Put(b"other"))
    wire.connect()
    wire.settle()
    assert [event.revision for event in drain(stream)] == [2, 3]
    assert stream.resumes == 1


def test_a_watch_from_now_misses_nothing_before_its_first_event(wire: Wire) -> None:
    """A watch from now that loses its connection before any event still reports from then on."""
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    wire.disconnect()
    wire.cluster.apply(kv.Put(b"k"))
    wire.connect()
    wire.settle()
    assert [event.revision for event in drain(stream)] == [2]


def test_events_seen_before_are_dropped(wire: Wire) -> None:
    """Events of revisions already received are not delivered again."""
    stream = WatchStream(kv.Watch(b"k", start_revision=5))
    wire.session.open(stream)
    wire.send()

    def send(revision: int, *revisions: int) -> None:
        events = [kv.Event(0, kv.KeyValue(b"k", mod_revision=at)) for at in revisions]
        value = MSGPACK.encode_value(kv.WatchEvents(revision, events))
        item = MSGPACK.encode_stream([stream.id], value)
        wire.receive(MSGPACK.join_frame(Header(77, 1, 1, 9), [item]))

    send(4, 3, 4)
    send(6, 4, 5, 6)
    send(6, 6)
    send(7, 7)
    assert [event.revision for event in drain(stream)] == [5, 6, 7]
    assert stream.next_revision == 8


def test_a_watch_ends_with_an_error_when_history_is_gone(wire: Wire) -> None:
    """A watch whose next history is compacted ends with Compacted, after what it received."""
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    wire.disconnect()
    for _ in range(5):
        wire.cluster.apply(kv.Put(b"k"))
    wire.cluster.apply(kv.Compact(5))
    wire.connect()
    wire.settle()
    assert isinstance(stream.error, Compacted)
    assert stream.error.details == {"compact_revision": 5}


def test_progress_moves_the_resume_point(wire: Wire) -> None:
    """A progress notice moves the resume point of a quiet watch."""
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    item = MSGPACK.encode_stream([stream.id], MSGPACK.encode_value(kv.WatchProgress(41)))
    wire.receive(MSGPACK.join_frame(Header(77, 1, 1, 41), [item]))
    wire.disconnect()
    request = stream.request()
    assert isinstance(request, kv.Watch)
    assert request.start_revision == 42


def test_the_server_never_sends_beyond_the_credit(wire: Wire) -> None:
    """A reader that does not read holds the server back; reading lets it go on."""
    stream = WatchStream(kv.Watch(b"k"), credit=4)
    wire.session.open(stream)
    wire.settle()
    for _ in range(20):
        wire.cluster.apply(kv.Put(b"k"))
    wire.settle()
    assert len(stream.items) == 4
    seen: list[int] = []
    while len(seen) < 20:
        assert len(stream.items) <= 4
        seen.append(stream.take().revision)
        if due := stream.credit_due():
            wire.session.grant(stream, due)
        wire.settle()
    assert seen == list(range(2, 22))


def test_a_closed_stream_is_told_and_forgotten(wire: Wire) -> None:
    """Closing a stream tells the server, and nothing more arrives."""
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    wire.session.close(stream)
    wire.put()
    wire.settle()
    assert wire.member is not None
    assert wire.member.streams == {}
    assert not stream.items
    assert not wire.session.has_streams()


def test_a_stream_closed_before_it_was_sent_is_never_opened(wire: Wire) -> None:
    """A stream that is closed in the turn that opened it does not reach the server."""
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.session.close(stream)
    assert wire.session.take(wire.now) is None


def test_a_refused_stream_is_opened_again(wire: Wire) -> None:
    """A stream that the cluster cannot serve now is opened again after a pause."""
    wire.cluster.refuse = lambda body: NoLeader("electing")
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    assert not stream.done()
    wire.cluster.refuse = lambda body: None
    wire.now += 1
    wire.session.tick(wire.now)
    wire.settle()
    assert stream.ready


def test_a_stream_that_cannot_be_ends(wire: Wire) -> None:
    """A stream that is refused for good ends with that error."""
    wire.cluster.refuse = lambda body: NotFound("no such thing")
    stream = WatchStream(kv.Watch(b"k"))
    wire.session.open(stream)
    wire.settle()
    assert isinstance(stream.error, NotFound)
    assert not wire.session.has_streams()


def test_a_subscription_from_now_resumes_without_gap(wire: Wire) -> None:
    """A subscription from now on, once it stands, misses nothing across connections."""
    stream = SubscriptionStream(topics.TopicSubscribe("default", "a.>"))
    publish = wire.cluster.apply_TopicPublish
    publish(topics.TopicPublish("default", "a.b", b"before"))
    wire.session.open(stream)
    wire.settle()
    wire.disconnect()
    publish(topics.TopicPublish("default", "a.b", b"1"))
    publish(topics.TopicPublish("default", "a.c.d", b"2"))
    wire.connect()
    wire.settle()
    publish(topics.TopicPublish("default", "a.b", b"3"))
    wire.settle()
    assert [message.payload for message in drain(stream)] == [b"1", b"2", b"3"]


def test_a_service_watch_tells_only_differences_after_a_break(wire: Wire) -> None:
    """After a broken connection the list of instances is told again only if it differs."""
    stream = ServiceStream("default", "web")
    wire.session.open(stream)
    wire.settle()
    assert [state for _, state in drain(stream)] == [{}]
    wire.disconnect()
    wire.connect()
    wire.settle()
    assert drain(stream) == []
    session = wire.cluster.apply_LeaseGrant(kv.LeaseGrant(1000)).lease
    register = services.ServiceRegister("default", "web", session, "one")
    wire.cluster.apply(register)
    wire.settle()
    wire.disconnect()
    wire.cluster.expire(session)
    wire.connect()
    wire.settle()
    assert [sorted(state) for _, state in drain(stream)] == [[("web", "one")], []]


def test_an_observer_falls_back_to_the_state_now(wire: Wire) -> None:
    """An observer whose history is gone begins again with the current state."""
    stream = ElectionStream("default", "boss", start_revision=7)
    assert stream.survives(Compacted("gone"))
    assert stream.request().start_revision == 0  # type: ignore[attr-defined]
    assert not stream.survives(Compacted("gone"))
    assert not stream.survives(NotFound("no"))


# ----------------------------------------------------------------- everything at once


@settings(max_examples=150)
@given(st.integers(0, 1 << 32), st.booleans())
def test_nothing_is_lost_or_doubled(seed: int, evicts: bool) -> None:
    """Under cuts, late and double answers, refusals and evictions all promises hold.

    Every change is applied at most once, every call gets one answer that tells the truth, a
    watch sees the history exactly, and a subscription every message exactly once.
    """
    chance = random.Random(seed)
    wire = Wire()
    watch = WatchStream(kv.Watch(b"k", b"l"), credit=3)
    subscription = SubscriptionStream(topics.TopicSubscribe("default", ">"), credit=3)
    seen: list[Any] = []
    messages: list[Any] = []
    unrefused = (cluster.Hello, kv.Credit, kv.Cancel)
    puts: list[Answer] = []
    reads: list[Answer] = []
    wire.connect()
    wire.session.open(watch)
    wire.session.open(subscription)
    wire.settle()

    def read_streams() -> None:
        for stream, into in ((watch, seen), (subscription, messages)):
            while stream.items and chance.random() < 0.7:
                into.append(stream.take())
                if due := stream.credit_due():
                    wire.session.grant(stream, due)

    def publish() -> None:
        wire.cluster.apply(topics.TopicPublish("default", chance.choice("abc"), b""))

    for _ in range(chance.randrange(10, 80)):
        wire.cluster.refuse = lambda body: (
            NoLeader("electing")
            if chance.random() < 0.1 and not isinstance(body, unrefused)
            else None
        )
        wire.now += chance.random()
        match chance.randrange(9):
            case 0 | 1:
                puts.append(wire.put(b"k%d" % chance.randrange(3), b"%d" % len(puts)))
            case 2:
                reads.append(wire.get(b"k1"))
            case 3:
                wire.send()
                wire.pump()
            case 4 if wire.answers:
                frame = wire.answers.popleft()
                wire.receive(frame)
                if chance.random() < 0.3:
                    wire.receive(frame)
            case 5:
                wire.session.tick(wire.now)
            case 6 if wire.member is not None and chance.random() < 0.5:
                wire.disconnect()
                if evicts and chance.random() < 0.3:
                    wire.cluster.clients.clear()
            case 7 if wire.member is None:
                wire.connect()
            case 8:
                publish()
        read_streams()

    wire.cluster.refuse = lambda body: None
    if wire.member is None:
        wire.connect()
    for _ in range(200):
        wire.now += 10
        wire.session.tick(wire.now)
        wire.settle()
        read_streams()
    assert set(wire.cluster.applied.values()) <= {1}
    assert all(answer.answers == 1 for answer in (*puts, *reads))
    written = {event.kv.value: revision for revision, event in wire.cluster.history}
    for number, answer in enumerate(puts):
        value = b"%d" % number
        if answer.error is None:
            assert written[value] == answer.value.revision
        else:
            assert evicts
            assert isinstance(answer.error, OutcomeUnknown)
    assert not any(isinstance(answer.error, CoordinatorError) for answer in reads)
    assert [event.revision for event in seen] == [at for at, _ in wire.cluster.history]
    wanted = sorted((one.topic, one.sequence) for one in wire.cluster.messages)
    assert sorted((one.topic, one.sequence) for one in messages) == wanted
    for topic in "abc":
        assert [m.sequence for m in messages if m.topic == topic] == [
            m.sequence for m in wire.cluster.messages if m.topic == topic
        ]


def test_a_member_that_leaves_calls_unanswered_is_told() -> None:
    """A call that a living member does not answer for long is stuck; at the next member it has
    twice the time, counted from that member's greeting."""
    wire = Wire()
    wire.connect()
    answer = wire.put()
    wire.send()
    wire.now += STUCK_SECONDS - 0.1
    assert not wire.session.stuck(wire.now)
    wire.now += 0.2
    assert wire.session.stuck(wire.now)
    wire.disconnect()
    wire.connect()
    wire.send()
    wire.now += 2 * STUCK_SECONDS - 0.1
    assert not wire.session.stuck(wire.now)
    wire.now += 0.2
    assert wire.session.stuck(wire.now)
    wire.settle()
    assert answer.value is not None
    wire.now += 100 * STUCK_SECONDS
    assert not wire.session.stuck(wire.now)
