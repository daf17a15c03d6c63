"""The client without ``await``: the same names, for ordinary threads.

Example::

    from coordinator_sdk.sync import Client

    with Client("http://127.0.0.1:2379") as client:
        with client.locks.lock("nightly-report", timeout=5) as lock:
            client.kv.put("reports/last", b"...", guard=lock)

A thin cover over the asynchronous client, which runs in one background thread. A thread
cannot be interrupted from outside: a body learns that its lock is lost from `Lock.check` or
`Lock.lost`, at a guarded write, or at the end of its ``with``, which raises `LockLost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from . import auth as _auth
from . import client as _client
from . import cluster as _cluster
from . import discovery as _discovery
from . import elections as _elections
from . import kv as _kv
from . import leases as _leases
from . import locks as _locks
from . import services as _services
from . import sessions as _sessions
from . import topics as _topics
from ._held import Held as _Held
from ._portal import (
    Attribute,
    Face,
    Iteration,
    Portal,
    Signal,
    blocking,
    immediate,
    making,
    opening,
)
from ._streams import Event
from .errors import CoordinatorError
from .protocol.elections import ElectionChange
from .protocol.frames import Header
from .protocol.services import Instance
from .protocol.topics import TopicMessage
from .sessions import DEFAULT_TTL

if TYPE_CHECKING:
    from ._endpoints import RetryPolicy
    from ._keys import Bytes
    from .credentials import TLS, Credential
    from .protocol.kv import Guard
    from .protocol.topics import TopicGap

__all__ = ["Client", "Leadership", "Lease", "Lock", "Registration", "Session"]

HeldT = TypeVar("HeldT", bound=_Held)


class Session(Face[_sessions.Session]):
    """See `coordinator_sdk.sessions.Session`."""

    id = Attribute(int)
    ttl = Attribute(float)
    state = Attribute(str)
    reason = Attribute(str)
    alive = Attribute(bool)
    close = blocking(_sessions.Session.close)

    @property
    def lost(self) -> Signal:
        """Set when the session is lost."""
        return Signal(self._portal, self._inner.lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._portal.run(self._inner.__aexit__(None, None, None))


class Lease(Face[_leases.Lease]):
    """See `coordinator_sdk.leases.Lease`."""

    id = Attribute(int)
    ttl = Attribute(float)
    state = Attribute(str)
    keepalive = blocking(_leases.Lease.keepalive)
    revoke = blocking(_leases.Lease.revoke)
    info = blocking(_leases.Lease.info)

    @property
    def lost(self) -> Signal:
        """Set when the lease has ended."""
        return Signal(self._portal, self._inner.lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._portal.run(self._inner.__aexit__(None, None, None))


class Registration(Face[_services.Registration]):
    """See `coordinator_sdk.services.Registration`."""

    state = Attribute(str)
    service = Attribute(str)
    instance = Attribute(str)
    status = Attribute(str)
    revision = Attribute(int)
    registrations = Attribute(int)
    set_status = blocking(_services.Registration.set_status)
    drain = blocking(_services.Registration.drain)
    maintenance = blocking(_services.Registration.maintenance)
    passing = blocking(_services.Registration.passing)
    deregister = blocking(_services.Registration.deregister)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._portal.run(self._inner.__aexit__(kind, error, trace))


class _HeldFace(Face[HeldT], Generic[HeldT]):
    """What the faces of locks and leaderships have in common."""

    name = Attribute(str)
    token = Attribute(int)
    owner = Attribute(str)
    position = Attribute(int)
    held = Attribute(bool)
    reason_lost = Attribute(str)
    check = immediate(_Held.check)

    @property
    def lost(self) -> Signal:
        """Set when it is lost while it is held."""
        return Signal(self._portal, self._inner.lost)

    def guard(self) -> Guard:
        """The proof that it is held, for `KV.put` and other writes."""
        return self._inner.guard()

    def _take(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        async def is_mine() -> bool:
            return self._inner.token > 0

        if not self._portal.run(is_mine()):  # given back in the body
            return
        try:
            self._leave()
        except CoordinatorError:
            if error is None:
                raise


class Lock(_HeldFace[_locks.Lock]):
    """See `coordinator_sdk.locks.Lock`."""

    try_acquire = blocking(_locks.Lock.try_acquire)
    release = blocking(_locks.Lock.release)

    def acquire(self, timeout: float | None = None) -> Self:
        """Take the lock, waiting in its queue if need be; see the asynchronous twin."""
        self._portal.run(self._inner.acquire(timeout))
        return self

    def _take(self) -> None:
        self.acquire()

    def _leave(self) -> None:
        self.release()


class Leadership(_HeldFace[_elections.Leadership]):
    """See `coordinator_sdk.elections.Leadership`."""

    value = Attribute(bytes)
    proclaim = blocking(_elections.Leadership.proclaim)
    resign = blocking(_elections.Leadership.resign)

    def campaign(self, timeout: float | None = None) -> Self:
        """Stand for election, and wait until elected; see the asynchronous twin."""
        self._portal.run(self._inner.campaign(timeout))
        return self

    def _take(self) -> None:
        self.campaign()

    def _leave(self) -> None:
        self.resign()


class KeyWatch(Iteration[Event]):
    """See `coordinator_sdk.kv.KeyWatch`."""

    next_revision = Attribute(int)
    resyncs = Attribute(int)
    unread = Attribute(int)
    progress = blocking(_kv.KeyWatch.progress)


class ElectionWatch(Iteration[ElectionChange]):
    """See `coordinator_sdk.elections.ElectionWatch`."""


class ServiceWatch(Iteration[list[Instance]]):
    """See `coordinator_sdk.services.ServiceWatch`."""

    revision = Attribute(int)


class Subscription(Iteration[TopicMessage]):
    """See `coordinator_sdk.topics.Subscription`."""

    positions = Attribute(dict[str, int])

    @property
    def gaps(self) -> list[TopicGap]:
        """The last gaps that were passed over, with ``on_gap="continue"``."""
        return list(self._read("gaps"))


class KV(Face[_kv.KV]):
    """See `coordinator_sdk.kv.KV`."""

    put = blocking(_kv.KV.put)
    get = blocking(_kv.KV.get)
    range = blocking(_kv.KV.range)
    delete = blocking(_kv.KV.delete)
    txn = blocking(_kv.KV.txn)
    compact = blocking(_kv.KV.compact)
    watch = making(_kv.KV.watch, KeyWatch)


class Leases(Face[_leases.Leases]):
    """See `coordinator_sdk.leases.Leases`."""

    grant = opening(_leases.Leases.grant, Lease)
    revoke = blocking(_leases.Leases.revoke)
    keepalive = blocking(_leases.Leases.keepalive)
    ttl = blocking(_leases.Leases.ttl)
    list = blocking(_leases.Leases.list)


class Sessions(Face[_sessions.Sessions]):
    """See `coordinator_sdk.sessions.Sessions`."""

    open = opening(_sessions.Sessions.open, Session)
    get = blocking(_sessions.Sessions.get)
    list = blocking(_sessions.Sessions.list)


class Services(Face[_services.Services]):
    """See `coordinator_sdk.services.Services`."""

    register = opening(_services.Services.register, Registration)
    discover = blocking(_services.Services.discover)
    set_status = blocking(_services.Services.set_status)
    list = blocking(_services.Services.list)
    watch = making(_services.Services.watch, ServiceWatch)


class Locks(Face[_locks.Locks]):
    """See `coordinator_sdk.locks.Locks`."""

    def lock(
        self,
        name: str,
        *,
        timeout: float | None = None,
        ttl: float = DEFAULT_TTL,
        owner: str | None = None,
        reason: str = "",
        session: Session | None = None,
    ) -> Lock:
        """Make a lock object; see the asynchronous twin."""
        inner = None if session is None else session._inner
        make = making(_locks.Locks.lock, Lock)
        return make(self, name, timeout=timeout, ttl=ttl, owner=owner, reason=reason, session=inner)

    get = blocking(_locks.Locks.get)
    list = blocking(_locks.Locks.list)
    force_release = blocking(_locks.Locks.force_release)


class Elections(Face[_elections.Elections]):
    """See `coordinator_sdk.elections.Elections`."""

    def lead(
        self,
        name: str,
        *,
        value: Bytes = b"",
        timeout: float | None = None,
        ttl: float = DEFAULT_TTL,
        owner: str | None = None,
        session: Session | None = None,
    ) -> Leadership:
        """Stand for election; see the asynchronous twin."""
        inner = None if session is None else session._inner
        make = making(_elections.Elections.lead, Leadership)
        return make(self, name, value=value, timeout=timeout, ttl=ttl, owner=owner, session=inner)

    get = blocking(_elections.Elections.get)
    list = blocking(_elections.Elections.list)
    observe = making(_elections.Elections.observe, ElectionWatch)


class Topics(Face[_topics.Topics]):
    """See `coordinator_sdk.topics.Topics`."""

    publish = blocking(_topics.Topics.publish)
    create = blocking(_topics.Topics.create)
    delete = blocking(_topics.Topics.delete)
    subscribe = making(_topics.Topics.subscribe, Subscription)
    get = blocking(_topics.Topics.get)
    list = blocking(_topics.Topics.list)
    read = blocking(_topics.Topics.read)
    subscribers = blocking(_topics.Topics.subscribers)


class Discovery(Face[_discovery.Discovery]):
    """See `coordinator_sdk.discovery.Discovery`."""

    new = blocking(_discovery.Discovery.new)
    get = blocking(_discovery.Discovery.get)
    register = blocking(_discovery.Discovery.register)


class Cluster(Face[_cluster.Cluster]):
    """See `coordinator_sdk.cluster.Cluster`."""

    header = Attribute(Header)
    status = blocking(_cluster.Cluster.status)
    members = blocking(_cluster.Cluster.members)
    blame = blocking(_cluster.Cluster.blame)
    add_member = blocking(_cluster.Cluster.add_member)
    remove_member = blocking(_cluster.Cluster.remove_member)
    promote_member = blocking(_cluster.Cluster.promote_member)
    update_member = blocking(_cluster.Cluster.update_member)
    move_leader = blocking(_cluster.Cluster.move_leader)
    alarms = blocking(_cluster.Cluster.alarms)
    disarm = blocking(_cluster.Cluster.disarm)
    hash_keys = blocking(_cluster.Cluster.hash_keys)
    revision_at = blocking(_cluster.Cluster.revision_at)
    snapshot = blocking(_cluster.Cluster.snapshot)
    ping = blocking(_cluster.Cluster.ping)


class Auth(Face[_auth.Auth]):
    """See `coordinator_sdk.auth.Auth`."""

    init = blocking(_auth.Auth.init)
    enable = blocking(_auth.Auth.enable)
    disable = blocking(_auth.Auth.disable)
    status = blocking(_auth.Auth.status)
    whoami = blocking(_auth.Auth.whoami)
    token = blocking(_auth.Auth.token)
    add_user = blocking(_auth.Auth.add_user)
    delete_user = blocking(_auth.Auth.delete_user)
    change_password = blocking(_auth.Auth.change_password)
    set_certificate_names = blocking(_auth.Auth.set_certificate_names)
    grant_role = blocking(_auth.Auth.grant_role)
    revoke_role = blocking(_auth.Auth.revoke_role)
    user = blocking(_auth.Auth.user)
    users = blocking(_auth.Auth.users)
    add_role = blocking(_auth.Auth.add_role)
    delete_role = blocking(_auth.Auth.delete_role)
    allow_keys = blocking(_auth.Auth.allow_keys)
    disallow_keys = blocking(_auth.Auth.disallow_keys)
    allow = blocking(_auth.Auth.allow)
    disallow = blocking(_auth.Auth.disallow)
    role = blocking(_auth.Auth.role)
    roles = blocking(_auth.Auth.roles)
    create_key = blocking(_auth.Auth.create_key)
    revoke_key = blocking(_auth.Auth.revoke_key)
    keys = blocking(_auth.Auth.keys)


class Client(Face[_client.Client]):
    """A client for ordinary threads; any number of them may share it.

    Arguments and attributes are those of `coordinator_sdk.Client`. It does not survive a
    fork: make one in each process.
    """

    def __init__(
        self,
        *endpoints: str,
        tls: TLS | None = None,
        auth: Credential | None = None,
        connect_timeout: float = 5.0,
        timeout: float | None = 30.0,
        namespace: str = "default",
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare a client; see `coordinator_sdk.Client`."""
        inner = _client.Client(
            *endpoints,
            tls=tls,
            auth=auth,
            connect_timeout=connect_timeout,
            timeout=timeout,
            namespace=namespace,
            retry=retry,
        )
        super().__init__(Portal(), inner)
        self.kv = KV(self._portal, inner.kv)
        self.leases = Leases(self._portal, inner.leases)
        self.sessions = Sessions(self._portal, inner.sessions)
        self.services = Services(self._portal, inner.services)
        self.locks = Locks(self._portal, inner.locks)
        self.elections = Elections(self._portal, inner.elections)
        self.topics = Topics(self._portal, inner.topics)
        self.discovery = Discovery(self._portal, inner.discovery)
        self.cluster = Cluster(self._portal, inner.cluster)
        self.auth = Auth(self._portal, inner.auth)

    connected = Attribute(bool)
    endpoint = Attribute(str)
    revision = Attribute(int)
    namespace = Attribute(str)

    @property
    def closed(self) -> bool:
        """Whether the client has been closed."""
        return self._inner.closed

    def connect(self) -> Self:
        """Connect; does nothing if that has happened already."""
        try:
            self._portal.run(self._inner.connect())
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the client's sessions, connections and thread; takes a second at most."""
        if not self._portal.closed:
            try:
                self._portal.run(self._inner.close())
            finally:
                self._portal.close()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *exc: object) -> None:
        self.close()
