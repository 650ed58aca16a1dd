"""The configuration: strict, told by key, and no secret ever leaves it."""

from __future__ import annotations

import pickle
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from migrate.config import Config, load_config, parse_url
from migrate.errors import ConfigError, classify, redact

GOOD = """
[migration]
name = "payment"
pack = "payment"
[[source]]
name = "m1"
url = "mysql://migrator:${MYSQL_PASSWORD}@127.0.0.1:3307"
[[source]]
name = "m2"
url = "mysql://migrator:${MYSQL_PASSWORD}@[::1]"
[target]
url = "mysql://migrator:${TIDB_PASSWORD}@db.example.com:4000/"
[[route]]
schema = 'payment_\\d+'
table = 'account_entry_\\d+'
target = "payment.account_entry"
[[route]]
schema = 'payment_\\d+'
table = 'refund_\\d+'
target = "payment.refund"
key_collision = "interleave"
references = ["payment.account_entry.refund_id"]
[[ignore]]
schema = 'test'
[run]
workers = 3
"""
ENV = {"MYSQL_PASSWORD": "a", "TIDB_PASSWORD": "b"}

# Passwords as people and generators make them; NUL can't be in an environment.
passwords = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Config:
    path = tmp_path / "migration.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, ENV if env is None else env)


def test_a_good_file(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.name == config.pack == "payment"
    assert [(s.name, s.host, s.port, s.user, s.password) for s in config.sources] == [
        ("m1", "127.0.0.1", 3307, "migrator", "a"),
        ("m2", "::1", 3306, "migrator", "a"),
    ]
    assert (config.target.name, config.target.host, config.target.port) == ("target", "db.example.com", 4000)
    assert config.routes[1].references == ("payment.account_entry.refund_id",)
    assert config.ignores[0].matches("test", "whatever") and not config.ignores[0].matches("test2", "whatever")
    assert (config.run.workers, config.run.chunk_rows) == (3, 10_000)
    assert config.source("m2") is config.sources[1]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('pack = "payment"', 'pakc = "payment"', "migration.pakc: unknown key"),
        ("[run]", "[runn]", "runn: unknown key"),
        ("workers = 3", "workers = 0", "run.workers"),
        ("workers = 3", 'workers = "many"', "run.workers"),
        ("workers = 3", "chunk_rows = 99", "run.chunk_rows"),
        ('name = "payment"', 'name = "a b"', "migration.name"),
        ('name = "m2"', 'name = "m1"', "'m1' stands twice"),
        ('name = "m2"', 'name = "m 2"', "source[1].name"),
        ('name = "m2"', 'name = "target"', "source[1].name: 'target' stands for something else"),
        ('name = "m2"', 'name = "repair"', "give the instance another name"),
        ('target = "payment.refund"', 'target = "refund"', "route[1].target: expected schema.table"),
        ('target = "payment.refund"', 'target = "a.b.c"', "route[1].target: expected schema.table"),
        ('"payment.account_entry.refund_id"', '"payment.refund_id"', "route[1].references[0]"),
        ('key_collision = "interleave"', 'key_collision = "overwrite"', "route[1].key_collision"),
        (
            "'payment_\\d+'\ntable = 'refund",
            "'payment_('\ntable = 'refund",
            "route[1].schema: not a regular expression",
        ),
        ("table = 'refund_\\d+'", "", "route[1].table: missing"),
        ('url = "mysql://migrator:${TIDB_PASSWORD}@db.example.com:4000/"', "", "target.url: missing"),
        (
            "mysql://migrator:${TIDB_PASSWORD}@",
            "postgres://migrator:${TIDB_PASSWORD}@",
            "target.url: expected mysql://",
        ),
        ("db.example.com:4000/", "db.example.com:4000/payment", "target.url: expected mysql://"),
        ("db.example.com:4000/", "db.example.com:4000/?tls=1", "target.url: unknown URL option tls"),
        ("db.example.com:4000/", "db.example.com:4000/?ssl_ca=/no/such.pem", "ssl_ca: no such file"),
        ("${TIDB_PASSWORD}", "${NO_SUCH}", "target.url: environment variable NO_SUCH is not set"),
        ("[target]", "[target", "line 11"),
    ],
)
def test_what_is_wrong_is_told_by_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert told in str(error.value) and "migration.toml" in str(error.value)
    assert error.value.exit_code == 2


def test_all_wrong_keys_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)pakc.*wrokers"):
        load(tmp_path, GOOD.replace("pack", "pakc", 1).replace("workers", "wrokers"))


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source"):
        load(tmp_path, '[migration]\nname = "x"\n[target]\nurl = "mysql://a@b"\n')


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read it"):
        load_config(tmp_path)


@given(passwords)
@example("p@ss:w/ord?#%41&+ ")
@example("@")
@example("${HOME}")
@example("@127.0.0.1:3306/")
def test_a_password_from_the_environment_is_taken_as_it_is(password: str) -> None:
    endpoint = parse_url("mysql://migrator:${P}@127.0.0.1:3307/", "m1", {"P": password})
    assert (endpoint.password, endpoint.host, endpoint.port) == (password, "127.0.0.1", 3307)
    without = "Endpoint(name='m1', host='127.0.0.1', port=3307, user='migrator', tls=())"
    assert (repr(endpoint), str(endpoint)) == (without, "m1 (migrator@127.0.0.1:3307)")


@given(passwords)
def test_a_written_out_password_is_percent_decoded(password: str) -> None:
    from urllib.parse import quote

    url = f"mysql://migrator:{quote(password, safe='')}@h"
    assert parse_url(url, "m1", {}).password == password


secrets = st.text(string.ascii_letters + string.digits + "@:/#%?&'\"\\ $!", min_size=8, max_size=30).map(
    lambda text: f"S3c{text}"
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    secrets,
    st.sampled_from([("[run]", "[runn]"), ("4000/", "40x0/"), ("'test'", "'('"), ('"m2"', '"m1"'), ("3307", "")]),
)
def test_no_error_holds_a_password(tmp_path: Path, secret: str, fault: tuple[str, str]) -> None:
    """Whatever is wrong, and whether the password is written out or comes from the environment."""
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    for text, env in (
        (GOOD, {"MYSQL_PASSWORD": secret, "TIDB_PASSWORD": secret}),
        (GOOD.replace("${MYSQL_PASSWORD}", escaped).replace("${TIDB_PASSWORD}", escaped), {}),
    ):
        try:
            config = load(tmp_path, text.replace(*fault), env)
        except ConfigError as error:
            assert secret not in str(error) + repr(error)
            assert secret not in str(error.__cause__) + str(error.__context__ if not error.__suppress_context__ else "")
        else:
            assert secret not in repr(config) + str(config.target)


@given(secrets, st.sampled_from(["a", "a:b:c", "with space", ""]))
def test_urls_in_errors_are_redacted(secret: str, tail: str) -> None:
    assume(not any(c.isspace() for c in secret))
    message = f"cannot connect to mysql://migrator:{secret}@host:3306/{tail}"
    assert secret not in redact(message)
    assert secret not in str(classify(2003, message, "m1"))


def test_an_endpoint_crosses_processes() -> None:
    endpoint = parse_url("mysql://u:p@h", "m1", {})
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint
