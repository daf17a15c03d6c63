"""The client: one connection to the cluster, and what can be done over it."""

from __future__ import annotations

import os
import random
from typing import Self

from ._connection import Connection
from ._endpoints import DEFAULT_ENDPOINT, Endpoint, RetryPolicy, parse_endpoint
from ._identity import Prover
from ._tls import Trust
from .auth import Auth
from .cluster import Cluster
from .credentials import TLS, Credential, credential_of, tls_of
from .discovery import Discovery
from .elections import Elections
from .errors import InvalidRequest
from .kv import KV
from .leases import Leases
from .locks import Locks
from .services import Services
from .sessions import Sessions
from .topics import Topics

__all__ = ["Client"]

ENDPOINTS_VARIABLE = "COORDINATOR_ENDPOINTS"
CLOSE_SECONDS = 0.4
"""How long closing waits for the cluster to end the client's sessions."""


def endpoints_of(given: tuple[str, ...]) -> list[Endpoint]:
    """The endpoints to use: those given, else the environment's, else the local one.

    Raises:
        InvalidRequest: One of them is none.
    """
    urls = [url for entry in given for url in entry.split(",") if url.strip()]
    if not urls:
        urls = [url for url in os.environ.get(ENDPOINTS_VARIABLE, "").split(",") if url.strip()]
    try:
        return [parse_endpoint(url) for url in urls or [DEFAULT_ENDPOINT]]
    except ValueError as error:
        raise InvalidRequest(f"endpoint: {error}", field="endpoint") from None


class Client:
    """A client of the cluster.

    Example::

        async with Client("http://127.0.0.1:2379") as client:
            await client.kv.put("greeting", "hello")

    One client serves any number of tasks of one event loop over one connection. It connects
    again by itself, for ever, to any of its endpoints; meanwhile calls wait.

    Attributes:
        kv: Keys: put, get, range, delete, transactions, watches.
        leases: Leases: keys that go when nobody renews them.
        sessions: Sessions: what locks, leaderships and registrations hang on.
        services: Register, discover and follow instances of services.
        locks: Exclusive, fair, fenced locks.
        elections: One leader out of many candidates.
        topics: Durable publish and subscribe.
        discovery: Tokens for clusters to be.
        cluster: Members and their state.
        auth: Users, roles, permissions and API keys.
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
        """Prepare a client; nothing is sent yet.

        Args:
            endpoints: URLs of members, such as ``http://127.0.0.1:2379`` or
                ``https://db1:2379``; tried in this order. Without any, those of the
                environment's ``COORDINATOR_ENDPOINTS``, joined by commas, or else
                ``http://127.0.0.1:2379``.
            tls: Whom to trust and what to show at ``https`` endpoints. Unless given, the files
                that the environment names in ``COORDINATOR_CACERT``, ``COORDINATOR_CERT`` and
                ``COORDINATOR_KEY``, or else the certificates that the system trusts.
            auth: Who this client is. Unless given, the environment's ``COORDINATOR_API_KEY``,
                ``COORDINATOR_TOKEN``, or ``COORDINATOR_USER`` with ``COORDINATOR_PASSWORD``, or
                else nobody.
            connect_timeout: Seconds that `connect` may take.
            timeout: Seconds after which a call gives up, including all its retries; None for
                never.
            namespace: Where services, locks, elections and topics live.
            retry: How calls are tried again; its deadline is ``timeout`` unless given.

        Raises:
            InvalidRequest: An endpoint, a number or a credential is not acceptable.
        """
        if not connect_timeout > 0:
            raise InvalidRequest("connect_timeout: must be positive", field="connect_timeout")
        if timeout is not None and not timeout > 0:
            raise InvalidRequest("timeout: must be positive, or None", field="timeout")
        policy = RetryPolicy(deadline=timeout) if retry is None else retry
        self._endpoints = endpoints_of(endpoints)
        self._namespace = namespace
        trust = Trust(tls_of(os.environ) if tls is None else tls)
        prover = Prover(credential_of(os.environ) if auth is None else auth, random.random)
        self._link = link = Connection(self._endpoints, policy, connect_timeout, trust, prover)
        self.kv = KV(link)
        self.leases = Leases(link)
        self.sessions = Sessions(link)
        self.services = Services(link, self.sessions, policy, namespace)
        self.locks = Locks(link, self.sessions, namespace)
        self.elections = Elections(link, self.sessions, namespace)
        self.topics = Topics(link, namespace)
        self.discovery = Discovery(link, namespace)
        self.cluster = Cluster(link)
        self.auth = Auth(link)

    async def connect(self) -> Self:
        """Connect; does nothing if that has happened already.

        Raises:
            ConnectFailed: No endpoint answered within ``connect_timeout``, or none can be trusted.
            Unauthenticated: The cluster does not accept ``auth``.
            InvalidRequest: A file of ``tls`` is not what it should be.
            ClusterMismatch: The endpoints belong to another cluster than before.
            ClientClosed: The client has been closed.
        """
        await self._link.start()
        return self

    async def close(self) -> None:
        """End the client's sessions and connections; takes a second at most."""
        if not self._link.closed:
            self._link.closing = True
            try:
                await self.sessions.close(CLOSE_SECONDS)
            finally:
                await self._link.stop()

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._link.connected

    @property
    def closed(self) -> bool:
        """Whether the client has been closed."""
        return self._link.closed

    @property
    def endpoint(self) -> str:
        """URL of the endpoint in use, or tried last."""
        return self._link.endpoint.url

    @property
    def revision(self) -> int:
        """The highest revision that this client has seen."""
        return self._link.session.revision

    @property
    def namespace(self) -> str:
        """Where services, locks, elections and topics live."""
        return self._namespace

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connected" if self.connected else "not connected"
        urls = ", ".join(repr(endpoint.url) for endpoint in self._endpoints)
        return f"<Client {urls} {state}>"
