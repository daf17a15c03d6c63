"""What changes service instances, as the state machine applies it. Pure."""

from __future__ import annotations

from typing import Any

from coordinator.domains.services import model
from coordinator.replica.domain import Domain, DomainTxn, session_record
from coordinator.replica.permission import Place, Records, Rule, allowed, empty_means_all, listing
from coordinator_sdk.errors import NotFound
from coordinator_sdk.protocol.services import (
    MAINTENANCE,
    Instance,
    ServiceDeregister,
    ServiceDiscover,
    ServiceList,
    ServiceRegister,
    ServiceRegisterResult,
    ServiceResult,
    ServiceSetStatus,
    ServiceWatch,
)


def apply_register(txn: DomainTxn, command: ServiceRegister) -> ServiceRegisterResult:
    """Write the instance, tied to its session; an instance of the same id is replaced.

    What is replaced keeps its time of registration and, if an operator put it into
    maintenance, that status. Registering the same again changes nothing.

    Raises:
        SessionNotFound: The session has ended.
    """
    session_record(txn, command.session)
    key = model.instance_key(command.namespace, command.service, command.instance)
    instance = Instance(
        namespace=command.namespace,
        service=command.service,
        instance=command.instance,
        session=0,
        address=command.address,
        port=command.port,
        tags=command.tags,
        metadata=command.metadata,
        zone=command.zone,
        version=command.version,
        weight=command.weight,
        status=command.status,
        registered_ms=txn.meta.clock_ms,
    )
    old = txn.get(key)
    if old is not None:
        known = model.instance_view(old)
        instance.registered_ms = known.registered_ms
        if known.status == MAINTENANCE:
            instance.status, instance.status_reason = known.status, known.status_reason
    value = model.encode_instance(instance)
    if old is not None and old.lease == command.session and old.value == value:
        return ServiceRegisterResult(old.mod_revision, command.instance, created=False)
    txn.put(key, value, command.session)
    return ServiceRegisterResult(txn.revision, command.instance, created=old is None)


def apply_deregister(txn: DomainTxn, command: ServiceDeregister) -> ServiceResult:
    """Remove an instance, if there is one."""
    key = model.instance_key(command.namespace, command.service, command.instance)
    if txn.delete(key) is None:
        return ServiceResult(txn.revision - 1, changed=False)
    return ServiceResult(txn.revision)


def apply_set_status(txn: DomainTxn, command: ServiceSetStatus) -> ServiceResult:
    """Set the status of an instance; what hangs on its session stays there.

    Raises:
        NotFound: There is no such instance.
    """
    key = model.instance_key(command.namespace, command.service, command.instance)
    record = txn.get(key)
    if record is None:
        raise NotFound(
            f"service {command.service!r} has no instance {command.instance!r}",
            service=command.service,
            instance=command.instance,
        )
    instance = model.instance_view(record)
    if (instance.status, instance.status_reason) == (command.status, command.reason):
        return ServiceResult(txn.revision - 1, changed=False)
    instance.status, instance.status_reason = command.status, command.reason
    instance.session = instance.revision = 0
    txn.put(key, model.encode_instance(instance), record.lease)
    return ServiceResult(txn.revision)


def _owners(records: Records, request: Any) -> list[int]:
    """Give the sessions of an instance: that of its record, and that of the request."""
    key = model.instance_key(request.namespace, request.service, request.instance)
    record = records.get(key)
    sessions = [] if record is None else [record.lease]
    if type(request) is ServiceRegister:
        sessions.append(request.session)
    return sessions


_SERVICE = Place("service")

RULES: dict[type[Any], Rule] = {
    ServiceRegister: allowed("service:register", at=_SERVICE, owners=_owners),
    ServiceDeregister: allowed(
        "service:register", at=_SERVICE, owners=_owners, operate="service:operate"
    ),
    ServiceSetStatus: allowed(
        "service:register", at=_SERVICE, owners=_owners, operate="service:operate"
    ),
    ServiceDiscover: allowed("service:read", at=_SERVICE),
    ServiceList: listing("service:read", "services", "service"),
    ServiceWatch: allowed("service:read", at=Place("service", prefix_of=empty_means_all)),
}

DOMAIN = Domain(
    model.DOMAIN,
    commands={
        ServiceRegister: apply_register,
        ServiceDeregister: apply_deregister,
        ServiceSetStatus: apply_set_status,
    },
    rules=RULES,
)
