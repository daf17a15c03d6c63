"""completion: the words and flags of coordctl, for shells."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from coordinator.cli import output
from coordinator.cli.command import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordinator.cli.command import Context, Nouns, Parser

SHELLS = ("bash", "zsh", "fish")

_BASH = """# bash completion of coordctl: source <(coordctl completion bash)
_coordctl() {{
    local word path="" current="${{COMP_WORDS[COMP_CWORD]}}" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        word="${{COMP_WORDS[at]}}"
        case "$path $word" in
{paths}
        esac
    done
    local words=""
    case "$path" in
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _coordctl coordctl
"""
_ZSH = """#compdef coordctl
# zsh completion of coordctl: source <(coordctl completion zsh)
autoload -U +X bashcompinit && bashcompinit
"""


def add(nouns: Nouns, build: Callable[[], Parser]) -> None:
    """Add the command.

    Args:
        nouns: Where to.
        build: Makes the parser of all commands.
    """

    async def run(context: Context) -> None:
        (shell,) = context.arguments(1, 1, f"completion takes one of {', '.join(SHELLS)}")
        if shell not in SHELLS:
            raise CommandError(f"completion: {shell!r} is none of {', '.join(SHELLS)}", 128)
        output.write(script(shell, build()).encode())

    usage = "|".join(SHELLS)
    nouns.command("completion", run, usage, "print what completes commands in a shell")


def script(shell: str, parser: Parser) -> str:
    """Give the script for a shell."""
    tree = list(walk(parser, ""))
    if shell == "fish":
        return _fish(tree)
    paths = "\n".join(
        f'            {shlex.quote(path)}) path="$path $word" ;;' for path, *_ in tree if path
    )
    words = "\n".join(
        f"        {shlex.quote(path)}) words={shlex.quote(' '.join([*below, *flags]))} ;;"
        for path, below, flags in tree
    )
    bash = _BASH.format(paths=paths, words=words)
    return _ZSH + bash if shell == "zsh" else bash


def walk(
    parser: argparse.ArgumentParser, path: str
) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Give each command: its path, the words below it with what they do, and its flags."""
    below: dict[str, str] = {}
    children: dict[str, argparse.ArgumentParser] = {}
    flags = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            children |= action.choices
            below |= {one.dest: one.help or "" for one in action._choices_actions}
        elif action.help != argparse.SUPPRESS:
            flags += [name for name in action.option_strings if name.startswith("--")]
    words: dict[str, argparse.ArgumentParser] = getattr(parser, "words", {})
    below |= dict.fromkeys(words, "")
    yield path, below, flags
    for name, child in (children | words).items():
        yield from walk(child, f"{path} {name}")


def _fish(tree: list[tuple[str, dict[str, str], list[str]]]) -> str:
    lines = ["# fish completion of coordctl: coordctl completion fish | source"]
    for path, below, flags in tree:
        names = path.split()
        seen = " ".join(f"__fish_seen_subcommand_from {name}; and" for name in names)
        none = f"not __fish_seen_subcommand_from {' '.join(below)}" if below else "true"
        condition = shlex.quote(f"{seen} {none}".strip())
        for word, summary in below.items():
            told = f" -d {shlex.quote(summary)}" if summary else ""
            lines.append(f"complete -c coordctl -f -n {condition} -a {word}{told}")
        lines += [f"complete -c coordctl -n {condition} -l {flag[2:]}" for flag in flags if names]
    return "\n".join(lines) + "\n"
