"""Moves sharded MySQL ledgers into TiDB while money keeps moving."""
