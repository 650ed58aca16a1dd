"""docs/commands.md is what the commands say of themselves. To write it anew: python -m tests.unit.test_docs"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from migrate.cli import cli as migrate
from migrate.ledger import load_ledger
from migrate.packs import pack_dir, pack_names
from verify.cli import main as verify

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
_HEAD = """\
# Commands

`-c FILE` (or MIGRATE_CONFIG) goes before the verb, `--debug` too. Every command takes `--json` where it has a result,
and exits 0 all well, 1 a mismatch or a no-go, 2 usage or config, 3 it could not finish, 4 the outcome is unknown,
130 interrupted.
"""


def _leaves(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            assert found is not None
            yield from _leaves(found, verb, context)
    else:
        yield context.command_path, context


def _page() -> str:
    parts = [_HEAD]
    for name, group in (("migrate", migrate), ("verify", verify)):
        for path, context in _leaves(group, name):
            parts.append(f"## {path}\n\n```text\n{context.command.get_help(context)}\n```\n")
    return "\n".join(parts)


def test_the_reference_is_what_the_commands_say() -> None:
    # In a process of its own: a group that a test has called by itself keeps the help option that it had there.
    page = "from tests.unit.test_docs import _page; print(_page(), end='')"
    said = subprocess.run([sys.executable, "-c", page], capture_output=True, text=True, check=True).stdout
    assert PAGE.read_text(encoding="utf-8") == said, "run: python -m tests.unit.test_docs"


def test_every_command_has_an_example_and_explains_its_options() -> None:
    for name, group in (("migrate", migrate), ("verify", verify)):
        for path, context in _leaves(group, name):
            assert "Example" in (context.command.help or ""), path
            for option in context.command.params:
                if isinstance(option, click.Option):
                    assert option.help, f"{path} {option.name}"


@pytest.mark.parametrize("pack", pack_names())
def test_every_pack_tells_what_it_is(pack: str) -> None:
    """Accounts and flows with a diagram, what the sharding key hides, every rule, and how it is rehearsed."""
    text = (pack_dir(pack) / "README.md").read_text(encoding="utf-8")
    ledger = load_ledger(pack)
    for name in (*ledger.built_in, *(e.name for e in ledger.equation), *(i.name for i in ledger.invariant)):
        assert f"`{name}`" in text, name
    for words in ("## Accounts", "hide", "## What the invariants mean", f"rehearse --sandbox --pack {pack}", "►"):
        assert words in text, words
    assert "lows" in "".join(line for line in text.splitlines() if line.startswith("## ")), "## Flows"


if __name__ == "__main__":
    PAGE.write_text(_page(), encoding="utf-8")
