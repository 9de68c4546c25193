# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images of which scaling to black and white has left next to nothing, as their files are in other units."""

from __future__ import annotations

import numpy as np
import torch

from ._checks import plain_tensor

__all__ = ["lost_values"]

# Collimated X-rays, mammograms and brains without skull are mostly black, yet far from this.
NEARLY_ALL = 0.99
NARROW = 0.02  # of the 2 from black to white


def lost_values(image: torch.Tensor) -> str:
    """What to say of an image, as a network sees it, that is all but black and white alone, or all but one grey.

    Values beyond the window of a scaling become its ends, without a word: Hounsfield units where values from 0 to 1 are
    expected leave two colours, values from 0 to 1 where Hounsfield units are expected one grey.

    Args:
        image: the image, scaled to [-1, 1].

    Returns:
        a text; empty for most images.

    Example:
        >>> lost_values(torch.linspace(-1, 1, 100)), lost_values(torch.linspace(-900, 900, 100).clip(-1, 1))
        ('', '100 % of what the network sees are two values, -1 and 1')
        >>> lost_values(torch.linspace(0.3, 0.31, 100))
        '99 % of what the network sees lies between 0.3 and 0.31'
    """
    values = plain_tensor(image).detach().cpu().float().numpy().ravel()
    low, high = values.min(), values.max()
    ends = float(((values == low) | (values == high)).mean())
    if low < high and ends >= NEARLY_ALL and high - low > NARROW:
        return f"{np.floor(100 * ends):g} % of what the network sees are two values, {low:.3g} and {high:.3g}"
    edge = int((1 - NEARLY_ALL) / 2 * len(values))
    sorted_ends = np.partition(values, [edge, len(values) - 1 - edge])
    first, last = sorted_ends[edge], sorted_ends[len(values) - 1 - edge]
    if last - first < NARROW:
        where = f"is {first:.3g}" if first == last else f"lies between {first:.3g} and {last:.3g}"
        return f"{100 * NEARLY_ALL:g} % of what the network sees {where}"
    return ""
