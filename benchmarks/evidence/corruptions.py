"""Corruptions of test images that no development has seen, and images of other kinds; all functions of the pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

__all__ = ["CORRUPTIONS", "corrupt", "inverted", "noise_image", "shuffled"]

Pixels = NDArray[np.uint8]


def corrupt(pixels: Pixels, kind: str, strength: float) -> Pixels:
    """Images [N, H, W, C] with one corruption; the noise of an image depends on its pixels alone.

    Raises:
        ValueError: for an unknown kind.

    Example:
        >>> grey = np.full((1, 8, 8, 1), 100, np.uint8)
        >>> corrupt(grey, "contrast", 0.5).std(), int(corrupt(grey, "gamma", 2.0)[0, 0, 0, 0])
        (np.float64(0.0), 39)
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind: expected one of {', '.join(CORRUPTIONS)}, got {kind!r}")
    return np.stack([CORRUPTIONS[kind](image, strength) for image in pixels])


def inverted(image: Pixels) -> Pixels:
    """Black for white."""
    return 255 - image


def shuffled(image: Pixels, fields: int = 4) -> Pixels:
    """An image cut into fields x fields and put together in another order; a rest at the edges stays."""
    high, wide = image.shape[0] // fields, image.shape[1] // fields
    changed = image.copy()
    for new, old in enumerate(_rng(image).permutation(fields * fields).tolist()):
        (a, b), (c, d) = divmod(new, fields), divmod(old, fields)
        changed[a * high : (a + 1) * high, b * wide : (b + 1) * wide] = image[
            c * high : (c + 1) * high, d * wide : (d + 1) * wide
        ]
    return changed


def noise_image(image: Pixels) -> Pixels:
    """Independent normal pixels with the mean and the spread of an image."""
    return _bytes(_rng(image).normal(image.mean(), image.std(), image.shape))


def _noise(image: Pixels, strength: float) -> Pixels:
    return _bytes(image + 255 * strength * _rng(image).standard_normal(image.shape))


def _blur(image: Pixels, strength: float) -> Pixels:
    sigma = strength * image.shape[1]
    return _bytes(gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="nearest"))


def _contrast(image: Pixels, strength: float) -> Pixels:
    return _bytes(image.mean() + strength * (image - image.mean()))


def _gamma(image: Pixels, strength: float) -> Pixels:
    return _bytes(255 * (image / 255) ** strength)


def _compression(image: Pixels, strength: float) -> Pixels:
    stream = io.BytesIO()
    _picture(image).save(stream, "JPEG", quality=int(strength))
    return np.asarray(Image.open(stream)).reshape(image.shape)


def _resolution(image: Pixels, strength: float) -> Pixels:
    height, width = image.shape[:2]
    small = (max(1, round(strength * width)), max(1, round(strength * height)))
    picture = _picture(image).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(image.shape)


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _bytes(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _rng(image: Pixels) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(image.tobytes()).hexdigest()[:16], 16))


CORRUPTIONS: dict[str, Callable[[Pixels, float], Pixels]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "gamma": _gamma,
    "compression": _compression,
    "resolution": _resolution,
}
"""Kind in the protocol -> function of an image [H, W, C] and a strength."""
