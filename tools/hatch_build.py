"""Build hook: carries the migrations and the built dashboard inside the server's wheel.

An editable install gets neither: there the product reads `alembic/` and `dashboards/` of the
checkout, so that a change shows at once.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {
    "alembic": "coordinator/_alembic",
    "dashboards/plain": "coordinator/_dashboards/plain",
    "dashboards/web/dist": "coordinator/_dashboards/web/dist",
}


class CarriedFolders(BuildHookInterface[Any]):
    """Adds the folders beside the package to a standard wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name what travels along; `version` is the kind of wheel, standard or editable."""
        if version != "standard":
            return
        for source, target in CARRIED.items():
            path = Path(self.root, source)
            if path.exists():
                build_data["force_include"][str(path)] = target
