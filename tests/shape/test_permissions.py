"""Every command and query of the system says what it needs, and the page tells the same."""

import importlib
import re

from coordinator.domains import DOMAINS, apis
from coordinator.replica.machine import Machine
from coordinator.replica.membership import CHANGES
from coordinator.replica.permissions import CORE_RULES, MEMBERS_OWN
from coordinator_sdk.protocol import REQUESTS, auth
from coordinator_sdk.protocol.cluster import ClientRegister
from tools.permission_table import PAGE, with_table

ANYBODY = {
    "hello",
    "ping",
    "stream.credit",
    "stream.cancel",
    "watch.progress",
    "auth.login",
    "auth.reauthenticate",
    "auth.whoami",
}
"""What is open to somebody who has not proved to be a user."""


def rules() -> dict[type, object]:
    """Give all rules; nothing has two."""
    found: dict[type, object] = dict(CORE_RULES)
    for domain in DOMAINS:
        assert not set(found) & set(domain.rules), domain.name
        found |= domain.rules
    return found


def test_everything_has_a_rule() -> None:
    """Each request of a client, each command of the log and each operation has exactly one rule."""
    known = set(rules())
    operations = {kind for api in apis() for kind in api.operations}
    everything = {*REQUESTS, *Machine(DOMAINS).applies, *CHANGES, *operations}
    assert everything - known == set()
    assert known - everything <= {auth.Login, auth.Reauthenticate}


def test_a_domain_rules_over_its_own() -> None:
    """The rules of a domain are for the requests of its own protocol module."""
    for domain in DOMAINS:
        module = importlib.import_module(f"coordinator_sdk.protocol.{domain.name}")
        assert set(domain.rules) == set(module.REQUESTS), domain.name


def test_what_is_open_is_a_short_list() -> None:
    """Whoever has not proved to be a user may do exactly what this list says."""
    machine = Machine(DOMAINS)
    found = {
        str(kind.__struct_config__.tag) for kind, rule in machine.rules.items() if not rule.check
    }
    assert found == ANYBODY


def test_members_own_commands_can_not_be_sent() -> None:
    """What members propose by themselves is no request of a client."""
    assert not MEMBERS_OWN & set(REQUESTS)
    assert ClientRegister not in REQUESTS


def test_the_actions_are_those_that_rules_name() -> None:
    """Every action is asked for by some rule, and every rule names known ones."""
    text = " ".join(rule.needs for rule in Machine(DOMAINS).rules.values())
    assert set(re.findall(r"`([a-z]+:[a-z-]+)`", text)) == set(auth.ACTIONS)


def test_the_page_is_up_to_date() -> None:
    """The reference has the table that the rules make: python -m tools.permission_table."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page)
