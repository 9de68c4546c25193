# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What errors depend on, in a form that can be stored beside them and compared later."""

from __future__ import annotations

import hashlib

import torch

from ..classification.philox import GENERATOR
from ..networks.conditioning import image_parameters
from ..networks.schedulers import SDEProcess
from ..networks.weight_files import network_hash
from .classifier import ClassifierInferer
from .diffusion_classifier import DiffusionClassifierInferer
from .score_classifier import ScoreClassifierInferer

__all__ = ["provenance"]


def provenance(inferer: ClassifierInferer, network: torch.nn.Module) -> dict[str, str | int]:
    """All that an image's errors or likelihoods depend on, but for the image: network, draws, scheduler and settings.

    Two evaluations with equal provenance give equal errors for equal images. The temperature is not part of it, nor are
    rule and weighting unless they decide what is evaluated: with a stopping rule or in reduced precision; nor is the
    prior of a `ScoreClassifierInferer`.

    Args:
        inferer: the inferer.
        network: the denoiser.

    Returns:
        ``network`` (see :func:`monai_diffclf.networks.network_hash`), ``seed``, ``noise_levels`` and ``log_snr``
        (hashes of the draws' numbers), ``num_draws``, ``num_classes``, ``prediction_type``, ``conditioning`` (hash of
        what the classes become), ``precision``, ``stopping`` and ``decision``; for a `ScoreClassifierInferer` ``sde``,
        ``solver``, ``divergence``, ``terminal`` and ``dequantization`` in place of what draws are described by.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> made = provenance(DiffusionClassifierInferer(DDPMScheduler(10), num_draws=5, seed=3), torch.nn.Linear(1, 1))
        >>> made["seed"], made["num_draws"], made["prediction_type"], made["stopping"]
        (3, 5, 'epsilon', 'None')
    """
    parameter = next(network.parameters(), torch.empty(0))
    classes = {}
    if not image_parameters(inferer.conditioning):  # else it depends on the images: part of their keys
        classes = inferer.conditioning(torch.arange(inferer.num_classes, device=parameter.device))
    common: dict[str, str | int] = {
        "network": network_hash(network),
        "seed": inferer.seed,
        "generator": GENERATOR,
        "num_classes": inferer.num_classes,
        "prediction_type": inferer.process.prediction_type,
        "conditioning": _hash(classes),
        "latent_space": inferer.latent_space.version,
    }
    if isinstance(inferer.process, SDEProcess):
        common["sde"] = _describe(inferer.process.sde)
    if isinstance(inferer, ScoreClassifierInferer):
        return common | _of_likelihood(inferer)
    if isinstance(inferer, DiffusionClassifierInferer):
        return common | _of_errors(inferer)
    raise TypeError(f"inferer: expected one of this package, got {type(inferer).__name__}")


def _of_likelihood(inferer: ScoreClassifierInferer) -> dict[str, str | int]:
    steps = f"tolerance {inferer.tolerance:g}" if inferer.solver == "dopri5" else f"{inferer.num_steps} steps"
    return {
        "solver": f"{inferer.solver}, {steps}",
        "divergence": "exact" if inferer.exact_divergence else f"{inferer.num_probes} {inferer.probe} probes",
        "terminal": inferer.terminal,
        "dequantization": repr(inferer.dequantization),
    }


def _of_errors(inferer: DiffusionClassifierInferer) -> dict[str, str | int]:
    levels, mirrors = inferer.draws.levels, inferer.draws.mirrors
    # Logarithms may differ in the last digit from machine to machine.
    log_snr = inferer.process.log_snr(inferer.process.timesteps(levels)).round(decimals=6)
    decides = inferer.stopping is not None or inferer.amp_dtype is not None
    return {
        "noise_levels": _hash({"levels": levels} if mirrors is None else {"levels": levels, "mirrors": mirrors}),
        "log_snr": _hash({"log_snr": log_snr + 0.0}),
        "num_draws": inferer.num_draws,
        "precision": str(inferer.amp_dtype or torch.float32),
        "stopping": _describe(inferer.stopping),
        "decision": f"{inferer.rule}, {_describe(inferer.weighting)}" if decides else "afterwards",
    }


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()


def _describe(setting: object) -> str:
    """Name and values; the default repr of an object would name its place in memory, and that of a tensor skip some."""
    if isinstance(setting, torch.Tensor):
        return f"tensor {_hash({'tensor': setting})}"
    if type(setting).__repr__ is not object.__repr__:
        return repr(setting)
    values = ", ".join(f"{name}={_describe(value)}" for name, value in sorted(vars(setting).items()))
    return f"{type(setting).__name__}({values})"
