# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Bundles on the command line: options are checked, errors end in one line, folders have one writer at a time.

A bundle's configuration calls these in ``initialize`` and ``finalize``. They act in a process that was started as
``python -m monai.bundle run`` or ``python -m monai_diffclf.run``, and in `run_bundle`; a configuration used from Python
is left alone.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from .._command_end import FAULT, REFUSED, end_in_one_line, one_line
from ..storage.folder_lock import FolderLock
from .command_line import command_line
from .options import as_yes_or_no, settle_options
from .run_bundle import run_bundle
from .running import now_running

__all__ = ["check_not_shipped", "check_used", "hold", "report_failed", "run_bundle", "start"]

_SHIPPED = ("configs", "docs", "models")


def start(values: MutableMapping[str, Any] | None = None) -> None:
    """Check the options of the command line, and from now on end errors in one line.

    An option that is unknown, or has a value of another kind than its default, ends the process with exit code 2.

    Args:
        values: the configuration's values by their ids, which an expression finds under the name ``__local_refs``: what
            MONAI took for something else than was typed is set right there, before anything else is made of it.
    """
    line = command_line()
    if line is None or now_running() is not None:  # that has checked its settings
        return
    end_in_one_line(debug=as_yes_or_no(line.value("debug")) is True)
    try:
        meant = settle_options(line)
    except ValueError as error:  # no traceback says more
        print(one_line(f"error: {error}"), file=sys.stderr, flush=True)
        sys.exit(REFUSED)
    if values is not None:
        values.update(meant)


def check_used(name: str, value: Any, needed: str, on: object) -> None:
    """Refuse an option that another one, which is off, leaves without effect.

    Args:
        name: the option.
        value: its value; None for not given.
        needed: the option that it needs.
        on: whether that one is on.

    Raises:
        ValueError: when the option is given and would do nothing.

    Example:
        >>> check_used("prior", [0.9, 0.1], "calibrated", False)
        Traceback (most recent call last):
        ValueError: prior: expected None where calibrated is off, ...
    """
    if value is not None and not on:
        raise ValueError(
            f"{name}: expected None where {needed} is off, as it would have no effect, got {value}; leave out "
            f"--{name}, or set --{needed} true"
        )


def hold(folder: str | os.PathLike[str], *others: str | os.PathLike[str]) -> None:
    """Keep other commands out of an output folder until this one ends; of several processes the first does.

    Args:
        folder: the output folder.
        others: further folders, and JSON files, that this command writes; where they lie elsewhere they are kept too.

    Raises:
        ValueError: when another command is writing there, or one lies where a bundle keeps what it was shipped with.
    """
    running = now_running()
    if (running is None and command_line() is None) or idist.get_rank() > 0:
        return
    for path in (folder, *others):
        check_not_shipped(Path(path))
    held: list[Path] = []
    for path in (folder, *others):
        place = Path(path).parent if Path(path).suffix == ".json" else Path(path)
        if not any(place.resolve().is_relative_to(other) for other in held):
            lock = FolderLock(place)
            lock.acquire()
            if running is None:
                atexit.register(lock.release)
            else:
                running.callback(lock.release)
            held.append(place.resolve())


def check_not_shipped(path: Path) -> None:
    """Refuse a bundle's own folders, whose weights and results an output would replace.

    Raises:
        ValueError: when the path lies in one.
    """
    whole = path.resolve()
    for part in (whole, *whole.parents):
        if part.name in _SHIPPED and (part.parent / "configs" / "metadata.json").is_file():
            raise ValueError(
                f"output folder: {path} lies in {part}, where the bundle keeps what it was shipped with; name another, "
                "such as --output_dir runs/mine"
            )


def report_failed(failed: Mapping[str, str]) -> None:
    """End with exit code 1 where images could not be read, and say how many.

    Args:
        failed: name of each image that could not be read, and why.
    """
    if not failed or (now_running() is None and command_line() is None):
        return
    key, error = next(iter(failed.items()))
    said = f"{len(failed)} image(s) could not be read, see the column error of predictions.csv; the first is {key}"
    print(one_line(f"error: {said}: {error}"), file=sys.stderr, flush=True)
    sys.exit(FAULT)
