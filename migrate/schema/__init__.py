"""The target's schema: derived from the sources' catalogue, created, and read back."""

from migrate.schema.create import SchemaReport, create_schema
from migrate.schema.ddl import TargetSchema, apart, shards_apart, target_ddl
from migrate.schema.shape import differences

__all__ = ["SchemaReport", "TargetSchema", "apart", "create_schema", "differences", "shards_apart", "target_ddl"]
