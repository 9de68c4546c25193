# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Options that several commands take, said once, and what the repeated ``--set ID=VALUE`` means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

__all__ = [
    "bundle_argument",
    "config_option",
    "data_option",
    "device_option",
    "draws_option",
    "processes_option",
    "read_settings",
    "run_option",
    "set_option",
]

bundle_argument = click.argument("bundle")
config_option = click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="FILE",
    help="File of the bundle's configs to lay over its train.json, such as dit.json; repeat it.",
)
data_option = click.option("--data", metavar="FOLDER", help="The images: a folder, a table or a data set.")
run_option = click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Folder of the training; default: the bundle's runs/seed_0.",
)
device_option = click.option("--device", metavar="DEVICE", help="cpu or cuda:0; default: the GPU where there is one.")
draws_option = click.option("--draws", type=click.IntRange(min=1), metavar="N", help="Noise draws per image.")
processes_option = click.option(
    "--num-processes",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Processes that share the work (torchrun).",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="ID=VALUE",
    help="Set anything else of the bundle's configuration; repeat it.",
)


def read_settings(settings: Sequence[str]) -> dict[str, str]:
    """The values of a repeated ``--set ID=VALUE`` by their ids, as they were typed.

    Raises:
        ValueError: where one has no ``=`` or no id, or two set the same id.

    Example:
        >>> read_settings(["batch_size=16", "inferer#seed=3"])
        {'batch_size': '16', 'inferer#seed': '3'}
    """
    read: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--set: expected ID=VALUE, such as batch_size=16, got {setting}")
        name = name.strip().replace("::", "#")
        if name in read:
            raise ValueError(f"--set: {name} is given twice, as {read[name]} and {value}")
        read[name] = value
    return read
