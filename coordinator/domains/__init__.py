"""What users ask for: the list of domains, each a folder of its own.

Pure: importing this loads the models and commands, not the routes; those come with `apis`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from coordinator.domains.discovery.commands import DOMAIN as _discovery
from coordinator.domains.elections.commands import DOMAIN as _elections
from coordinator.domains.locks.commands import DOMAIN as _locks
from coordinator.domains.services.commands import DOMAIN as _services
from coordinator.domains.topics.commands import DOMAIN as _topics

if TYPE_CHECKING:
    from coordinator.api.registry import DomainApi
    from coordinator.replica.domain import Domain

DOMAINS: tuple[Domain, ...] = (_services, _topics, _locks, _elections, _discovery)
"""Every domain: the only list there is."""


def apis() -> tuple[DomainApi, ...]:
    """Load the operations and routes of every domain."""
    return tuple(import_module(f"{__name__}.{domain.name}.api").API for domain in DOMAINS)
