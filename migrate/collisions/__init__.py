"""Equal primary and unique keys, found by scanning the shards before they are merged."""

from migrate.collisions.find import Collision, find_collisions

__all__ = ["Collision", "find_collisions"]
