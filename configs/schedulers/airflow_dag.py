"""Verification in Airflow 2.7 or later: a round of watching every ten minutes, all of it once a night.

Copy this file to the DAG folder. The workers need ledger-migrate in VENV, the config in CONFIG, and the variables that
the config names (MYSQL_PASSWORD ..) in their environment or in Airflow's secrets backend.

A task fails for what verification finds (exit code 1) and isn't tried again: a mismatch doesn't go away by asking
twice. What it couldn't finish (3) is tried again. A watch round fails only for what no earlier round has told.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime, timedelta
from typing import Any

from airflow.decorators import dag, task
from airflow.exceptions import AirflowException, AirflowFailException

VENV = os.environ.get("LEDGER_MIGRATE_VENV", "/opt/ledger-migrate")
CONFIG = os.environ.get("MIGRATE_CONFIG", "/etc/ledger-migrate/payment.toml")


def verify(*arguments: str) -> dict[str, Any]:
    """Runs verify; its JSON. The task fails, for good or to be tried again, by the exit code."""
    done = subprocess.run(
        [f"{VENV}/bin/verify", "-c", CONFIG, *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == 1:
        raise AirflowFailException(f"the two sides don't agree: {done.stdout[-4000:]}")
    if done.returncode == 2:
        raise AirflowFailException("usage or config is wrong; the task's log says what")
    if done.returncode:
        raise AirflowException(f"verify ended with {done.returncode}; the task's log says why")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@dag(schedule="*/10 * * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["ledger"])
def ledger_watch() -> None:
    @task(retries=2, retry_delay=timedelta(minutes=1), execution_timeout=timedelta(minutes=30))
    def one_round() -> dict[str, Any]:
        found = verify("watch", "--every", "10m", "--within", "1d", "--once", "--new-only")
        return {"open": len(found["watch"]["known"]), "oldest_proof_s": found["watch"]["oldest_proof_s"]}

    one_round()


@dag(schedule="30 18 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["ledger"])
def ledger_verify_all() -> None:
    # killed or tried again, the same command goes on with the ranges that aren't proven yet
    @task(retries=3, retry_delay=timedelta(minutes=5), execution_timeout=timedelta(hours=6))
    def everything() -> dict[str, Any]:
        return {"seconds": verify("all", "--strong")["seconds"]}

    everything()


ledger_watch()
ledger_verify_all()
