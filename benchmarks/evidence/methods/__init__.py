"""The methods that are compared: each fits on images with labels and predicts images (`Method`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.evidence.method import Fitted, Method, Prediction
from benchmarks.evidence.methods.bundles import FEATURES, PIXELS, AdaptedBundleMethod, BundleMethod, KeptRunMethod
from benchmarks.evidence.methods.combined import CascadeMethod, CombinedMethod
from benchmarks.evidence.methods.finetuned import FinetunedMethod
from benchmarks.evidence.methods.floor import PixelMethod
from benchmarks.evidence.methods.linear import ProbeMethod
from benchmarks.evidence.methods.networks import NetworkMethod
from benchmarks.evidence.methods.stored import DIFFUSION, RESNET, StoredMethod

__all__ = ["METHODS", "Fitted", "Method", "Prediction", "make_method"]

METHODS: dict[str, Callable[[str], Method]] = {
    "pixels_logistic": lambda data: PixelMethod("logistic_regression"),
    "pixels_trees": lambda data: PixelMethod("extra_trees"),
    "linear_probe": lambda data: ProbeMethod("logistic"),
    "shrunken_lda": lambda data: ProbeMethod("lda"),
    "resnet18": lambda data: StoredMethod(*RESNET[data]) if data in RESNET else NetworkMethod("resnet18", data),
    "cnn_finetuned": FinetunedMethod,
    "diffusion_pixels": lambda data: StoredMethod(*_known(DIFFUSION, data, "diffusion_pixels")),
    "diffusion_representation": lambda data: BundleMethod(data, _known(FEATURES, data, "diffusion_representation")),
    "diffusion_contrastive": lambda data: KeptRunMethod(
        data, _known(PIXELS, data, "diffusion_contrastive"), "contrastive"
    ),
    "diffusion_adapted": lambda data: AdaptedBundleMethod(data, _known(FEATURES, data, "diffusion_adapted")),
    "resnet18_ensemble": lambda data: CombinedMethod(data, "resnet18"),
    "ensemble_diffusion_resnet18": lambda data: CombinedMethod(data, _diffusion(data), "resnet18"),
    "ensemble_diffusion_cnn": lambda data: CombinedMethod(data, _diffusion(data), "cnn_finetuned"),
    "cascade": lambda data: CascadeMethod(data, _cheap(data), _diffusion(data)),
    "densenet121": lambda data: NetworkMethod("densenet121", data),
}
"""Name in the protocol -> the method as it is set for a data set."""


def _known(table: dict[str, Any], data: str, method: str) -> Any:
    if data not in table:
        raise ValueError(f"data: expected one of {', '.join(table)} for {method}, got {data!r}")
    return table[data]


def _diffusion(data: str) -> str:
    return "diffusion_pixels" if data in DIFFUSION else "diffusion_representation"


def _cheap(data: str) -> str:
    return "resnet18" if data in DIFFUSION else "cnn_finetuned"


def make_method(name: str, data: str) -> Method:
    """A method for a data set.

    Raises:
        ValueError: for a name that no program here knows.
    """
    if name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name](data)
