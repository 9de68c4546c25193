# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What all commands have in common: options, where results go, and how errors end."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import click

from .._command_end import short_log_messages, tell

__all__ = ["command_options", "finish", "print_json"]

_KEY = "monai_diffclf.output"


# What the settings of bundles and the readers of data call it -> parameter of a command.
_MEANT = {"source": "data", "dataset_dir": "data", "output_dir": "output"}


def command_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: give a command ``--json``, ``--debug`` and ``--no-progress``, and end its errors in one line.

    The function gets ``progress``, whether to show bars, and ``debug``. It calls `finish` at its end, and may
    return an exit code. While it runs, what is printed goes to stderr: stdout is for the result.

    Example:
        >>> @click.command()
        ... @command_options
        ... def command(progress: bool, debug: bool) -> None:
        ...     finish({"path": "a.html"}, "a.html")
        >>> _ = command(["--json"], standalone_mode=False)
        {"path": "a.html"}
    """

    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object, last on stdout.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @click.option("--no-progress", is_flag=True, help="Show no progress bars.")
    @click.pass_context
    @functools.wraps(function)
    def call(ctx: click.Context, /, *, as_json: bool, debug: bool, no_progress: bool, **options: Any) -> int:
        ctx.meta[_KEY] = (sys.stdout, as_json)
        with contextlib.ExitStack() as within:
            within.enter_context(contextlib.redirect_stdout(sys.stderr))
            if not debug:
                within.enter_context(short_log_messages())
            try:
                return int(function(progress=not no_progress, debug=debug, **options) or 0)
            except (click.ClickException, click.exceptions.Exit):
                raise
            except SystemExit as error:  # its line has been told
                return error.code if isinstance(error.code, int) else 1
            except (Exception, KeyboardInterrupt) as error:
                code, line = tell(_as_typed(error, ctx), debug=debug)
                if as_json:
                    print_json({"error": line.removeprefix("error: "), "exit_code": code}, ctx.meta[_KEY][0])
                return code

    return call


def _as_typed(error: BaseException, ctx: click.Context) -> BaseException:
    """The error, with the name of an argument or setting as the option that was typed."""
    found = re.match(r"(\w+)(?=: )", str(error)) if type(error) is ValueError else None
    options = {each.name: each.opts[0] for each in ctx.command.params if isinstance(each, click.Option)}
    name = None if found is None else _MEANT.get(found[0], found[0])
    if found is None or name not in options:
        return error
    return ValueError(options[name] + str(error)[found.end() :]).with_traceback(error.__traceback__)


def finish(result: Mapping[str, Any], text: str) -> None:
    """Print what a command found: the text, or with ``--json`` the result as one line.

    Args:
        result: plain values by their names; what was written stands under ``path``.
        text: the same for people; its last line is the path of what was written.
    """
    stream, as_json = click.get_current_context().meta[_KEY]
    if as_json:
        print_json(result, stream)
    else:
        print(text, file=stream, flush=True)


def print_json(result: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON object as one line."""
    print(json.dumps(result, default=str), file=stream, flush=True)
