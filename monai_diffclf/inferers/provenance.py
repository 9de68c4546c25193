# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What errors depend on, in a form that can be stored beside them and compared later."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch

from ..classification.draws import image_keys
from ..classification.philox import GENERATOR
from ..networks.conditioning import image_parameters, split_conditions
from ..networks.latent_space import PixelSpace
from ..networks.nets import SliceNetwork, SlidingWindowNetwork, WaveletNetwork
from ..networks.retimed import RetimedNetwork
from ..networks.schedulers import SDEProcess
from ..networks.value_description import NotDescribedError, is_from_library, value_hash
from ..networks.weight_files import network_hash
from .cascade import CascadeInferer
from .classifier import ClassifierInferer
from .diffusion_classifier import DiffusionClassifierInferer
from .multi_label import MultiLabelClassifierInferer
from .score_classifier import ScoreClassifierInferer
from .softmax_classifier import SoftmaxClassifierInferer

__all__ = ["evaluation_keys", "provenance"]

_WRAPPERS = (RetimedNetwork, SliceNetwork, SlidingWindowNetwork, WaveletNetwork)
_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)


def provenance(inferer: ClassifierInferer, network: torch.nn.Module) -> dict[str, str | int]:
    """All that an image's errors or likelihoods depend on, but for the image: network, draws, scheduler and settings.

    Two evaluations with equal provenance give equal errors for equal images. The temperature is not part of it, nor are
    rule and weighting unless they decide what is evaluated: with a stopping rule or in reduced precision; nor is the
    prior of a `ScoreClassifierInferer`. An autocast around the call is part of it where the inferer heeds one.

    Args:
        inferer: the inferer.
        network: the denoiser.

    Returns:
        ``network`` (see :func:`monai_diffclf.networks.network_hash`), ``network_settings`` of a `SlidingWindowNetwork`,
        `SliceNetwork`, `WaveletNetwork` or `RetimedNetwork`, ``seed``, ``noise_levels`` and ``log_snr``
        (hashes of the draws' numbers), ``num_draws``, ``num_classes``, ``prediction_type``, ``conditioning`` (hash of
        what the classes become), ``precision``, ``stopping`` and ``decision``; for a `ScoreClassifierInferer` ``sde``,
        ``solver``, ``divergence``, ``terminal`` and ``dequantization`` in place of what draws are described by; for a
        `SoftmaxClassifierInferer` ``network`` and ``num_classes`` alone; for a `CascadeInferer` what holds for its
        second classifier, with ``first_network``, ``threshold``, ``prepare`` and ``combine``.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> made = provenance(DiffusionClassifierInferer(DDPMScheduler(10), num_draws=5, seed=3), torch.nn.Linear(1, 1))
        >>> made["seed"], made["num_draws"], made["prediction_type"], made["stopping"]
        (3, 5, 'epsilon', 'None')
    """
    if isinstance(inferer, CascadeInferer):
        of_both = {
            "first_network": network_hash(inferer.first_network),
            "threshold": repr(inferer.threshold),
            "prepare": _name(inferer.prepare),
            "combine": _name(inferer.combine),
        }
        return {**provenance(inferer.second, network), **of_both}
    if isinstance(inferer, SoftmaxClassifierInferer):
        return {"network": network_hash(network), "num_classes": inferer.num_classes}
    parameter = next(network.parameters(), torch.empty(0))
    classes = {}
    if not image_parameters(inferer.conditioning):  # else it depends on the images: part of their keys
        classes = inferer.conditioning(torch.arange(inferer.num_conditions, device=parameter.device))
    if isinstance(inferer, MultiLabelClassifierInferer):
        classes = inferer.conditioning_of_unknown(parameter.device)
    common: dict[str, str | int] = {
        "network": network_hash(network),
        "seed": inferer.seed,
        "generator": GENERATOR,
        "num_classes": inferer.num_classes,
        "prediction_type": inferer.process.prediction_type,
        "conditioning": _hash(classes),
        "latent_space": inferer.latent_space.version,
    }
    if settings := _beside_weights(network):  # not where there are none, as in results of earlier versions
        common["network_settings"] = settings
    if not isinstance(inferer.latent_space, PixelSpace):  # not the latents, as in results of earlier versions
        common["noise_keys"] = "pixels"
    if isinstance(inferer.process, SDEProcess):
        common["sde"] = _describe(inferer.process.sde)
    if isinstance(inferer, ScoreClassifierInferer):
        return common | _of_likelihood(inferer)
    if isinstance(inferer, DiffusionClassifierInferer):
        return common | _of_errors(inferer, inferer.precision(parameter.device))
    raise TypeError(f"inferer: expected one of this package, got {type(inferer).__name__}")


def evaluation_keys(images: torch.Tensor, conditions: Mapping[str, Any] | None = None) -> list[str]:
    """A name for each image that depends on its pixels and on whatever else reaches the network with it.

    Without conditions it is the image's key in hexadecimal digits, see
    :func:`monai_diffclf.classification.image_keys`.

    Args:
        images: images [B, C, *spatial].
        conditions: tensors with one row an image, and numbers, texts, booleans or None that all images share.

    Raises:
        TypeError: when a condition is something else, of which no record could be kept.
        ValueError: when a tensor has another number of rows.

    Example:
        >>> images = torch.zeros(2, 1, 2, 2)
        >>> same, other = evaluation_keys(images), evaluation_keys(images, {"age": torch.tensor([40.0, 50.0])})
        >>> same[0] == same[1], other[0] == other[1], len({*same, *other})
        (True, False, 3)
    """
    keys = image_keys(images)
    if not conditions:
        return [key.hex() for key in keys]
    rows, shared = split_conditions(conditions, len(images))
    if strange := [name for name, value in shared.items() if not isinstance(value, int | float | str | None)]:
        raise TypeError(
            f"{', '.join(strange)}: expected tensors with one row an image, numbers or texts where a record is kept of "
            f"the errors, got {type(shared[strange[0]]).__name__}"
        )
    common = repr(sorted(shared.items())).encode()
    found = []
    for index, key in enumerate(keys):
        own = _hash({name: value[index] for name, value in rows.items()})
        found.append(hashlib.blake2b(key + own.encode() + common, digest_size=8).hexdigest())
    return found


def _beside_weights(network: torch.nn.Module) -> str:
    """What the wrappers of this package around a network do beside its weights, such as the size of windows."""
    parts = [module for module in network.modules() if isinstance(module, _WRAPPERS)]
    return ", ".join(f"{type(module).__name__}({said})" for module in parts if (said := module.extra_repr()))


def _of_likelihood(inferer: ScoreClassifierInferer) -> dict[str, str | int]:
    steps = f"tolerance {inferer.tolerance:g}" if inferer.solver == "dopri5" else f"{inferer.num_steps} steps"
    return {
        "solver": f"{inferer.solver}, {steps}",
        "divergence": "exact" if inferer.exact_divergence else f"{inferer.num_probes} {inferer.probe} probes",
        "terminal": inferer.terminal,
        "dequantization": repr(inferer.dequantization),
    }


def _of_errors(inferer: DiffusionClassifierInferer, precision: torch.dtype | None) -> dict[str, str | int]:
    levels, mirrors, sizes = inferer.draws.levels, inferer.draws.mirrors, inferer.conditions_per_class
    # Logarithms may differ in the last digit from machine to machine.
    log_snr = inferer.process.log_snr(inferer.process.timesteps(levels)).round(decimals=6)
    decides = inferer.stopping is not None or precision is not None
    made: dict[str, str | int] = {
        "noise_levels": _hash({"levels": levels} if mirrors is None else {"levels": levels, "mirrors": mirrors}),
        "log_snr": _hash({"log_snr": log_snr + 0.0}),
        "num_draws": inferer.num_draws,
        "precision": str(precision or torch.float32),
        "stopping": _describe(inferer.stopping),
        "decision": f"{inferer.rule}, {_describe(inferer.weighting)}" if decides else "afterwards",
    }
    if sizes is not None:  # not where each class has one, as in results of earlier versions
        made["conditions_per_class"] = str(list(sizes))
    return made


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()


def _name(function: object) -> str:
    """Of a function of a package its name, as its repr names its place in memory; of one's own its code as well."""
    name = str(getattr(function, "__qualname__", ""))
    if isinstance(function, FunctionType) and "<" not in name and is_from_library(function.__module__):
        return name
    if not isinstance(function, _FUNCTIONS):
        return name or _describe(function)
    try:
        return f"{name or type(function).__name__} {value_hash(function)}"
    except NotDescribedError as error:
        raise ValueError(
            "inferer: expected functions that can be told from others, as results are stored with what they were made "
            f"by, but {name} holds {error}; make it without that"
        ) from None


def _describe(setting: object) -> str:
    """Name and values; the default repr of an object would name its place in memory, and that of an array skip some."""
    if isinstance(setting, torch.Tensor):
        return f"tensor {_hash({'tensor': setting})}"
    if isinstance(setting, np.ndarray):
        return f"array {value_hash(setting)}"
    if isinstance(setting, _FUNCTIONS):
        return _name(setting)
    if type(setting).__repr__ is not object.__repr__:
        return repr(setting)
    values = ", ".join(f"{name}={_describe(value)}" for name, value in sorted(vars(setting).items()))
    return f"{type(setting).__name__}({values})"
