"""What the command lines `migrate` and `verify` share: options, signals, output, exit codes."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from migrate.config import Config, load_config
from migrate.db import stop
from migrate.errors import INTERRUPTED, UNFINISHED, USAGE, ConfigError, MigrateError, redact

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, amounts as strings.")
workers_option = click.option(
    "--workers", type=click.IntRange(1, 256), help="Parallel workers; the config's run.workers if not given."
)


def emit(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Prints the result: the document as JSON, or the text for people."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str) if as_json else text)


class CommandGroup(click.Group):
    """The top-level group: `-c FILE`, `--debug`, and one clear line for whatever goes wrong."""

    def __init__(self, *args: Any, elsewhere: dict[str, str] | None = None, **kwargs: Any):
        """`elsewhere`: commands by name that a module of that path defines under that name, imported when called."""
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or {}
        self.params += [
            click.Option(
                ["-c", "--config", "path"],
                envvar="MIGRATE_CONFIG",
                type=click.Path(path_type=Path),
                help="The configuration file; MIGRATE_CONFIG names a default.",
            ),
            click.Option(["--debug"], is_flag=True, help="Tracebacks and debug messages."),
        ]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._elsewhere:
            command: click.Command = getattr(import_module(self._elsewhere[cmd_name]), cmd_name.replace("-", "_"))
            return command
        return super().get_command(ctx, cmd_name)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        debug = "--debug" in sys.argv
        logging.basicConfig(
            stream=sys.stderr, level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s"
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except click.ClickException as error:
            error.show()
            sys.exit(USAGE)
        except (KeyboardInterrupt, click.Abort):
            _fail("interrupted; what was committed stays, the same command goes on from there", INTERRUPTED, debug)
        except MigrateError as error:
            _fail(str(error), error.exit_code, debug)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the exit flushes what nobody reads
            sys.exit(UNFINISHED)
        except OSError as error:
            _fail(f"{error.filename or 'files'}: {error.strerror or error}", UNFINISHED, debug)
        except Exception as error:  # the last line of defence: one line, no secret, never a bare traceback
            _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", UNFINISHED, debug)


def _fail(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        logging.getLogger("migrate").debug("traceback", exc_info=True)
    click.echo(f"error: {redact(message)}", err=True)
    sys.exit(code)


def _interrupt(number: int, frame: Any) -> None:
    del number, frame
    if stop.is_set():  # asked twice: don't wait for anything
        sys.exit(INTERRUPTED)
    stop.set()
    raise KeyboardInterrupt


def with_config(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command its Config as first argument. ConfigError where no file is named."""

    @click.pass_context
    def command(context: click.Context, *args: Any, **kwargs: Any) -> Any:
        path = context.find_root().params.get("path")
        if path is None:
            raise ConfigError("no configuration: give -c FILE before the verb, or set MIGRATE_CONFIG")
        config: Config = load_config(path)
        return context.invoke(function, config, *args, **kwargs)

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    if hasattr(function, "__click_params__"):
        command.__click_params__ = function.__click_params__  # type: ignore[attr-defined]
    return command
