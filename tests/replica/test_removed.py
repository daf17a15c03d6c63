"""A member after its own removal."""

from coordinator.replica.effects import Append
from coordinator.wire.raft import Message, MessageType
from tests.replica.member import Member


def test_late_acknowledgement_of_a_removed_member_is_no_mistake():
    """What a member wrote before its removal and is durable after it counts no more."""
    member = Member()
    member.settle()
    replica = member.replica
    own, index = replica.raw.id, replica.raw.last_index
    late = Message(MessageType.MSG_APP_RESP, own, own, replica.raw.term, index=index)
    del replica.raw.raft.tracker.progress[own]
    replica.persisted(Append([], None, None, False, [late]))
    assert own not in replica.raw.raft.tracker.progress
