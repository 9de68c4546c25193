# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf report``."""

from __future__ import annotations

import click

from .results import command_options

__all__ = ["command"]


@click.command("report")
@command_options
def command(progress: bool, debug: bool) -> None:
    """Not there yet."""
    raise click.UsageError("report: this command is not there yet")
