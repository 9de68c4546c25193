# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How a command ends: with one line that says what is wrong and what to do, last on the screen."""

from __future__ import annotations

import errno
import logging
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from ._text import joined, out_of_memory, printable

__all__ = ["FAULT", "REFUSED", "STOPPED", "describe", "end_in_one_line", "one_line", "short_log_messages", "tell"]

FAULT, REFUSED, STOPPED = 1, 2, 130
"""Exit codes: a fault of the software or an image that could not be read; what the user can mend; Ctrl-C."""

_WORKER = re.compile(r"Caught \w+ in DataLoader worker process")
_RAISED = re.compile(r"^([\w.]*(?:Error|Exception|Warning|Interrupt)): (.*)", re.MULTILINE)
_MEMORY = "out of memory; take less at a time: a smaller image_batch, network_batch or batch_size"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_USERS = (ValueError, OSError, ImportError, MemoryError)
_IN_WORKERS = {"OutOfMemoryError", *(each.__name__ for each in _USERS)}


def end_in_one_line(*, debug: bool = False) -> None:
    """From now on an error that ends this process is told in one line; the traceback of a fault goes to a file.

    Log messages lose their tracebacks too, which MONAI and Ignite write before they hand an error on.

    Args:
        debug: show tracebacks on the screen instead.
    """
    stream = sys.stderr  # torch.distributed calls the hook with another one, whose content is lost as the hook raises

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        raise SystemExit(tell(error, debug=debug, stream=stream)[0])  # the only way for a hook to say the exit code

    sys.excepthook = report
    if not debug:
        # Not a filter: loggers and handlers are made later too.
        make = logging.getLogRecordFactory()
        logging.setLogRecordFactory(lambda *args, **kwargs: _shorten(make(*args, **kwargs)))


@contextmanager
def short_log_messages() -> Iterator[None]:
    """Within it log messages have no tracebacks, as within a process that is to `end_in_one_line`."""
    make = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **kwargs: _shorten(make(*args, **kwargs)))
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)


def tell(error: BaseException, *, debug: bool = False, stream: TextIO | None = None) -> tuple[int, str]:
    """Write what ended a command to stderr: where the traceback of a fault is, and one line.

    Args:
        error: what was raised.
        debug: write the traceback to the screen, of any error.
        stream: where to write instead of stderr.

    Returns:
        the exit code, and the line.
    """
    if isinstance(error, KeyboardInterrupt):
        code, text = STOPPED, "stopped; run the same command again to go on"
    else:
        code, text = describe(error)
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    _flush()
    to = sys.stderr if stream is None else stream
    if debug:
        print(details, file=to)
    elif code == FAULT:  # nobody reports what he can mend himself
        print(f"traceback: {_write(details)}", file=to)
    print(text, file=to, flush=True)
    return code, text


def describe(error: BaseException) -> tuple[int, str]:
    r"""Exit code and line for an error.

    What MONAI wraps in errors of its own is unwrapped. What our code refuses, and whatever else comes of files, memory
    or options, is the user's to mend; anything else is a fault of the software and says so.

    Example:
        >>> describe(ValueError("rule: expected 'mean' or 'vote',\n got 'x'"))
        (2, "error: rule: expected 'mean' or 'vote', got 'x'")
        >>> describe(IndexError("list index out of range"))[0]
        1
    """
    error, component = _unwrap(error)
    module, file = _raised_in(error)
    in_worker = _WORKER.match(str(error))
    name, text = _of_worker(str(error)) if in_worker else (type(error).__name__, _text(error))
    if file == "<string>" and not isinstance(error, _USERS):  # an expression of a configuration
        return REFUSED, f"error: an expression of the configuration or an option gave {name}: {text}"
    of_types = isinstance(error, TypeError) and (component or module.startswith("monai_diffclf."))
    users = isinstance(error, _USERS) or (in_worker and name in _IN_WORKERS)
    if users or of_types or module.startswith("monai.bundle.") or text == _MEMORY:
        return REFUSED, f"error: {text}"
    return FAULT, f"error: a fault of this software, please report it with the traceback: {name}: {text}"


def one_line(text: str) -> str:
    r"""Text without line breaks and control characters, which a name may hold and a terminal may obey.

    Example:
        >>> one_line("a\n  b\x1b[2J")
        'a b\\x1b[2J'
    """
    return printable(joined(text))


def _unwrap(error: BaseException) -> tuple[BaseException, bool]:
    """The cause of errors that MONAI raised from it, and whether it came of making a component of a configuration.

    What our code raises from another says more than its cause.
    """
    component = False
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        if not _raised_in(error)[0].startswith("monai."):
            break
        component = str(error).startswith("Failed to instantiate")
        error = error.__cause__
    return error, component


def _raised_in(error: BaseException) -> tuple[str, str]:
    """Module and file in which an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "", ""
    return str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_frame.f_code.co_filename


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        advice = "; make room, and run the same command again" if error.errno in _FULL else ""
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror) + advice
    if out_of_memory(error):
        return _MEMORY
    if isinstance(error, KeyError) and error.args:
        return one_line(str(error.args[0]))
    return one_line(str(error)) or type(error).__name__


def _of_worker(text: str) -> tuple[str, str]:
    """Name and text of what was first raised in a worker of a DataLoader, which hands on a text only."""
    # Causes come first; MONAI's own errors stand after them.
    raised = [match for match in _RAISED.finditer(text) if not match[2].startswith("applying transform")]
    return (raised[-1][1], one_line(raised[-1][2])) if raised else ("RuntimeError", one_line(text.splitlines()[0]))


def _write(details: str) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="monai_diffclf_", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
    ) as file:
        file.write(details)
    return file.name


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _shorten(record: logging.LogRecord) -> logging.LogRecord:
    """Take the traceback from a message; it is in the file."""
    record.exc_info = record.exc_text = None
    if "Traceback (most recent call last)" in str(record.msg) or record.args:
        message = record.getMessage()
        if "Traceback (most recent call last)" in message:
            record.msg, record.args = message.splitlines()[0], ()
    return record
