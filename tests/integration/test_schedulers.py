"""The scheduler examples in configs/ do what they say: run for real, with the schedulers themselves left out."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from migrate.config import load_config
from migrate.packs import config_dir
from migrate.sandbox import Sandbox
from tests.verify_lab import Lab
from verify.cli import main

FOLDER = config_dir() / "schedulers"


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path, "sch")
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [(n, n % 7) for n in range(40)])
    lab.config()
    yield lab
    lab.drop()


def test_the_crontab_mails_news_only(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "secrets.env").touch()
    text = (FOLDER / "crontab").read_text("utf-8")
    (command,) = re.findall(r"^\*/10 \* \* \* \* (.*)$", text, re.MULTILINE)
    command = command.replace("/etc/ledger-migrate", str(tmp_path)).replace("/run/lock", str(tmp_path))
    command = command.replace("\\%", "%").replace("--within 1d", "--within 10m")
    assert "%" not in command.replace("'%s\\n'", "")  # cron makes a new line of it
    path = lab.config().path
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "MIGRATE_CONFIG": str(path)}

    def mail() -> str:
        done = subprocess.run(["/bin/sh", "-c", command], env=env, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert mail() == ""
    lab.on_target("DELETE FROM $.t WHERE id = 7")
    assert f"NEW missing  {lab.schema}.t  id=7" in mail()
    assert mail() == ""


def test_the_airflow_tasks_fail_for_good_or_to_be_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed(Exception):
        pass

    class FailedForGood(Failed):
        pass

    tasks: dict[str, Callable[[], Any]] = {}

    def dag(**options: Any) -> Callable[[Any], Any]:
        assert options["max_active_runs"] == 1
        return lambda function: function

    def task(**options: Any) -> Callable[[Any], Any]:
        def made(function: Callable[[], Any]) -> Callable[[], None]:
            tasks[function.__name__] = function
            return lambda: None

        assert options["retries"]
        return made

    decorators, exceptions = types.ModuleType("airflow.decorators"), types.ModuleType("airflow.exceptions")
    decorators.dag, decorators.task = dag, task  # type: ignore[attr-defined]
    exceptions.AirflowException, exceptions.AirflowFailException = Failed, FailedForGood  # type: ignore[attr-defined]
    for name, module in (
        ("airflow", types.ModuleType("airflow")), ("airflow.decorators", decorators), ("airflow.exceptions", exceptions)
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    config = lab.config()
    monkeypatch.setenv("LEDGER_MIGRATE_VENV", str(Path(sys.executable).parents[1]))
    monkeypatch.setenv("MIGRATE_CONFIG", str(config.path))
    runpy.run_path(str(FOLDER / "airflow_dag.py"))
    assert tasks["one_round"]()["open"] == 0
    assert tasks["everything"]()["seconds"] > 0
    lab.on_target("UPDATE $.t SET v = 100 WHERE id = 7")
    with pytest.raises(FailedForGood, match="the two sides don't agree"):
        tasks["everything"]()
    lab.on_shard(0, "DROP TABLE $.t_0")
    config.path.write_text(config.path.read_text().replace(f":{lab.target.port}", ":1") + "[run]\npatience_s = 0\n")
    with pytest.raises(Failed) as caught:
        tasks["one_round"]()
    assert not isinstance(caught.value, FailedForGood)


def test_the_kubernetes_jobs_are_commands_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = list(yaml.safe_load_all((FOLDER / "cronjob.yaml").read_text("utf-8")))
    config, *jobs = documents
    (tmp_path / "payment.toml").write_text(config["data"]["payment.toml"])
    monkeypatch.setenv("MYSQL_PASSWORD", "a@b")
    monkeypatch.setenv("TIDB_PASSWORD", "c")
    read = load_config(tmp_path / "payment.toml")
    assert read.replicas["m1"].password == "a@b"
    assert len(jobs) == 2
    for job in jobs:
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"][0] == "verify"
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        parsed = CliRunner().invoke(main, ["-c", str(tmp_path / "none.toml"), *container["args"][1:]])
        assert "none.toml: no such file" in str(parsed.output) + str(parsed.exception), parsed.output
