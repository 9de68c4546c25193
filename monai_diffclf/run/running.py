# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A bundle that a program runs as a command does: said by the program, within a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

__all__ = ["now_running", "running"]

# Of this thread and block only: a bundle used from Python elsewhere in the process is left alone.
_RUNNING: ContextVar[ExitStack | None] = ContextVar("monai_diffclf.run", default=None)


@contextmanager
def running() -> Iterator[ExitStack]:
    """Within it what a configuration calls of this room acts as in a command.

    Yields:
        what is to be given back at the end, such as the locks of folders.

    Example:
        >>> with running() as held:
        ...     now_running() is held
        True
        >>> now_running() is None
        True
    """
    with ExitStack() as held:
        token = _RUNNING.set(held)
        try:
            yield held
        finally:
            _RUNNING.reset(token)


def now_running() -> ExitStack | None:
    """What `running` gave to the block that this is called in; None outside."""
    return _RUNNING.get()
