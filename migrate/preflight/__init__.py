"""Whether servers, accounts, tables and data are fit to migrate: all that isn't, each with its remedy."""

from migrate.preflight.report import Check, Report
from migrate.preflight.run import run_preflight

__all__ = ["Check", "Report", "run_preflight"]
