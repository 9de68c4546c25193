# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf publish``: make the results of a run a bundle's own."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle import find_bundle
from ..handlers.publish import publish
from .options import bundle_argument
from .results import command_options, finish

__all__ = ["command"]


@click.command("publish")
@bundle_argument
@click.option("--run", type=click.Path(path_type=Path), required=True, metavar="RUN", help="Folder of the run.")
@click.option("--replace", is_flag=True, help="Drop results of other images or draws.")
@command_options
def command(bundle: str, run: Path, replace: bool, progress: bool, debug: bool) -> None:
    """Copy the results of a run to the bundle's docs, which only this command writes.

    Takes tables, stored errors and results.json from RUN; other seeds that are published stay.
    """
    root = find_bundle(bundle)
    done = publish(root, run, replace=replace)
    finish({"path": str(root / "docs"), "published": done}, "\n".join([*done, str(root / "docs")]))
