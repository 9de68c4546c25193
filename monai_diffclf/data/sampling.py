# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Class-balanced sampling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["class_balanced_weights"]


def class_balanced_weights(items: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Sampling weights under which every class is drawn equally often [n], float64, with sum 1.

    For `torch.utils.data.WeightedRandomSampler`.

    Args:
        items: a datalist, each item with its "label".

    Raises:
        ValueError: when the list is empty.

    Example:
        >>> class_balanced_weights([{"label": 0}, {"label": 1}, {"label": 1}]).tolist()
        [0.5, 0.25, 0.25]
    """
    if not items:
        raise ValueError("items: expected a datalist with at least one item, got an empty one")
    counts = Counter(int(item["label"]) for item in items)
    return torch.tensor([1 / (counts[int(item["label"])] * len(counts)) for item in items], dtype=torch.float64)
