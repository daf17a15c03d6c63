"""Services: instances that live as long as their session."""

from __future__ import annotations

from msgspec import Struct

from .kv import Id

PASSING = "passing"
WARNING = "warning"
CRITICAL = "critical"
DRAINING = "draining"
MAINTENANCE = "maintenance"
STATUSES = (PASSING, WARNING, CRITICAL, DRAINING, MAINTENANCE)


class Instance(Struct, array_like=True, gc=False):
    """One instance of a service. ``revision`` is the one of its last change."""

    # It can't be part of a cycle, and lists of thousands are cheaper without the collector.

    namespace: str
    service: str
    instance: str
    session: Id
    address: str = ""
    port: int = 0
    tags: list[str] = []
    metadata: dict[str, str] = {}
    zone: str = ""
    version: str = ""
    weight: int = 1
    status: str = PASSING
    status_reason: str = ""
    registered_ms: int = 0
    revision: int = 0


class ServiceRegister(Struct, array_like=True, tag="services.register"):
    """Register an instance, or replace its registration.

    The instance is removed when its session ends. ``instance`` empty lets the server name
    it.
    """

    namespace: str
    service: str
    session: Id
    instance: str = ""
    address: str = ""
    port: int = 0
    tags: list[str] = []
    metadata: dict[str, str] = {}
    zone: str = ""
    version: str = ""
    weight: int = 1
    status: str = PASSING


class ServiceDeregister(Struct, array_like=True, tag="services.deregister"):
    """Remove an instance."""

    namespace: str
    service: str
    instance: str


class ServiceSetStatus(Struct, array_like=True, tag="services.set_status"):
    """Set the status of an instance."""

    namespace: str
    service: str
    instance: str
    status: str
    reason: str = ""


class ServiceDiscover(Struct, array_like=True, tag="services.discover"):
    """List instances of a service.

    By default those that can take traffic, that is ``passing`` and ``warning``;
    ``statuses`` names others, ``["*"]`` all. All of ``tags`` must be present. ``revision``
    asks for a past state.
    """

    namespace: str
    service: str
    tags: list[str] = []
    metadata: dict[str, str] = {}
    zone: str = ""
    version: str = ""
    statuses: list[str] = []
    revision: int = 0
    serializable: bool = False


class ServiceList(Struct, array_like=True, tag="services.list"):
    """List the services with the number of instances by status."""

    namespace: str
    prefix: str = ""
    revision: int = 0


class ServiceWatch(Struct, array_like=True, tag="services.watch"):
    """Stream the instances of a service.

    Without ``start_revision`` the first item is the current state (`ServiceSnapshot`); then
    `ServiceChange` items. ``start_revision`` resumes after that revision, without a
    snapshot. ``service`` empty means every service of the namespace. ``credit`` counts items.
    """

    namespace: str
    service: str = ""
    start_revision: int = 0
    credit: int = 0


class ServiceSnapshot(Struct, array_like=True, tag="snapshot"):
    """All instances at ``revision``."""

    revision: int
    instances: list[Instance]


class ServiceChange(Struct, array_like=True, tag="change"):
    """Instances that came, changed or went in one revision."""

    revision: int
    changed: list[Instance] = []
    removed: list[Instance] = []


class ServiceSummary(Struct, array_like=True):
    """One line of the list of services."""

    namespace: str
    service: str
    instances: int
    statuses: dict[str, int] = {}


class ServiceRegisterResult(Struct, array_like=True):
    """Answer to `ServiceRegister`."""

    revision: int
    instance: str
    created: bool = True


class ServiceResult(Struct, array_like=True):
    """Answer to deregister and set-status."""

    revision: int
    changed: bool = True


class ServiceDiscoverResult(Struct, array_like=True):
    """Answer to `ServiceDiscover`."""

    revision: int
    instances: list[Instance]


class ServiceListResult(Struct, array_like=True):
    """Answer to `ServiceList`."""

    services: list[ServiceSummary]


REQUESTS = (
    ServiceRegister,
    ServiceDeregister,
    ServiceSetStatus,
    ServiceDiscover,
    ServiceList,
    ServiceWatch,
)
