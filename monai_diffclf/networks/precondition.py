# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Fit a network's preconditioning to training images, before its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler
from monai.utils import CommonKeys

from .._checks import plain_tensor
from .._spread import spread
from .layers.haar import haar_forward
from .nets.wavelet_unet import WaveletDiffusionUNet
from .schedulers.noise_process import NoiseProcess

__all__ = ["precondition_network"]

NUM_IMAGES = 500  # a spread is known to some percent by far fewer
_BATCH = 50


def precondition_network(
    network: torch.nn.Module,
    scheduler: Scheduler | NoiseProcess,
    items: Sequence[Mapping[str, Any]],
    read: Callable[[Any], Mapping[str, Any]],
    *,
    limit: int = NUM_IMAGES,
) -> torch.nn.Module:
    """The network, with its preconditioning fitted to training images where it has one that is not fitted yet.

    Args:
        network: a `WaveletDiffusionUNet`; any other is returned as it is.
        scheduler: the scheduler that it is trained with.
        items: the training images' items, read evenly spaced where there are more than ``limit``.
        read: transform that reads an item's ``"image"`` [C, *spatial] as the network sees it, without augmentation.
        limit: images at most.

    Raises:
        ValueError: when there are no images, or they do not suit the network or the scheduler.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> network = WaveletDiffusionUNet(2, 1, channels=(8, 8), attention_levels=(False, False), num_res_blocks=1,
        ...     norm_num_groups=4, num_head_channels=8, num_class_embeds=3, precondition=True)
        >>> items = [{"image": torch.full((1, 8, 8), 0.5)}] * 3
        >>> scheduler = DDPMScheduler(1000, prediction_type="v_prediction")
        >>> precondition_network(network, scheduler, items, dict).preconditioning.std.tolist()[0]
        1.0
    """
    if not isinstance(network, WaveletDiffusionUNet) or network.preconditioning is None:
        return network
    if not network.preconditioning.fitted:
        network.preconditioning.fit(scheduler, _coefficients(network, spread(items, limit), read))
    return network


def _coefficients(
    network: WaveletDiffusionUNet, items: Sequence[Mapping[str, Any]], read: Callable[[Any], Mapping[str, Any]]
) -> Iterator[torch.Tensor]:
    for start in range(0, len(items), _BATCH):
        images = [plain_tensor(torch.as_tensor(read(item)[CommonKeys.IMAGE])) for item in items[start : start + _BATCH]]
        yield haar_forward(torch.stack(images).float(), network.levels, spatial_dims=network.spatial_dims)
