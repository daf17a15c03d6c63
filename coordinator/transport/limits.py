"""Every bound of this room, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers may take of time and memory.

    Attributes:
        frame_bytes_max: Largest frame; a longer one ends its connection before it is buffered.
        hello_bytes_max: The same before both sides know each other.
        unsent_bytes_max: What may wait on one outgoing link; above that frames are dropped.
        handshakes_max: Incoming connections that have not said who they are; more are closed.
        handshake_s: From the connection to the hello; the same for dialling, all told.
        ping_interval_s: How often a connection shows that it lives.
        silent_pings_max: Intervals without a byte after which a connection is given up.
        backoff_s_min: Pause before dialling again, at first; it doubles with every failure.
        backoff_s_max: The longest such pause.
        linger_s: How long a connection that is being closed may take to send what it holds.
        chunks_in_flight_max: Chunks of a snapshot that the other side has not written yet.
        snapshot_bytes_in_flight_max: The same in bytes; one chunk is always allowed.
        resume_s: How long both ends of a broken snapshot stream wait for each other.
        stop_s: How long sinks may take to end when the network is closed.
        log_interval_s: Pause between lines about unwanted connections.
    """

    frame_bytes_max: int = 16 << 20
    hello_bytes_max: int = 4096
    unsent_bytes_max: int = 64 << 20
    handshakes_max: int = 128
    handshake_s: float = 2.0
    ping_interval_s: float = 0.5
    silent_pings_max: int = 4
    backoff_s_min: float = 0.02
    backoff_s_max: float = 1.0
    linger_s: float = 1.0
    chunks_in_flight_max: int = 16
    snapshot_bytes_in_flight_max: int = 16 << 20
    resume_s: float = 10.0
    stop_s: float = 5.0
    log_interval_s: float = 10.0
