"""What can go wrong between two members.

Imports nothing. The first two leave open whether the other side acted on what it had received:

    TransportError
    ├─ PeerUnreachable    no connection, or it broke and did not come back in time; try again later
    ├─ PeerRefused        the other side said no, and why; trying again as we are will not help
    └─ CannotListen       an address is taken, or not of this machine
"""


class TransportError(Exception):
    """Any failure of talking to another member."""


class PeerUnreachable(TransportError):
    """Nobody answers at the other member's addresses, or the connection broke for good."""


class PeerRefused(TransportError):
    """The other member answered and refused.

    Attributes:
        reason: Why, in the words of the other member.
    """

    def __init__(self, reason: str) -> None:
        """Take the other side's words as the message."""
        super().__init__(reason)
        self.reason = reason


class CannotListen(TransportError):
    """An address can't be listened on; the message says what to do."""
