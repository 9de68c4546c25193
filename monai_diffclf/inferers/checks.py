# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What every inferer refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor

__all__ = ["check_images", "check_settings"]


def check_settings(*, num_classes: int, **positive: int) -> None:
    """Refuse a number of classes below 2, and other numbers below 1.

    Raises:
        ValueError: naming the setting.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes: expected an integer of at least 2, got {num_classes!r}")
    for name, value in positive.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}")


def check_images(images: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
    """Refuse what would give a wrong answer; return a plain tensor, float32 or float64 as given.

    Raises:
        TypeError: when the images are no floating point tensor.
        ValueError: when the network is in training mode, or the images are not finite or of the wrong shape.
    """
    if isinstance(network, torch.nn.Module) and any(module.training for module in network.modules()):
        raise ValueError(
            "network: expected eval mode, got training mode, in which dropout falsifies the errors; call network.eval()"
        )
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"images: expected a Tensor [B, C, *spatial], got {type(images).__name__}")
    if images.ndim not in (4, 5) or 0 in images.shape[1:]:
        raise ValueError(f"images: expected shape [B, C, H, W] or [B, C, H, W, D], got {list(images.shape)}")
    images = images.as_tensor() if isinstance(images, MetaTensor) else images
    if not images.is_floating_point():
        raise TypeError(f"images: expected floating point values scaled as in training, got {images.dtype}")
    images = images.detach() if images.dtype == torch.float64 else images.detach().float()
    if not bool(torch.isfinite(images).all()):
        bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"images: expected finite values, got NaN or infinity in image(s) {bad[:10]} of the batch")
    return images
