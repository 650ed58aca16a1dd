"""How a pack's rows find their shards: sharding.toml, whose formulas make a shard's number from a sharding key."""

from __future__ import annotations

import ast
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from migrate.config import read_toml
from migrate.ledger import ColumnName, TableName
from migrate.packs import pack_dir

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.RShift, ast.LShift, ast.BitAnd, ast.BitOr)
Key = int | str


def crc32(key: Key) -> int:
    """CRC32 of a text as MySQL's CRC32() has it."""
    return zlib.crc32(str(key).encode())


def formula(text: str) -> Callable[[Key, int], int]:
    """The function of a formula such as `key % shards` or `crc32(key) >> 4 & 15`: whole numbers only.

    It takes the sharding key and the number of shards. ValueError if the text is anything else.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise ValueError(f"not a formula: {text!r}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("key", "shards", "crc32"):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crc32":
            continue
        if isinstance(node, ast.Constant) and type(node.value) is int:
            continue
        if not isinstance(node, (ast.Expression, ast.BinOp, ast.Load, *_OPERATORS)):
            raise ValueError(f"{text!r}: a formula has key, shards, crc32(key), whole numbers and + - * // % >> << & |")
    code = compile(tree, "<formula>", "eval")
    return lambda key, shards: int(eval(code, {"__builtins__": {}}, {"key": key, "shards": shards, "crc32": crc32}))


def _formula(text: str) -> str:
    formula(text)
    return text


Formula = Annotated[str, AfterValidator(_formula)]


class Sharding(BaseModel):
    """Tables that are sharded alike. `number` makes the last number in the name of the shard's table, `schema` that in
    its database's name, which is needed only where databases number their tables alike. `keys`: target table to the
    column that holds its sharding key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: Formula
    schema_: Formula | None = Field(default=None, alias="schema")
    keys: Annotated[dict[TableName, ColumnName], Field(min_length=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sharding: Annotated[tuple[Sharding, ...], Field(min_length=1)]


def load_sharding(pack: str | None) -> tuple[Sharding, ...]:
    """The shardings of a pack, by its name or folder; none if it has no sharding.toml. ConfigError names the key."""
    path: Path | None = pack_dir(pack) / "sharding.toml" if pack else None
    if path is None or not path.is_file():
        return ()
    made: Any = read_toml(path, _File)
    return tuple(made.sharding)
