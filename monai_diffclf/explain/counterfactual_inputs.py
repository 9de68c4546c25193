# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a counterfactual needs beside images: classes, a mask and, for some guidance, a null class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .._checks import plain_tensor

__all__ = ["check_mask", "check_null_class", "choose_classes"]


def check_mask(mask: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The mask as float32 on the images' device.

    Raises:
        ValueError: when its shape or values are wrong, or it is empty for an image.
    """
    expected = [len(images), 1, *images.shape[2:]]
    if list(mask.shape) != expected:
        raise ValueError(f"mask: expected one channel for each image, {expected}, got {list(mask.shape)}")
    plain = plain_tensor(mask).to(images)
    if not bool(((plain >= 0) & (plain <= 1)).all()):
        raise ValueError(f"mask: expected values from 0 to 1, got {float(plain.min()):.4g} to {float(plain.max()):.4g}")
    empty = ~plain.flatten(1).any(1)
    if bool(empty.any()):
        rows = empty.nonzero().flatten().tolist()[:10]
        raise ValueError(f"mask: expected somewhere to edit in each image, got an empty mask for image(s) {rows}")
    return plain


def check_null_class(network: Callable[..., Any], num_classes: int) -> None:
    """Refuse a network whose class embedding has no row for the null class, as far as its modules tell.

    Whether that row was trained cannot be seen from the weights.

    Raises:
        ValueError: when an embedding has fewer than K + 1 rows.
    """
    modules = network.modules() if isinstance(network, torch.nn.Module) else ()
    for module in modules:
        embedding = getattr(module, "class_embedding", None)
        rows = embedding.num_embeddings if isinstance(embedding, torch.nn.Embedding) else None
        if rows is not None and rows < num_classes + 1:
            raise ValueError(
                f"network: expected a class embedding of {num_classes + 1} rows, the last for the null class that "
                f"guidance needs, got {rows}. Set guide_away='source' or guidance=0, or train with label dropout and "
                f"num_class_embeds={num_classes + 1}"
            )


def choose_classes(
    images: torch.Tensor,
    num_classes: int,
    source: torch.Tensor | None,
    target: torch.Tensor | None,
    judge: Callable[[torch.Tensor], torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and target of each image [B], int64 on the images' device.

    Args:
        images: images [B, C, *spatial].
        num_classes: number of classes K.
        source: own classes, or None for those that the classifier finds.
        target: classes to edit towards, or None for the most probable after the source.
        judge: the classifier, from images to probabilities [B, K], or None.

    Raises:
        ValueError: when classes are out of range or the same, or cannot be told without a classifier.
    """
    probabilities = None
    if judge is not None and (source is None or (target is None and num_classes > 2)):
        probabilities = judge(images)
    if source is None:
        if probabilities is None:
            raise ValueError("source: expected the class of each image, or an inferer that finds it, got neither")
        source = probabilities.argmax(1)
    source = _labels("source", source, images, num_classes)
    if target is None and num_classes == 2:
        target = 1 - source
    elif target is None:
        if probabilities is None:
            raise ValueError(
                f"target: expected the class of each counterfactual, or an inferer that ranks the {num_classes} "
                "classes, got neither"
            )
        target = probabilities.to(source.device).scatter(1, source[:, None], -torch.inf).argmax(1)
    target = _labels("target", target, images, num_classes)
    if bool((same := source == target).any()):
        rows = same.nonzero().flatten().tolist()[:10]
        raise ValueError(f"target: expected another class than the source, got the same for image(s) {rows}")
    return source, target


def _labels(name: str, labels: torch.Tensor, images: torch.Tensor, num_classes: int) -> torch.Tensor:
    plain = torch.as_tensor(labels)
    if plain.shape != images.shape[:1] or plain.is_floating_point() or plain.dtype == torch.bool:
        raise ValueError(
            f"{name}: expected one integer an image, [{len(images)}], got {plain.dtype} of shape {list(plain.shape)}"
        )
    if not bool(((plain >= 0) & (plain < num_classes)).all()):
        raise ValueError(f"{name}: expected classes 0 to {num_classes - 1}, got {plain.unique().tolist()}")
    return plain.to(device=images.device, dtype=torch.int64)
