"""What the dashboard knows of the server is what the server says."""

import json
import re

from tests.shape.source import ROOT
from tools import dashboard_types


def test_the_protocol_types_are_current() -> None:
    """The dashboard's view of the protocol was written from the structs as they are."""
    kept = (ROOT / dashboard_types.PAGE).read_text(encoding="utf-8")
    assert kept == dashboard_types.render(), "run `make fix`"


def test_every_operation_is_known() -> None:
    """Every operation has a shape to ask with and one that answers."""
    rendered = dashboard_types.render()
    for request in dashboard_types.requests():
        assert f'"{request.__struct_config__.tag}": ["{request.__name__}"' in rendered


def test_the_lock_file_names_no_address() -> None:
    """The packages are locked with digests and without the address of a registry."""
    lock = json.loads((ROOT / "dashboards/web/package-lock.json").read_text(encoding="utf-8"))
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert all("integrity" in entry for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())
    declared = lock["packages"][""]["devDependencies"].values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in declared)


def test_a_panel_is_a_folder_of_its_name() -> None:
    """Every page is one folder, which says what it is, and no page imports another's files."""
    panels = ROOT / "dashboards/web/src/panels"
    for folder in panels.iterdir():
        text = (folder / "panel.ts").read_text(encoding="utf-8")
        assert f'name: "{folder.name}"' in text
        assert (folder / "Page.svelte").is_file()
        for file in folder.rglob("*.*"):
            for imported in re.findall(r'from "(\.\./[^"]+)"', file.read_text(encoding="utf-8")):
                target = (file.parent / imported).resolve()
                assert panels not in target.parents or folder in target.parents, file


def test_nothing_is_written_as_markup() -> None:
    """No page writes text as HTML, so that no name can be markup."""
    source = ROOT / "dashboards/web/src"
    for file in source.rglob("*.*"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\{@html|innerHTML|insertAdjacentHTML|document\.write", text), file
