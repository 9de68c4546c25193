# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How several findings of an image reach a network: a state for each of them, and one embedding of all.

A state is 0 (absent), 1 (present) or 2 (unknown). The states of an image choose a row each of a table of 3 L rows,
whose sum the network is given: L findings take 3 L embeddings, not 3^L.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from .._checks import check_integer
from .conditioning import Conditioning

__all__ = ["ABSENT", "PRESENT", "UNKNOWN", "FindingsConditioning", "findings_embedding", "make_findings_conditioning"]

ABSENT, PRESENT, UNKNOWN = 0, 1, 2
NUM_STATES = 3

FindingsConditioning = Callable[..., dict[str, Any]]


def findings_embedding(num_findings: int, channels: int) -> nn.EmbeddingBag:
    """The embedding of all states of an image: the sum of a row for each [B, channels], from ``class_labels`` [B, L].

    It takes the place of a network's class embedding: ``unet.class_embedding = findings_embedding(L, channels)``.

    Args:
        num_findings: findings L.
        channels: channels of the embedding it stands for.

    Raises:
        ValueError: when there is no finding.

    Example:
        >>> labels = make_findings_conditioning("class_labels", 2)(torch.tensor([[1, 2], [0, 0]]))["class_labels"]
        >>> labels.tolist(), findings_embedding(2, 8)(labels).shape
        ([[1, 5], [0, 3]], torch.Size([2, 8]))
    """
    check_integer(num_findings, "num_findings")
    return nn.EmbeddingBag(NUM_STATES * num_findings, channels, mode="sum")


def make_findings_conditioning(conditioning: str | FindingsConditioning, num_findings: int) -> Conditioning:
    """From states [n, L], int64, to keyword arguments of the network; by name, or a callable as it is.

    Args:
        conditioning: ``"class_labels"``: rows of the table of `findings_embedding` [n, L], for networks with
            ``num_findings``. ``"crossattn"``: one token of cross-attention that is 1 at the row of each state, 0
            elsewhere [n, 1, 3 L], for any network with ``cross_attention_dim`` 3 L, whose own projections are then the
            table. Or a callable; further parameters of it are conditions of each image, such as the age, see
            :mod:`monai_diffclf.networks.conditioning`.
        num_findings: findings L.

    Raises:
        ValueError: when the name is unknown.
        TypeError: when it is neither a name nor callable.

    Example:
        >>> make_findings_conditioning("crossattn", 2)(torch.tensor([[1, 2]]))["context"].tolist()
        [[[0.0, 1.0, 0.0, 0.0, 0.0, 1.0]]]
    """
    check_integer(num_findings, "num_findings")
    if callable(conditioning):
        return conditioning
    if not isinstance(conditioning, str):
        raise TypeError(f"conditioning: expected a name or a callable, got {type(conditioning).__name__}")
    if conditioning == "class_labels":
        return _rows
    if conditioning == "crossattn":
        return _token
    raise ValueError(f"conditioning: expected 'class_labels', 'crossattn' or a callable, got {conditioning!r}")


def _rows(states: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"class_labels": states + NUM_STATES * torch.arange(states.shape[1], device=states.device)}


def _token(states: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"context": functional.one_hot(states, NUM_STATES).float().flatten(1)[:, None]}
