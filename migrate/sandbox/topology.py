"""The databases of a pack: how they are named, how many shard sets each has, and what a row of them is sharded by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from migrate.roles import TableName

LEDGER = "ledger"  # the name of the database of accounts and entries, and of all tables that no other has


class Topology(BaseModel):
    """Names of databases and of shard sets, as formats of their numbers, and how many there are by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Annotated[str, Field(alias="schema")]
    shard: str = "{:02d}"
    schemas_per_instance: Annotated[int, Field(ge=1)] = 2
    shards_per_schema: Annotated[int, Field(ge=1)] = 2

    @field_validator("schema_", "shard")
    @classmethod
    def _format(cls, text: str) -> str:
        if text.format(7) == text.format(8):
            raise ValueError("expected a format of the number, such as 'payment_{:02d}'")
        return text


class Database(Topology):
    """Tables that are sharded by themselves, in databases of their own: by the account that a row lies with, as the
    ledger's are, or by that account's owner."""

    tables: Annotated[tuple[TableName, ...], Field(min_length=1)]
    by: Literal["account", "owner"]


class Spots:
    """Where rows live. The shard sets of all databases have one row of numbers, those of the ledger's first."""

    def __init__(self, databases: Mapping[str, Database], counts: Mapping[str, int]):
        """`counts`: how many shard sets each database has, `LEDGER` too."""
        self.ledger = first = counts[LEDGER]
        self._of: dict[str, tuple[bool, int, int]] = {}
        for name, database in databases.items():
            for table in database.tables:
                self._of[table] = (database.by == "owner", first, counts[name])
            first += counts[name]

    def spot(self, table: str | None, account: int, owner: int) -> int:
        """The number of the shard set of that table's row which lies with that account; an entry's for None."""
        by_owner, first, count = self._of.get(table or "", (False, 0, self.ledger))
        return first + (owner if by_owner else account) % count
