"""What one input of a stranger is, and how an answer to it is judged."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SECONDS = 30.0  # an answer that takes longer is a hang: the slowest right answer takes below 1 s
GREY_LEVEL = 1 / 255
ANYTHING = object()  # where another test holds the right values: an answer or a refusal in one line, in time


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        name: what is special about it.
        write: writes it into an empty folder and returns what `read` is given.
        read: what a user would call.
        expected: what comes, an array or any value that compares; None if it must be refused; ANYTHING.
        or_refused: whether a refusal in one line is right, too.
        named: text that a refusal must hold: the file, the argument, the field.
        warns: text that a warning must hold; "" if there may be none, None if it does not matter.
        tolerance: largest difference of an array's element.
    """

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Any], Any]
    expected: Any = None
    or_refused: bool = False
    named: str = ""
    warns: str | None = None
    tolerance: float = GREY_LEVEL + 1e-6


def judge(case: Case, folder: Path) -> str:
    """ "right", "refused", or what went wrong."""
    source = case.write(folder)
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            got, error = case.read(source), None
        except (ValueError, TypeError) as refusal:
            got, error = None, refusal
        except Exception as fault:  # anything else is a traceback on the user's screen
            return f"traceback: {type(fault).__name__}: {fault}"
    if time.monotonic() - start > SECONDS:
        return f"hang: {time.monotonic() - start:.0f} s"
    if error is not None:
        return _judge_refusal(case, str(error))
    texts = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    if case.warns is not None and not (any(case.warns in text for text in texts) if case.warns else not texts):
        return f"silent: expected a warning with {case.warns!r}, got {texts}"
    return _judge_answer(case, got)


def _judge_refusal(case: Case, message: str) -> str:
    if case.expected is not None and case.expected is not ANYTHING and not case.or_refused:
        return f"refused, but it can be read: {message}"
    if len(message.splitlines()) != 1:
        return f"not one line: {message!r}"
    if case.named not in message:
        return f"refused without a word of {case.named!r}: {message}"
    return "refused"


def _judge_answer(case: Case, got: Any) -> str:
    if case.expected is ANYTHING:
        return "right"
    if case.expected is None:
        return f"silent: expected a refusal, got {_short(got)}"
    if not isinstance(case.expected, np.ndarray):
        return "right" if got == case.expected else f"silent: expected {case.expected!r}, got {_short(got)}"
    got = np.squeeze(np.asarray(got, dtype=np.float64))
    expected = np.squeeze(case.expected.astype(np.float64))
    if got.shape != expected.shape:
        return f"silent: expected the shape {expected.shape}, got {got.shape}"
    largest = float(np.abs(got - expected).max())
    return "right" if largest <= case.tolerance else f"silent: off by {largest:.3f} at most"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} from {value.min():.3f} to {value.max():.3f}"
    return repr(value)[:200]


def ramp(rows: int = 20, columns: int = 24) -> npt.NDArray[np.float64]:
    """An image in [0, 1] [rows, columns] that no flip, turn or transposition leaves as it is: a ramp and a mark."""
    image = np.tile(np.linspace(0, 1, columns), (rows, 1))
    image[1:4, 2:9] = 0.8
    image[rows - 5 :, :2] = 0.35
    return image
