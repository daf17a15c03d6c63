"""Services: register instances, find them, follow them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, Self

from ._connection import Connection, decoder
from ._modes import CHANGE
from ._reader import Reader
from ._streams import ServiceStream
from .errors import ClientClosed, ClientError, CoordinatorError, NotFound, OutcomeUnknown
from .protocol.services import (
    CRITICAL,
    DRAINING,
    MAINTENANCE,
    PASSING,
    WARNING,
    Instance,
    ServiceDeregister,
    ServiceDiscover,
    ServiceDiscoverResult,
    ServiceList,
    ServiceListResult,
    ServiceRegister,
    ServiceRegisterResult,
    ServiceResult,
    ServiceSetStatus,
    ServiceSummary,
)
from .sessions import DEFAULT_TTL, Session, Sessions

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from ._endpoints import RetryPolicy

__all__ = ["Registration", "ServiceWatch", "Services"]

REGISTERED, LOST, ENDED, NEW = "registered", "lost", "deregistered", "new"
_SERVING = (PASSING, WARNING)
_REGISTERED = decoder(ServiceRegisterResult)
_RESULT = decoder(ServiceResult)
_FOUND = decoder(ServiceDiscoverResult)
_LIST = decoder(ServiceListResult)


class Registration:
    """One registered instance; made by `Services.register`.

    It stays registered until it is deregistered: should its session be lost, it registers
    again by itself as soon as the cluster can be reached.

    Attributes:
        state: ``new``, ``registered``, ``lost`` (registering again) or ``deregistered``.
        revision: The revision of the last registration.
        registrations: How often it was registered.
    """

    def __init__(
        self,
        link: Connection,
        sessions: Sessions,
        policy: RetryPolicy,
        body: ServiceRegister,
        ttl: float,
    ) -> None:
        self.state = NEW
        self.revision = 0
        self.registrations = 0
        self._link = link
        self._sessions = sessions
        self._policy = policy
        self._body = body
        self._ttl = ttl
        self._status_reason = ""
        self._session: Session | None = None
        self._again: asyncio.Task[None] | None = None

    @property
    def service(self) -> str:
        """Name of the service."""
        return self._body.service

    @property
    def instance(self) -> str:
        """Id of the instance; empty until it is registered, unless it was given."""
        return self._body.instance

    @property
    def status(self) -> str:
        """The status last set."""
        return self._body.status

    @property
    def session(self) -> Session | None:
        """The session that it hangs on."""
        return self._session

    async def set_status(self, status: str, reason: str = "") -> ServiceResult:
        """Set the status.

        Args:
            status: ``passing``, ``warning``, ``critical``, ``draining`` or ``maintenance``.
            reason: Why, for people.

        Raises:
            InvalidRequest: There is no such status.
            NotFound: The instance is not registered at the moment.
        """
        body = ServiceSetStatus(self._body.namespace, self.service, self.instance, status, reason)
        result = await self._link.call(body, _RESULT, CHANGE)
        self._body.status, self._status_reason = status, reason
        return result

    async def drain(self) -> ServiceResult:
        """Ask for no new traffic, before going away."""
        return await self.set_status(DRAINING)

    async def maintenance(self, reason: str) -> ServiceResult:
        """Take the instance out of traffic, with a reason."""
        return await self.set_status(MAINTENANCE, reason)

    async def passing(self) -> ServiceResult:
        """Take traffic (again)."""
        return await self.set_status(PASSING)

    async def deregister(self) -> None:
        """Remove the instance; does nothing if that has happened already."""
        if self.state == ENDED:
            return
        registered = self.state == REGISTERED
        self.state = ENDED
        if self._again is not None:
            self._again.cancel()
        if self._session is not None:
            self._session.detach(self)
        if registered and not self._link.closed:
            body = ServiceDeregister(self._body.namespace, self.service, self.instance)
            try:
                await self._link.firm_call(body, _RESULT, CHANGE, self._ttl)
            except NotFound:
                pass
            except (ClientError, OutcomeUnknown):
                self._link.forget(body, CHANGE)

    def session_lost(self, reason: str) -> None:
        """The session on which it hangs is lost: register again."""
        if self.state != REGISTERED or self._link.closing:
            return
        self.state = LOST
        self._again = self._link.loop.create_task(self._register_again(), name="register-again")

    async def _register_again(self) -> None:
        attempt = 0
        while self.state == LOST:
            try:
                await self._register()
            except ClientClosed:
                return
            except CoordinatorError:
                attempt += 1
                await asyncio.sleep(self._policy.pause(attempt, random.random))

    async def _register(self) -> None:
        session = await self._sessions.shared(self._ttl)
        self._body.session = session.id
        result = await self._link.call(self._body, _REGISTERED, CHANGE)
        self._body.instance = result.instance
        if self.state == ENDED:
            return
        self._session = session
        self.revision = result.revision
        self.registrations += 1
        self.state = REGISTERED
        if not session.alive:
            self.session_lost(session.reason)
            return
        session.attach(self)
        if self._status_reason:
            with contextlib.suppress(NotFound):
                await self.set_status(self._body.status, self._status_reason)

    async def _start(self) -> Self:
        if self.state == NEW:
            await self._register()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._start().__await__()

    async def __aenter__(self) -> Self:
        return await self._start()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.deregister()
        except CoordinatorError:
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"<Registration {self.service}/{self.instance or '?'} {self.state} {self.status}>"


class ServiceWatch(Reader[list[Instance]]):
    """The instances of a service, whole, after every change; made by `Services.watch`."""

    def __init__(self, link: Connection, stream: ServiceStream, statuses: Sequence[str]) -> None:
        super().__init__(link, stream)
        self._statuses = frozenset(statuses)
        self._last: list[Instance] | None = None
        self.revision = 0

    async def __anext__(self) -> list[Instance]:
        while True:
            self.revision, state = await self._next()
            found = [
                instance
                for _, instance in sorted(state.items())
                if "*" in self._statuses or instance.status in self._statuses
            ]
            if found != self._last:
                self._last = found
                return list(found)


class Services:
    """The registry; `Client.services`."""

    def __init__(
        self, link: Connection, sessions: Sessions, policy: RetryPolicy, namespace: str
    ) -> None:
        self._link = link
        self._sessions = sessions
        self._policy = policy
        self._namespace = namespace

    def register(
        self,
        service: str,
        *,
        address: str = "",
        port: int = 0,
        ttl: float = DEFAULT_TTL,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        zone: str = "",
        version: str = "",
        weight: int = 1,
        instance: str = "",
        status: str = PASSING,
    ) -> Registration:
        """Register an instance of a service.

        Example::

            async with client.services.register("orders", address="10.0.0.5", port=8080):
                await serve()

        Args:
            service: Name of the service.
            address: Where it listens.
            port: On which port.
            ttl: Seconds after which the cluster removes an instance whose process is gone.
            tags: Labels to find it by.
            metadata: Further facts, text to text.
            zone: Where it runs.
            version: Of the software.
            weight: Its share of traffic relative to others.
            instance: Its id; the cluster gives one unless given. Registering the same id
                again replaces the registration.
            status: Its status to begin with.

        Returns:
            The registration, to be awaited, or used in ``async with``, which deregisters it
            at the end.

        Raises:
            InvalidRequest: One of the arguments is not acceptable.
        """
        body = ServiceRegister(
            self._namespace,
            service,
            0,
            instance,
            address,
            port,
            list(tags),
            dict(metadata or {}),
            zone,
            version,
            weight,
            status,
        )
        return Registration(self._link, self._sessions, self._policy, body, ttl)

    async def discover(
        self,
        service: str,
        *,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        zone: str = "",
        version: str = "",
        statuses: Sequence[str] = (),
        revision: int = 0,
        serializable: bool = False,
    ) -> list[Instance]:
        """Find the instances of a service.

        Args:
            service: Name of the service.
            tags: Only instances that have all of them.
            metadata: Only instances that have all of these facts.
            zone: Only instances there.
            version: Only instances of it.
            statuses: Only instances in one of them, ``["*"]`` for all; those that can take
                traffic, that is ``passing`` and ``warning``, unless given.
            revision: As it was at this revision; 0 for now.
            serializable: Let any member answer from what it has.

        Returns:
            The instances; empty if there are none.

        Raises:
            Compacted: History at ``revision`` is gone.
        """
        body = ServiceDiscover(
            self._namespace,
            service,
            list(tags),
            dict(metadata or {}),
            zone,
            version,
            list(statuses),
            revision,
            serializable,
        )
        return (await self._link.call(body, _FOUND)).instances

    def watch(self, service: str = "", *, statuses: Sequence[str] = _SERVING) -> ServiceWatch:
        """Follow the instances of a service.

        Example::

            async for instances in client.services.watch("orders"):
                balancer.replace(instances)

        Args:
            service: Name of the service; empty for every service of the namespace.
            statuses: Only instances in one of them; ``["*"]`` for all.

        Returns:
            An asynchronous iterator that gives the whole current list, first at once and then
            after every change.
        """
        return ServiceWatch(self._link, ServiceStream(self._namespace, service), statuses)

    async def set_status(
        self, service: str, instance: str, status: str, reason: str = ""
    ) -> ServiceResult:
        """Set the status of an instance, whoever registered it.

        Args:
            service: Name of the service.
            instance: Id of the instance.
            status: ``passing``, ``warning``, ``critical``, ``draining`` or ``maintenance``.
            reason: Why, for people.

        Raises:
            InvalidRequest: There is no such status.
            NotFound: There is no such instance.
        """
        body = ServiceSetStatus(self._namespace, service, instance, status, reason)
        return await self._link.call(body, _RESULT, CHANGE)

    async def list(self, prefix: str = "", *, revision: int = 0) -> list[ServiceSummary]:
        """List the services with the number of their instances by status.

        Args:
            prefix: Only names that begin with it.
            revision: As it was at this revision; 0 for now.
        """
        answer = await self._link.call(ServiceList(self._namespace, prefix, revision), _LIST)
        return answer.services


STATUSES = (PASSING, WARNING, CRITICAL, DRAINING, MAINTENANCE)
"""Every status of an instance."""
