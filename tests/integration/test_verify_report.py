"""The report of a run on real servers: one page that needs nothing, with the faults, without account numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from migrate.config import Config
from migrate.sandbox import Sandbox
from tests.integration.books import Books
from tests.verify_lab import Lab
from verify.cli import main
from verify.evidence import keep, loaded
from verify.report import report_of
from verify.run import verify_all, verify_counts

ACCOUNT = 6222021234567


@pytest.fixture(scope="module")
def config(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """A ledger with a lost entry, a balance that is one off, and a row too many; the account's number is a long one."""
    lab = Lab(servers.sources, servers.target, tmp_path_factory.mktemp("report"), "vrpt")
    books = Books(lab)
    config = books.config(lab.folder)
    ledger = (
        Path(str(config.pack)) / "ledger.toml"
    )  # a posting may wait for somebody else, and one of that account does
    ledger.write_text(
        ledger.read_text("utf-8").replace("max_age_s = 300", "max_age_s = 90000000\nat_rest = true"), "utf-8"
    )
    books.change("posting", "status = 'QUEUED'", "account_id = 10")
    for table, column in (("account", "id"), ("entry", "account_id"), ("clearing", "id"), ("snapshot", "account_id"),
                          ("posting", "account_id")):  # fmt: skip
        books.change(table, f"{column} = {ACCOUNT}", f"{column} = 10")
    keep(config, verify_counts(config))
    clean = verify_all(config)
    assert clean.ok, clean.text()
    keep(config, clean)
    lab.on_target(
        "DELETE FROM $.entry WHERE id = 5003",
        f"UPDATE $.account SET balance = balance + 1 WHERE id = {ACCOUNT}",
        "INSERT INTO $.posting VALUES (1, 1, 77, 'CNY', 'DONE', '2026-03-01')",
    )
    keep(config, verify_all(config))
    yield config
    for table in ("evidence", "repair"):
        lab.on_target(f"DELETE FROM migrate_meta.{table} WHERE migration = '{lab.schema}'")
    lab.drop()


class Page(HTMLParser):
    """What a page asks for, whether its elements are closed, and its text."""

    VOID = frozenset({"meta", "br", "path", "use", "img", "link", "circle", "rect", "line"})

    def __init__(self, text: str):
        super().__init__()
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.asked += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]
        self.ids += [told["id"] or ""] if "id" in told else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_stands_alone_and_tells_what_is_wrong(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report_of(config, None).write_html(path)
    text = path.read_text("utf-8")
    page = Page(text)
    assert (
        not page.open and not page.asked and "<script" not in text and "@import" not in text and "url(http" not in text
    )
    assert len(page.ids) == len(set(page.ids))
    said = " ".join(" ".join(page.text).split())
    assert "Not proven: something is wrong" in said and "3 of them differ" in said
    for words in (
        "debit equals credit",
        "1.00 CNY",
        "buffer drained: in transit",
        "age_s ",
        "TSO",
        "What this verification can't see",
        "differs",
        "in figures",
    ):
        assert words in said, words
    for cut in loaded(config).document["result"]["cuts"]:
        assert cut["tso"] in said and all(str(p["gtid_set"]) in said for p in cut["positions"].values())
    assert str(ACCOUNT) not in text and "••••4567" in said
    record = loaded(config)
    assert record.digest in said and record.previous in said and "whole: 3 records" in said
    assert "<svg" in text and "var(--source)" in text and "prefers-color-scheme: dark" in text
    assert config.target.password not in text


def test_a_clean_run_and_a_run_without_totals_have_a_page_too(config: Config, tmp_path: Path) -> None:
    for run, words in ((1, "Both sides agree"), (2, "all hold")):
        path = tmp_path / f"{run}.html"
        report_of(config, run).write_html(path)
        page = Page(path.read_text("utf-8"))
        assert not page.open and words in " ".join(page.text)


def test_machines_get_json_junit_and_csv(config: Config, tmp_path: Path) -> None:
    def run(*args: str) -> tuple[int, Any]:
        done = CliRunner().invoke(main, ["-c", str(config.path), "report", *args])
        return done.exit_code, done.output

    junit, table, plain = tmp_path / "r.xml", tmp_path / "r.csv", tmp_path / "plain.csv"
    code, told = run("--json", "--junit", str(junit), "--csv", str(table))
    assert code == 0
    document = json.loads(told)
    assert (document["ok"], document["run"], document["chain"]["ok"]) == (False, 3, True)
    assert str(ACCOUNT) not in told
    suites = {s.get("name"): s for s in ElementTree.parse(junit).getroot()}
    assert suites["tables"].get("failures") == "3" and suites["evidence"].get("failures") == "0"
    failed = {c.get("name") for c in suites["invariants"] if c.find("failure") is not None}
    assert "debit_equals_credit" in failed and "buffer_drained" not in failed
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(rows) == document["record"]["mismatches"]["count"] == len(document["mismatches"])
    assert {r["kind"] for r in rows} >= {"missing", "extra", "different"}
    assert any(r["at_risk"] == "CNY=1.0000" for r in rows) and not any(str(ACCOUNT) in str(r) for r in rows)
    assert run("--unmasked", "--csv", str(plain))[0] == 0
    assert str(ACCOUNT) in plain.read_text("utf-8")
    run("--run", "2", "--csv", str(table))
    assert table.read_text("utf-8").strip() == "target,kind,key,shard,columns,source,target_values,at_risk"


def test_a_broken_chain_fails_the_check_and_shows(config: Config, tmp_path: Path) -> None:
    path = config.path.with_suffix(".evidence") / "000002.json"
    kept = path.read_text("utf-8")
    path.write_text(kept.replace("true", "false", 1) + " ", "utf-8")
    try:
        done = CliRunner().invoke(main, ["-c", str(config.path), "report", "--check-chain", "--html",
                                         str(tmp_path / "b.html")])  # fmt: skip
        assert done.exit_code == 1 and "BROKEN" in done.output and "000002.json" in done.output
        assert "BROKEN" in (tmp_path / "b.html").read_text("utf-8")
    finally:
        path.write_text(kept, "utf-8")
    assert CliRunner().invoke(main, ["-c", str(config.path), "report", "--check-chain"]).exit_code == 0
    assert CliRunner().invoke(main, ["-c", str(config.path), "report", "--run", "99"]).exit_code == 2
