"""The configuration file: TOML, strict, and the only place where secrets enter."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from migrate.columns import ColumnSpec
from migrate.errors import ConfigError

_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_URL = re.compile(
    r"mysql://(?P<user>[^:@/]+)(?::(?P<password>.*))?@(?P<host>\[[^\]]+\]|[^:/?@]+)(?::(?P<port>\d+))?/?(?:\?(?P<query>[^?]*))?"
)
_TLS_KEYS = ("ssl_ca", "ssl_cert", "ssl_key")


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and who we are there. The password is in no repr. `answer_s`: a connection whose server doesn't
    answer for so long counts as lost; 0: it is waited for."""

    name: str
    host: str
    port: int
    user: str
    password: str = field(repr=False, default="")
    tls: tuple[tuple[str, str], ...] = ()
    answer_s: float = field(repr=False, default=0)

    @property
    def plain(self) -> bool:
        """Whether to talk without TLS: on this machine, unless its options ask for it. Elsewhere TLS is used where
        the server offers it, and required where the options ask for it."""
        return not self.tls and self.host in ("127.0.0.1", "::1", "localhost")

    def __str__(self) -> str:
        return f"{self.name} ({self.user}@{self.host}:{self.port})"


def _expand(text: str, env: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        try:
            return env[match[1]]
        except KeyError:
            raise ValueError(f"environment variable {match[1]} is not set") from None

    return _ENV.sub(value, text)


def parse_url(text: str, name: str, env: Mapping[str, str] | None = None) -> Endpoint:
    """`mysql://user:password@host:port/?ssl_ca=FILE` as an Endpoint.

    A ${NAME} inside it stands for the variable's value as it is, so a password needs no escaping there;
    what is written out is percent-decoded. ValueError says what is wrong, without the password.
    """
    env = os.environ if env is None else env
    whole = _ENV.fullmatch(text)
    if whole:
        text = _expand(text, env)
    match = _URL.fullmatch(text)
    if not match:
        raise ValueError("expected mysql://user:password@host:port (percent-encode @ : / ? in a written-out password)")

    def part(raw: str | None) -> str:
        pieces = re.split(r"(\$\{[A-Za-z_][A-Za-z0-9_]*\})", raw or "")
        return "".join(_expand(p, env) if _ENV.fullmatch(p) else unquote(p) for p in pieces)

    tls = tuple(parse_qsl(_expand(match["query"] or "", env), keep_blank_values=True))
    unknown = [key for key, _ in tls if key not in _TLS_KEYS]
    if unknown:
        raise ValueError(f"unknown URL option {unknown[0]}; known: {', '.join(_TLS_KEYS)}")
    for key, path in tls:
        if not Path(path).is_file():
            raise ValueError(f"{key}: no such file: {path}")
    host = _expand(match["host"], env).strip("[]")
    return Endpoint(name, host, int(match["port"] or 3306), part(match["user"]), part(match["password"]), tls)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


def _window(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError('expected a time window as "22:00-06:00", in UTC')
    return text


def _two_names(text: str) -> str:
    if text.count(".") != 1 or not all(text.split(".")):
        raise ValueError("expected schema.table")
    return text


def _three_names(text: str) -> str:
    if text.count(".") != 2 or not all(text.split(".")):
        raise ValueError("expected schema.table.column of a target table")
    return text


def _not_ours(name: str) -> str:
    if name in ("target", "repair"):
        raise ValueError(f"{name!r} stands for something else in records and messages; give the instance another name")
    return name


Pattern = Annotated[str, AfterValidator(_pattern)]
Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _no_secret_url(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


class Migration(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    pack: str | None = None


class Server(_Strict):
    url: Annotated[str, BeforeValidator(_no_secret_url)] = Field(repr=False)


class Source(Server):
    """An instance. `replica`: a replica of it that verification reads instead."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$"), AfterValidator(_not_ours)]
    replica: Annotated[str | None, BeforeValidator(_no_secret_url)] = Field(default=None, repr=False)


class Route(_Strict):
    schema_: Pattern = Field(alias="schema")
    table: Pattern
    target: Annotated[str, AfterValidator(_two_names)]
    key_collision: Literal["error", "interleave"] = "error"
    references: tuple[Annotated[str, AfterValidator(_three_names)], ...] = ()
    columns: dict[str, ColumnSpec] = {}  # of the target, by name; see docs/mapping.md
    drop: tuple[str, ...] = ()  # columns of the source that aren't carried
    key: tuple[str, ...] = ()  # the target's primary key, where a constant is part of it

    @property
    def mapped(self) -> bool:
        """Whether the target's columns are others than the source's."""
        return bool(self.columns or self.drop or self.key)

    @model_validator(mode="after")
    def _not_both(self) -> Route:
        if self.mapped and self.key_collision == "interleave":
            raise ValueError('key_collision = "interleave" and mapped columns exclude each other')
        return self

    def matches(self, schema: str, table: str) -> bool:
        return bool(re.fullmatch(self.schema_, schema) and re.fullmatch(self.table, table))


class Ignore(_Strict):
    schema_: Pattern = Field(alias="schema")
    table: Pattern = ".*"

    def matches(self, schema: str, table: str) -> bool:
        return bool(re.fullmatch(self.schema_, schema) and re.fullmatch(self.table, table))


class Run(_Strict):
    """How hard to work. `patience_s`: how long an unreachable server is waited for."""

    workers: Annotated[int, Field(ge=1, le=256)] = 2
    chunk_rows: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    patience_s: Annotated[int, Field(ge=0)] = 300
    dask: str | None = None  # a Dask scheduler's address, instead of processes of this machine


class Verify(_Strict):
    """How gently to verify."""

    lock_s: Annotated[int, Field(ge=1, le=60)] = 3  # the longest that an instance's writers wait for a cut
    renew_s: Annotated[int, Field(ge=1)] = 240  # the age at which a cut is given up for a new one
    range_rows: Annotated[int, Field(ge=1)] = 125_000  # rows of a table that are proven at a time
    threads_running: Annotated[int, Field(ge=1)] = 64  # on a source, ours too; above it, verification waits
    replica_lag_s: Annotated[int, Field(ge=0)] = 60  # of a replica that is read; above it, verification waits
    window: Annotated[str | None, AfterValidator(_window)] = None  # "22:00-06:00", when sources may be scanned, UTC


class Hooks(_Strict):
    """Executables that a cutover calls; see docs/cutover.md for what each is told and must do."""

    fence: Path | None = None  # stops the application's writes on the shards
    lift: Path | None = None  # lets them go on
    switch: Path | None = None  # points the application at the target
    back: Path | None = None  # points it at the shards again
    smoke: Path | None = None  # tries the target before it is opened
    timeout_s: Annotated[float, Field(gt=0)] = 10


class Cutover(_Strict):
    """The bounds of a cutover and of the way back."""

    fence: Literal["epoch", "read-only", "revoke", "hook"] = "epoch"
    accounts: tuple[str, ...] = ()  # 'app'@'%' accounts that fence = "revoke" takes the rights from
    freeze_s: Annotated[float, Field(gt=0)] = 30  # refused writes at most; then all is undone
    lag_s: Annotated[float, Field(gt=0)] = 1
    verified_within_s: Annotated[int, Field(ge=1)] = 86_400  # age of the last clean `verify all`
    digests: Literal["changed", "all"] = "changed"
    hooks: Hooks = Hooks()

    @model_validator(mode="after")
    def _whole(self) -> Cutover:
        if self.fence == "hook" and not (self.hooks.fence and self.hooks.lift):
            raise ValueError('fence = "hook" needs hooks.fence and hooks.lift')
        if self.fence == "revoke" and not self.accounts:
            raise ValueError('fence = "revoke" needs accounts = ["user@host", ..]')
        return self


class _File(_Strict):
    migration: Migration
    source: Annotated[tuple[Source, ...], Field(min_length=1)]
    target: Server
    route: tuple[Route, ...] = ()
    ignore: tuple[Ignore, ...] = ()
    run: Run = Run()
    verify: Verify = Verify()
    cutover: Cutover = Cutover()


@dataclass(frozen=True)
class Config:
    """A valid configuration. `sources` are in the file's order, which numbers the instances."""

    path: Path
    name: str
    pack: str | None
    sources: tuple[Endpoint, ...]
    target: Endpoint
    routes: tuple[Route, ...]
    ignores: tuple[Ignore, ...]
    run: Run
    verify: Verify = field(default_factory=Verify)
    replicas: Mapping[str, Endpoint] = field(default_factory=dict)  # by the instance that they copy
    cutover: Cutover = field(default_factory=Cutover)

    def source(self, name: str) -> Endpoint:
        return next(s for s in self.sources if s.name == name)


def load_config(path: Path, env: Mapping[str, str] | None = None) -> Config:
    """Reads and checks the file. ConfigError names the file and the line or key; it never holds a secret."""
    file = read_toml(path, _File)

    def endpoint(key: str, url: str, name: str) -> Endpoint:
        try:
            return parse_url(url, name, env)
        except ValueError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None

    sources = tuple(endpoint(f"source[{i}].url", s.url, s.name) for i, s in enumerate(file.source))
    names = [s.name for s in sources]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConfigError(f"{path}: source.name: {twice!r} stands twice")
    replicas = {
        s.name: endpoint(f"source[{i}].replica", s.replica, s.name) for i, s in enumerate(file.source) if s.replica
    }
    return Config(
        path=path,
        name=file.migration.name,
        pack=file.migration.pack,
        sources=sources,
        target=endpoint("target.url", file.target.url, "target"),
        routes=file.route,
        ignores=file.ignore,
        run=file.run,
        verify=file.verify,
        replicas=replicas,
        cutover=file.cutover,
    )


def read_toml(path: Path, model: type[Model]) -> Model:
    """The file as that model. ConfigError names the file and each wrong key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read it: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise ConfigError(f"{path}: " + "; ".join(map(_problem, problems))) from None


def _problem(error: Any) -> str:
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".")
    words = {"extra_forbidden": "unknown key", "missing": "missing"}.get(error["type"])
    words = words or error["msg"].removeprefix("Value error, ")
    return f"{key}: {words}" if key else words
