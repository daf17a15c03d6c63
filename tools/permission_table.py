"""Write the table of permissions into its page: what each command and query needs.

Run as ``python -m tools.permission_table``; a test tells when the page is out of date.
"""

from __future__ import annotations

from pathlib import Path

from coordinator.domains import DOMAINS
from coordinator.replica.permissions import CORE_RULES, MEMBERS_OWN
from coordinator_sdk.protocol import auth

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "permissions.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table() -> str:
    """Give the table, from the rules that are asked."""
    rules = {kind: rule for kind, rule in CORE_RULES.items() if kind not in MEMBERS_OWN}
    for domain in DOMAINS:
        rules |= domain.rules
    rows = sorted((str(kind.__struct_config__.tag), rule.needs) for kind, rule in rules.items())
    lines = ["| operation | needs |", "| --- | --- |"]
    lines += [f"| `{tag}` | {needs} |" for tag, needs in rows]
    actions = ", ".join(f"`{action}`" for action in auth.ACTIONS)
    return "\n".join([BEGIN, "", *lines, "", f"All actions: {actions}.", "", END])


def with_table(page: str) -> str:
    """Give the page with the table that the rules make."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + table() + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
