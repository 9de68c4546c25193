# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pictures of a case, as PNG addresses that a page can hold."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Painted", "as_pixels", "film", "png_address", "signed_film", "thumbnail"]

# A map and how large the difference is that has its full colour.
Painted = tuple[str, float]


def png_address(pixels: NDArray[np.uint8]) -> str:
    """PNG data address of pixels [H, W], [H, W, 3] or [H, W, 4].

    Example:
        >>> png_address(np.zeros((2, 2), np.uint8))[:22]
        'data:image/png;base64,'
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels [H, W] or [H, W, 3] of an image [C, H, W] in [-1, 1]."""
    scaled = np.clip((np.asarray(image, dtype=np.float64) + 1) / 2, 0, 1)
    pixels = (255 * scaled).round().astype(np.uint8)
    return np.ascontiguousarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))


def film(image: NDArray[Any]) -> str:
    """PNG data address of an image [C, H, W] in [-1, 1]."""
    return png_address(as_pixels(image))


def thumbnail(image: NDArray[Any], size: int = 40) -> str:
    """PNG data address of an image [C, H, W] in [-1, 1], its longer side at most ``size`` pixels."""
    picture = Image.fromarray(as_pixels(image))
    picture.thumbnail((size, size))
    return png_address(np.asarray(picture))


def signed_film(difference: NDArray[Any], colours: tuple[str, str]) -> Painted:
    """Paint a signed map to lay over an image: the first colour where positive, the second where negative.

    The opacity is proportional to the size of the difference, so that laying the picture on with opacity a / b brings a
    map whose full colour stands for a to the scale of one whose full colour stands for b.

    Args:
        difference: map [H, W].
        colours: of positive and of negative values.

    Returns:
        PNG data address, and the difference that has the full colour: the 99.5 % quantile of its size.

    Example:
        >>> signed_film(np.array([[2.0, -1.0]]), ("#ff0000", "#0000ff"))[1]
        1.995
    """
    values = np.asarray(difference, dtype=np.float64)
    limit = float(np.quantile(np.abs(values), 0.995))
    pixels = np.empty((*values.shape, 4))
    pixels[..., :3] = np.where((values > 0)[..., None], to_rgb(colours[0]), to_rgb(colours[1]))
    pixels[..., 3] = np.clip(np.abs(values) / limit, 0, 1) if limit > 0 else 0.0
    pixels[pixels[..., 3] == 0] = 0  # compresses better
    return png_address((255 * pixels).round().astype(np.uint8)), limit
