# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Bundles on the command line: options are checked, errors end in one line, folders have one writer at a time.

A bundle's configuration calls these in ``initialize`` and ``finalize``. They act in a process that was started as
``python -m monai.bundle run`` or ``python -m monai_diffclf.run``; a configuration used from Python is left alone.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import ignite.distributed as idist

from ..storage.folder_lock import FolderLock
from .command_line import command_line
from .errors import FAULT, REFUSED, end_in_one_line, one_line
from .options import as_yes_or_no, settle_options

__all__ = ["hold", "report_failed", "start"]


def start(values: MutableMapping[str, Any] | None = None) -> None:
    """Check the options of the command line, and from now on end errors in one line.

    An option that is unknown, or has a value of another kind than its default, ends the process with exit code 2.

    Args:
        values: the configuration's values by their ids, which an expression finds under the name ``__local_refs``: what
            MONAI took for something else than was typed is set right there, before anything else is made of it.
    """
    line = command_line()
    if line is None:
        return
    end_in_one_line(debug=as_yes_or_no(line.value("debug")) is True)
    try:
        meant = settle_options(line)
    except ValueError as error:  # no traceback says more
        print(one_line(f"error: {error}"), file=sys.stderr, flush=True)
        sys.exit(REFUSED)
    if values is not None:
        values.update(meant)


def hold(folder: str | os.PathLike[str]) -> None:
    """Keep other commands out of an output folder until this one ends; of several processes the first does.

    Raises:
        ValueError: when another command is writing there.
    """
    if command_line() is None or idist.get_rank() > 0:
        return
    lock = FolderLock(folder)
    lock.acquire()
    atexit.register(lock.release)


def report_failed(failed: Mapping[str, str]) -> None:
    """End with exit code 1 where images could not be read, and say how many.

    Args:
        failed: name of each image that could not be read, and why.
    """
    if not failed or command_line() is None:
        return
    key, error = next(iter(failed.items()))
    said = f"{len(failed)} image(s) could not be read, see the column error of predictions.csv; the first is {key}"
    print(one_line(f"error: {said}: {error}"), file=sys.stderr, flush=True)
    sys.exit(FAULT)
