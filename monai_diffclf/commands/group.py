# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""All commands by their names. A command's module is imported when it is asked for, so that ``--help`` is quick."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from .. import __version__
from .._command_end import REFUSED, one_line, tell
from .results import print_json

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS = {
    "demo": ("demo", "Classify images made for the occasion and write a report."),
    "new-bundle": ("new_bundle", "Make a bundle for your own images."),
    "train": ("train", "Train a bundle."),
    "evaluate": ("evaluate", "Measure on validation and test images how good a training is."),
    "fit": ("fit", "Learn from the validation images how sure a training may be."),
    "classify": ("classify", "Classify images, folders and DICOM series."),
    "report": ("report", "Write a report of an evaluated test set."),
    "replay": ("replay", "Ask stored errors what each stopping rule would have spent."),
    "export-labels": ("export_labels", "Write the labels of a MONAI Label server as a datalist."),
    "label-client": ("label_client", "Ask a running MONAI Label server what it makes of an image."),
    "publish": ("publish", "Make the results of a run a bundle's own."),
}
"""Name of each command -> its module in this folder, and what it does."""


class _Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"{__package__}.{COMMANDS[cmd_name][0]}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = _nearest(args[0], COMMANDS)
            raise click.UsageError(f"{args[0]}: no such command{near or '; monai-diffclf --help lists them'}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, package_name="monai-diffclf", prog_name="monai-diffclf")
def cli() -> None:
    """Classify medical images by diffusion models: train, evaluate, classify.

    A BUNDLE is a folder that new-bundle made, or the name of one that is shipped, such as pneumonia_xray_diffusion.
    Begin with: monai-diffclf demo. For research only.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the command line, without the program's name; None takes that of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(words or ["--help"], prog_name="monai-diffclf", standalone_mode=False)
    except click.ClickException as error:
        line = one_line(f"error: {_said(error)}")
        print(line, file=sys.stderr, flush=True)
        if "--json" in words:
            print_json({"error": line.removeprefix("error: "), "exit_code": REFUSED}, sys.stdout)
        return REFUSED
    except click.Abort:  # Ctrl-C before a command began
        return tell(KeyboardInterrupt())[0]
    return code if isinstance(code, int) else 0


def _said(error: click.ClickException) -> str:
    """What is wrong with a command line, as the messages of the package say it."""
    if isinstance(error, click.NoSuchOption):
        known = [] if error.ctx is None else [name for each in error.ctx.command.params for name in each.opts]
        command = "" if error.ctx is None else f"; {error.ctx.command_path} --help lists them"
        return f"{error.option_name}: no such option{_nearest(error.option_name, known) or command}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        ctx = error.ctx
        usage = (
            "" if ctx is None else f"; expected {ctx.command_path} {' '.join(ctx.command.collect_usage_pieces(ctx))}"
        )
        return f"{_name(error.param)}: not given{usage}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name(error.param)}: {error.message}"
    return error.format_message()


def _name(parameter: click.Parameter) -> str:
    return parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[0]


def _nearest(name: Any, known: Iterable[str]) -> str:
    # Without regard to case: "--Data" is near to "--data".
    names = {each.lower(): each for each in known}
    found = difflib.get_close_matches(str(name).lower(), names, n=1)
    return f"; did you mean {names[found[0]]}?" if found else ""
