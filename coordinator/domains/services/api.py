"""Services at the edge: what is checked, how requests are served, the routes."""

from __future__ import annotations

from typing import Any

from coordinator.api.holdings import admit_record
from coordinator.api.http import Routes
from coordinator.api.registry import (
    Caller,
    Change,
    DomainApi,
    KeyRange,
    Live,
    Query,
    View,
    chosen_id,
)
from coordinator.domains.services import model
from coordinator.domains.services.commands import DOMAIN
from coordinator.domains.services.watching import serve_watch
from coordinator_sdk import errors
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.services import (
    STATUSES,
    ServiceChange,
    ServiceDeregister,
    ServiceDiscover,
    ServiceDiscoverResult,
    ServiceList,
    ServiceListResult,
    ServiceRegister,
    ServiceRegisterResult,
    ServiceResult,
    ServiceSetStatus,
    ServiceSnapshot,
    ServiceWatch,
)

PORT_MAX = 65_535
WEIGHT_MAX = 65_535
TAGS_MAX = 64
METADATA_MAX = 64
LABEL_BYTES_MAX = 256
"""Of a tag, a zone, a version, an address."""
METADATA_VALUE_BYTES_MAX = 1024


def _check_register(request: ServiceRegister) -> None:
    if not request.session:
        raise InvalidRequest("session: must name a session", field="session")
    if request.port > PORT_MAX:
        raise InvalidRequest(f"port: from 0 to {PORT_MAX}", field="port")
    if request.weight > WEIGHT_MAX:
        raise InvalidRequest(f"weight: from 0 to {WEIGHT_MAX}", field="weight")
    for field, label in (
        ("address", request.address),
        ("zone", request.zone),
        ("version", request.version),
    ):
        _check_label(field, label, may_be_empty=True)
    _check_tags(request.tags)
    for index, tag in enumerate(request.tags):
        if tag.startswith("!"):
            raise InvalidRequest(
                f"tags[{index}]: must not start with '!', which excludes a tag in a query",
                field=f"tags[{index}]",
            )
    _check_metadata(request.metadata)
    _check_status("status", request.status)


def _check_label(field: str, label: str, may_be_empty: bool = False) -> None:
    if not label and not may_be_empty:
        raise InvalidRequest(f"{field}: must not be empty", field=field)
    if len(label.encode()) > LABEL_BYTES_MAX:
        raise InvalidRequest(f"{field}: at most {LABEL_BYTES_MAX} bytes", field=field)
    if not label.isprintable():
        raise InvalidRequest(f"{field}: printable characters only", field=field)


def _check_tags(tags: list[str]) -> None:
    if len(tags) > TAGS_MAX:
        raise InvalidRequest(f"tags: at most {TAGS_MAX} of them", field="tags")
    for index, tag in enumerate(tags):
        _check_label(f"tags[{index}]", tag)


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > METADATA_MAX:
        raise InvalidRequest(f"metadata: at most {METADATA_MAX} entries", field="metadata")
    for key, value in metadata.items():
        if len(value.encode()) > METADATA_VALUE_BYTES_MAX:
            raise InvalidRequest(
                f"metadata.{key}: at most {METADATA_VALUE_BYTES_MAX} bytes",
                field=f"metadata.{key}",
            )


def _check_status(field: str, status: str) -> None:
    if status not in STATUSES:
        raise InvalidRequest(f"{field}: one of {', '.join(STATUSES)}", field=field)


def _check_set_status(request: ServiceSetStatus) -> None:
    _check_status("status", request.status)


def _check_discover(request: ServiceDiscover) -> None:
    _check_tags(request.tags)
    _check_metadata(request.metadata)
    for index, status in enumerate(request.statuses):
        if status != model.ANY_STATUS:
            _check_status(f"statuses[{index}]", status)
    try:
        model.version_filter(request.version)
    except ValueError as error:
        raise InvalidRequest(f"version: {error}", field="version") from None


def _name_instance(request: ServiceRegister, caller: Caller, id: int) -> None:
    if not request.instance:
        request.instance = f"{chosen_id(caller, id):016x}"


def _discover(view: View, request: ServiceDiscover) -> ServiceDiscoverResult:
    return ServiceDiscoverResult(view.revision, model.discover(view, request))


def _discover_ranges(request: ServiceDiscover) -> list[KeyRange]:
    return [model.instances(request.namespace, request.service)]


def _list(view: View, request: ServiceList) -> ServiceListResult:
    return ServiceListResult(model.summaries(view, request.namespace, request.prefix))


def _list_ranges(request: ServiceList) -> list[KeyRange]:
    return [model.instances_by_prefix(request.namespace, request.prefix)]


OPERATIONS: dict[type[Any], Change | Query | Live] = {
    ServiceRegister: Change(_check_register, _name_instance, instead=admit_record),
    ServiceDeregister: Change(),
    ServiceSetStatus: Change(_check_set_status),
    ServiceDiscover: Query(_discover, _check_discover, _discover_ranges),
    ServiceList: Query(_list, ranges=_list_ranges),
    ServiceWatch: Live(serve_watch, fresh=True),
}


def _routes() -> Routes:
    made = Routes("Services")
    past = (errors.Compacted, errors.FutureRevision)
    made.add(
        "POST",
        "/services/{service:path}/instances",
        ServiceRegister,
        ServiceRegisterResult,
        summary="Register an instance, or replace its registration",
        raises=(errors.SessionNotFound,),
        example={
            "session": "0000000000000a1b",
            "instance": "orders-1",
            "address": "10.0.0.5",
            "port": 8080,
            "tags": ["blue"],
        },
        descriptions={"instance": "Its id; left out, the server makes one."},
    )
    made.add(
        "DELETE",
        "/services/{service:path}/instances/{instance}",
        ServiceDeregister,
        ServiceResult,
        summary="Remove an instance",
    )
    made.add(
        "PUT",
        "/services/{service:path}/instances/{instance}/status",
        ServiceSetStatus,
        ServiceResult,
        summary="Set the status of an instance",
        raises=(errors.NotFound,),
        example={"status": "maintenance", "reason": "kernel update"},
    )
    made.add(
        "GET",
        "/services/{service:path}/instances",
        ServiceDiscover,
        ServiceDiscoverResult,
        summary="Discover the instances of a service",
        raises=past,
        descriptions={
            "tags": "All must be there; one with `!` in front must not.",
            "metadata": "`key=value`, once for each.",
            "version": "One version, or comparisons such as `>=2,<3`.",
            "statuses": "Left out `passing` and `warning`; `*` for all.",
        },
    )
    made.add(
        "GET",
        "/services",
        ServiceList,
        ServiceListResult,
        summary="List the services with their instances by status",
        raises=past,
    )
    made.stream(
        "/services/watch",
        ServiceWatch,
        (ServiceSnapshot, ServiceChange),
        summary="Stream the instances of one or all services",
        raises=past,
        descriptions={
            "service": "Left out, all services of the namespace.",
            "start_revision": "The last revision seen; left out, the stream begins anew.",
        },
    )
    return made


API = DomainApi(DOMAIN, OPERATIONS, _routes().router)
