"""Moves sharded MySQL ledgers into TiDB while money keeps moving."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ledger-migrate")
except PackageNotFoundError:  # a source tree on PYTHONPATH, not installed
    __version__ = "0+source"
