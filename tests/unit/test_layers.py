"""Who may import whom: verification shares no code with what reads, encodes and writes rows for copy and sync."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = {"model", "config", "db", "catalog", "routes", "errors", "ledger"}


def imports(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("verify"), ids=lambda p: str(p.relative_to(ROOT)))
def test_verify_imports_only_what_is_shared(path: Path) -> None:
    allowed = SHARED | ({"command"} if path.name == "cli.py" else set())
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "migrate":
            assert rest.split(".")[0] in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", files("migrate"), ids=lambda p: str(p.relative_to(ROOT)))
def test_migrate_imports_verify_only_at_its_edge(path: Path) -> None:
    inside = path.relative_to(ROOT / "migrate")
    if inside.parts[0] == "cutover" or inside.name == "cli.py" or inside.name.startswith("rehearse"):
        return
    assert not [name for name in imports(path) if name.split(".")[0] == "verify"]
