# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a network uses the class that it is told: what does not cannot classify, and must not seem to."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import nn

from .denoiser import Denoiser

__all__ = ["check_embeddings", "check_uses_classes", "is_same"]

_LEVELS = (0.5, 0.1, 0.9)  # quantiles of the noise levels; the first decides, the others before a refusal
_SPREAD = 0.1  # standard deviation of what takes the place of zeros


@torch.no_grad()
def check_uses_classes(denoiser: Denoiser, images: torch.Tensor, *, null_class: bool = False) -> None:
    """Refuse a network whose prediction is the same whatever the class.

    The first image is noised to the middle of the schedule and denoised as class 0 and as class K - 1: two network
    evaluations. If these are equal to the bit, every class at three levels is tried before the network is refused. A
    network that is not yet trained is accepted, with its ties: where weights were initialised with zeros, as the last
    layer of MONAI's `DiffusionModelUNet` is, it is asked whether classes differ with other numbers in their place.

    Args:
        denoiser: the network with its noise process and conditions.
        images: images or their latents [B, C, *spatial], B >= 1.
        null_class: whether there must be a class embedding for the null class, index K, too.

    Raises:
        ValueError: when the network ignores the class, or has fewer class embeddings than there are classes.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Network(torch.nn.Module):
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         return x
        >>> check_uses_classes(Denoiser(Network(), DDPMScheduler(100)), torch.zeros(1, 1, 4, 4))
        Traceback (most recent call last):
        ValueError: network: expected predictions that depend on the class, got the same for all 2 classes ...
    """
    check_embeddings(denoiser, images, null_class=null_class)
    if denoiser.num_classes < 2:
        return
    with _not_compiled(denoiser.network):
        first, last = (_predict(denoiser, images, label, _LEVELS[0]) for label in (0, denoiser.num_classes - 1))
        if not torch.equal(first, last):
            return
        used = _would_use_classes(denoiser, images) or any(_differ(denoiser, images, level) for level in _LEVELS)
    if not used:
        raise ValueError(
            "network: expected predictions that depend on the class, got the same for all "
            f"{denoiser.num_classes} classes {_reason(denoiser.network)}"
        )


@torch.no_grad()
def check_embeddings(denoiser: Denoiser, images: torch.Tensor, *, null_class: bool = False) -> None:
    """Refuse a network with fewer class embeddings than there are classes, before torch fails in its depths.

    Costs no evaluation, unless there is a smaller table (`nn.Embedding`) of which it is not known that it holds
    classes: then one, in which the table is watched. On a GPU an index that is too large would end the process's use
    of the device.

    Args:
        denoiser: see `check_uses_classes`.
        images: see `check_uses_classes`.
        null_class: see `check_uses_classes`.

    Raises:
        ValueError: when there are fewer.
    """
    network, num_labels = denoiser.network, denoiser.num_classes + null_class
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    small = [each for each in modules if isinstance(each, nn.Embedding) and each.num_embeddings < num_labels]
    if not small:
        return
    for module in modules:
        if getattr(module, "class_embedding", None) in small:
            _check_index(module.class_embedding, num_labels - 1)
    with ExitStack() as stack:
        stack.enter_context(_not_compiled(network))
        for table in small:
            stack.callback(table.register_forward_pre_hook(_watch).remove)
        _predict(denoiser, images, num_labels - 1, _LEVELS[0])


@torch.no_grad()
def is_same(denoiser: Denoiser, images: torch.Tensor, first: int, second: int) -> bool:
    """Whether a network predicts the same of the first image as one class and as another, to the bit, at three levels.

    Errors are means, which may agree where predictions do not.

    Args:
        denoiser: see `check_uses_classes`.
        images: see `check_uses_classes`.
        first: the one class.
        second: the other.
    """
    with _not_compiled(denoiser.network):
        pairs = ([_predict(denoiser, images, label, level) for label in (first, second)] for level in _LEVELS)
        return all(torch.equal(one, other) for one, other in pairs)


def _watch(table: Any, arguments: tuple[Any, ...]) -> None:
    if arguments and isinstance(arguments[0], torch.Tensor) and arguments[0].numel():
        _check_index(table, int(arguments[0].max()))


def _check_index(table: Any, index: int) -> None:
    if index >= table.num_embeddings:
        raise ValueError(
            f"network: expected class embeddings for labels 0 to {index}, got {table.num_embeddings}; build it with "
            f"num_class_embeds of at least {index + 1}, or give the number of classes that it was trained for"
        )


def _not_compiled(network: Any) -> AbstractContextManager[Any]:
    """Two evaluations are not worth minutes of compiling for a batch of one image."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in modules):
        eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return eager
    return nullcontext()


def _predict(denoiser: Denoiser, images: torch.Tensor, label: int, level: float) -> torch.Tensor:
    """What the network predicts of the first image as one class."""
    image = images[:1].detach()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
    timesteps = denoiser.process.timesteps(torch.tensor([level], dtype=torch.float64))
    noisy = denoiser.process.add_noise(image, noise, timesteps.to(image.device))
    labels = torch.tensor([label], device=image.device)
    first = torch.zeros(1, dtype=torch.int64, device=image.device)
    return denoiser.predict(noisy, timesteps, labels, image=first, full_precision=True)


def _differ(denoiser: Denoiser, images: torch.Tensor, level: float) -> bool:
    first = _predict(denoiser, images, 0, level)
    others = range(1, denoiser.num_classes)
    return any(not torch.equal(first, _predict(denoiser, images, label, level)) for label in others)


def _would_use_classes(denoiser: Denoiser, images: torch.Tensor) -> bool:
    """Whether classes differ once there are random numbers in place of weights that are all zero."""
    network = denoiser.network
    if not isinstance(network, nn.Module):
        return False
    generator = torch.Generator().manual_seed(0)
    # Tables of classes do not begin as zeros: one that is zero was lost.
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    weights = {
        name: _SPREAD * torch.randn(weight.shape, generator=generator).to(weight)
        for name, weight in network.named_parameters()
        if id(weight) not in tables and not weight.any()
    }
    if not weights:
        return False

    def other(**arguments: Any) -> Any:
        return torch.func.functional_call(network, weights, kwargs=arguments)

    denoiser.network = other
    try:
        return _differ(denoiser, images, _LEVELS[0])
    finally:
        denoiser.network = network


def _reason(network: Any) -> str:
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    sizes = [module.num_class_embeds for module in modules if hasattr(module, "num_class_embeds")]
    if sizes and all(size is None for size in sizes):
        return "(num_class_embeds is None, so that it ignores class_labels); build and train it with class embeddings"
    return "(it ignores the labels, or was not trained with them); check its class embeddings and the conditioning"
