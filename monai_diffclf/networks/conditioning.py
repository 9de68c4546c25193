# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How a class reaches a network: labels [B] -> the keyword arguments of its forward call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional

__all__ = ["Conditioning", "class_labels", "class_table", "make_conditioning", "one_hot_context"]

Conditioning = Callable[[torch.Tensor], dict[str, Any]]


def class_labels(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels as MONAI's ``class_labels``, for networks with ``num_class_embeds`` = K + 1 (index K is the null class).

    Example:
        >>> class_labels(torch.tensor([0, 2]))
        {'class_labels': tensor([0, 2])}
    """
    return {"class_labels": labels}


def one_hot_context(num_classes: int) -> Conditioning:
    """Labels as one cross-attention token, the one-hot vector of K + 1 entries (index K is the null class).

    For MONAI networks with ``with_conditioning=True, cross_attention_dim=num_classes + 1``. The attention's own
    projections then are the class embedding, so that every trained parameter belongs to the network (and hence to its
    EMA and checkpoint).

    Args:
        num_classes: number of classes K.

    Example:
        >>> one_hot_context(2)(torch.tensor([1]))["context"].tolist()
        [[[0.0, 1.0, 0.0]]]
    """

    def context(labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"context": functional.one_hot(labels, num_classes + 1).float()[:, None]}

    return context


def make_conditioning(conditioning: str | Conditioning, num_classes: int) -> Conditioning:
    """Look up a conditioning by its name, or take a callable as it is.

    Args:
        conditioning: ``"class_labels"``, ``"crossattn"``, or a callable from labels [B] to keyword arguments of the
            network.
        num_classes: number of classes K.

    Raises:
        ValueError: when the name is unknown.
        TypeError: when it is neither a name nor callable.
    """
    if callable(conditioning):
        return conditioning
    if not isinstance(conditioning, str):
        raise TypeError(f"conditioning: expected a name or a callable, got {type(conditioning).__name__}")
    if conditioning == "class_labels":
        return class_labels
    if conditioning == "crossattn":
        return one_hot_context(num_classes)
    raise ValueError(f"conditioning: expected 'class_labels', 'crossattn' or a callable, got {conditioning!r}")


def class_table(conditioning: Conditioning, num_classes: int, device: torch.device | str) -> dict[str, torch.Tensor]:
    """The network's arguments for each class, one row a class: made once, not at every evaluation.

    Args:
        conditioning: from labels [n] to keyword arguments of the network.
        num_classes: number of classes K.
        device: where the labels are.

    Raises:
        ValueError: when an argument does not have one row a class.
    """
    conditions = conditioning(torch.arange(num_classes, device=device))
    for name, table in conditions.items():
        if not isinstance(table, torch.Tensor) or table.shape[:1] != (num_classes,):
            got = list(table.shape) if isinstance(table, torch.Tensor) else type(table).__name__
            raise ValueError(f"conditioning: expected {name} with one row a label, [{num_classes}, ...], got {got}")
    return conditions
