"""A table's definition as JSON and back: what the state schema keeps of a shard's shape."""

from __future__ import annotations

import json
from dataclasses import asdict

from migrate.model import Column, Index, TableDef


def definition_to_json(definition: TableDef) -> str:
    """The definition as one line of ASCII JSON; the same text for equal definitions."""
    fields = asdict(definition)
    for column in fields["columns"]:
        del column["origin"]  # what is kept is what stands on a shard
    return json.dumps(fields, separators=(",", ":"))


def definition_from_json(text: str | bytes) -> TableDef:
    """The definition that `definition_to_json` wrote. ValueError, KeyError or TypeError if it is no such text."""
    fields = json.loads(text)
    columns = tuple(Column(**c) for c in fields.pop("columns"))
    indexes = tuple(
        Index(i["name"], i["unique"], tuple((c, p) for c, p in i["parts"]), i["kind"]) for i in fields.pop("indexes")
    )
    for key in ("foreign_keys", "checks", "triggers"):
        fields[key] = tuple(fields[key])
    return TableDef(columns=columns, indexes=indexes, **fields)
