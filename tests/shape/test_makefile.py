"""The Makefile has the targets that people are told about."""

import re
import subprocess

from tests.shape.source import ROOT, files

PROMISED = (
    "run test test-full check fix ci bench drill sim soak raft-referee cluster demo dist "
    "system-deps clean lock dashboard"
).split()

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = dict(re.findall(r"^([a-z-]+):(?:[^#\n]*)##\s*(\S.*)$", MAKEFILE, re.MULTILINE))


def test_every_promised_target_exists() -> None:
    """Every promised target exists, is phony and tells in one line what it does."""
    assert [target for target in PROMISED if target not in TARGETS] == []
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))
    assert sorted(set(TARGETS) - phony) == []


def test_help_lists_every_target() -> None:
    """`make help`, and `make` alone, list every target with its line."""
    for command in (["make", "help"], ["make"]):
        shown = subprocess.run(
            [*command, "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for target, line in TARGETS.items():
            assert re.search(rf"^  make {target} +{re.escape(line)}$", shown, re.MULTILINE)


def commands(path: str) -> list[str]:
    """Return the `make` commands that a page or a script tells."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        spans = re.findall(r"`([^`\n]+)`", text)
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        text = "\n".join([*spans, *blocks])
    return re.findall(r"^\s*(?:\$ )?make((?: [\w=./-]+)+)", text, re.MULTILINE)


def test_pages_name_only_targets_that_exist() -> None:
    """Every `make ...` in a page and in the build server's script exists."""
    unknown = [
        f"{path}: make{command}"
        for path in files()
        if path.endswith(".md") or path == ".ci/run"
        for command in commands(path)
        for word in command.split()
        if re.fullmatch("[a-z][a-z-]*", word) and word not in TARGETS
    ]
    assert unknown == []


def test_recipes_run_what_exists() -> None:
    """Every module and script that a recipe runs is in the checkout."""
    modules = set(re.findall(r"-m ((?:tests|tools|examples)[\w.]*)", MAKEFILE))
    wanted = {script: [script] for script in re.findall(r"\btools/\w+\.(?:sh|py)", MAKEFILE)}
    for module in modules:
        path = module.replace(".", "/")
        wanted[module] = [f"{path}.py", f"{path}/__main__.py"]
    missing = [name for name, paths in wanted.items() if not set(paths) & set(files())]
    assert sorted(missing) == []
