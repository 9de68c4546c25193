"""Kinds of images that a model was not made for: those that typicality was developed on, and those held out.

Whatever is chosen about typicality (features, how they are put together, what is shipped) is chosen on kinds of
``DEVELOPMENT``, made of validation images. Kinds of ``HELD_OUT`` were written down, with their strength, before any of
them was made; each is made once, of test images, after all choices. A corruption takes an image [H, W] or [H, W, 3] in
[0, 1] of any size, and lengths follow from the shorter side. ``FOREIGN`` says which kinds are images of another source.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

Array = np.ndarray[Any, Any]
Corruption = Callable[[Array, np.random.Generator], Array]

DEVELOPMENT = {
    "chest X-rays": ("noise", "blur", "inversion", "rotation", "dermoscopy", "ultrasound"),
    # A quarter turn is no shift for dermoscopy, which has no upright.
    "dermoscopy": ("noise", "blur", "inversion", "ultrasound"),
}
HELD_OUT = {
    "chest X-rays": (
        *("contrast", "gamma", "compression", "resolution", "crop", "text", "occlusion", "impulse noise"),
        *("upside down", "phantom films", "example scans"),
    ),
    "dermoscopy": (
        *("contrast", "gamma", "compression", "resolution", "crop", "text", "occlusion", "impulse noise"),
        *("grey", "X-rays", "example scans"),
    ),
}
FOREIGN = ("dermoscopy", "ultrasound", "X-rays", "phantom films", "example scans")


def _noise(image: Array, rng: np.random.Generator) -> Array:
    return np.asarray(np.clip(image + 0.1 * rng.standard_normal(image.shape), 0, 1))


def _impulse_noise(image: Array, rng: np.random.Generator) -> Array:
    """Three pixels in a hundred black or white."""
    out, hit = image.copy(), rng.random(image.shape[:2])
    out[hit < 0.015], out[hit > 0.985] = 0.0, 1.0
    return out


def _blur(image: Array, _: np.random.Generator) -> Array:
    sigma = min(image.shape[:2]) / 28
    return np.asarray(gaussian_filter(image, (sigma, sigma, 0)[: image.ndim]))


def _contrast(image: Array, _: np.random.Generator) -> Array:
    """Half of the contrast."""
    return np.asarray(image.mean() + 0.5 * (image - image.mean()))


def _compression(image: Array, _: np.random.Generator) -> Array:
    """JPEG of quality 10."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, format="JPEG", quality=10)
    return _array(Image.open(buffer))


def _resolution(image: Array, _: np.random.Generator) -> Array:
    """Half of the resolution, enlarged again."""
    height, width = image.shape[:2]
    small = _picture(image).resize((width // 2, height // 2), Image.Resampling.BOX)
    return _array(small.resize((width, height), Image.Resampling.BILINEAR))


def _crop(image: Array, _: np.random.Generator) -> Array:
    """The middle 60 % of each side, enlarged."""
    height, width = image.shape[:2]
    box = (round(0.2 * width), round(0.2 * height), round(0.8 * width), round(0.8 * height))
    return _array(_picture(image).crop(box).resize((width, height), Image.Resampling.BICUBIC))


def _text(image: Array, rng: np.random.Generator) -> Array:
    """Two letters in white in one of the corners, a third of the side high."""
    height, width = image.shape[:2]
    picture, size = _picture(image), min(height, width) / 3
    corner = ((0.02 * width, 0.02 * height), (width - 1.3 * size, height - 1.2 * size))[int(rng.integers(2))]
    white: Any = 255 if image.ndim == 2 else (255, 255, 255)
    ImageDraw.Draw(picture).text(corner, "AP", fill=white, font=ImageFont.load_default(size))
    return _array(picture)


def _occlusion(image: Array, rng: np.random.Generator) -> Array:
    """A black square with a quarter of the side, anywhere."""
    side, out = min(image.shape[:2]) // 4, image.copy()
    top, left = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
    out[top : top + side, left : left + side] = 0
    return out


CORRUPTIONS: dict[str, Corruption] = {
    "none": lambda image, _: image,
    "noise": _noise,
    "blur": _blur,
    "inversion": lambda image, _: 1 - image,
    "rotation": lambda image, _: np.rot90(image).copy(),
    "contrast": _contrast,
    "gamma": lambda image, _: np.sqrt(image),
    "compression": _compression,
    "resolution": _resolution,
    "crop": _crop,
    "text": _text,
    "occlusion": _occlusion,
    "impulse noise": _impulse_noise,
    "upside down": lambda image, _: image[::-1].copy(),
    "grey": lambda image, _: np.repeat(image.mean(2, keepdims=True), 3, 2),
}


def corrupt(images: Array, kind: str, *, seed: int = 0) -> Array:
    """Images [n, H, W] or [n, H, W, 3] in [0, 1] with one corruption, float32.

    Raises:
        ValueError: when the kind is unknown.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind: expected one of {sorted(CORRUPTIONS)}, got {kind!r}")
    rng = np.random.default_rng(seed)
    return np.stack([CORRUPTIONS[kind](np.asarray(image, np.float64), rng) for image in images]).astype(np.float32)


def _picture(image: Array) -> Image.Image:
    return Image.fromarray(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8))


def _array(picture: Image.Image) -> Array:
    return np.asarray(picture, dtype=np.float64) / 255
