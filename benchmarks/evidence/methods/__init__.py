"""The methods that are compared: each fits on images with labels and predicts images; see `base`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.evidence.methods.base import Fitted, Method, Prediction
from benchmarks.evidence.methods.floor import PixelMethod
from benchmarks.evidence.methods.linear import ProbeMethod
from benchmarks.evidence.methods.networks import NetworkMethod

__all__ = ["METHODS", "Fitted", "Method", "Prediction", "make_method"]

METHODS: dict[str, Callable[[str], Method]] = {
    "pixels_logistic": lambda data: PixelMethod("logistic_regression"),
    "pixels_trees": lambda data: PixelMethod("extra_trees"),
    "linear_probe": lambda data: ProbeMethod("logistic"),
    "shrunken_lda": lambda data: ProbeMethod("lda"),
    "resnet18": lambda data: NetworkMethod("resnet18", data),
    "densenet121": lambda data: NetworkMethod("densenet121", data),
}
"""Name in the protocol -> the method as it is set for a data set."""


def make_method(name: str, data: str) -> Method:
    """A method for a data set.

    Raises:
        ValueError: for a name that no program here knows.
    """
    if name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name](data)
