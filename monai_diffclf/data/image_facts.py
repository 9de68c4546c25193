# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the audit of splits wants to know of each image: its content, a thumbnail, and what is no sign of disease."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from ..image_io.file_kind import kind_of
from ..image_io.image_files import merge_equal_channels, read_image_file, scale_by_type
from ..image_io.series_archive import is_series_archive
from ..image_io.upright import upright_volume
from ..image_io.volume_file import read_volume_file
from .pneumonia_mnist import image_key

__all__ = ["THUMBNAIL", "ImageFacts", "read_facts"]

THUMBNAIL = 16
_KNOWN = {"image", "label", "key", "patient"}


@dataclass(frozen=True)
class ImageFacts:
    """What one image is like.

    Args:
        content: key of its pixels at 8 bits (`image_key`); identical images have the same one.
        thumbnail: grey values float32 [16, 16], averaged over the image (and the slices of a volume).
        fields: what may go with the label without being a sign of disease: name -> number or text.
    """

    content: str
    thumbnail: npt.NDArray[np.float32]
    fields: Mapping[str, float | str]


def read_facts(items: Sequence[Mapping[str, Any]], *, progress: bool = False) -> list[ImageFacts]:
    """The facts of each image of a datalist, in its order.

    Args:
        items: items with an ``image``: a path, or an array of uint8, uint16, bool, or floats in [0, 1].
        progress: whether to show a progress bar.

    Raises:
        ValueError: naming the images that cannot be read.
    """
    results: list[ImageFacts] = []
    wrong: list[str] = []
    # Decoders and NumPy let other threads run. More threads than a few gain little and hold an image each.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for found in tqdm(
            pool.map(_facts_or_error, items), total=len(items), desc="audit", unit="image", disable=not progress
        ):
            if isinstance(found, ImageFacts):
                results.append(found)
            else:
                wrong.append(found)
    if wrong:
        more = f"; and {len(wrong) - 5} more images" if len(wrong) > 5 else ""
        raise ValueError("; ".join(wrong[:5]) + more)
    return results


def _facts_or_error(item: Mapping[str, Any]) -> ImageFacts | str:
    try:
        return _facts(item)
    except ValueError as error:
        return str(error)


def _facts(item: Mapping[str, Any]) -> ImageFacts:
    image = item["image"]
    fields = {
        name: value for name, value in item.items() if name not in _KNOWN and isinstance(value, str | int | float)
    }
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        pixels = _read(path)
        series = path.is_dir()
        fields["file format"] = "folder" if series else path.suffix.lower() or "none"
        files = [file for file in path.iterdir() if file.is_file()] if series else [path]
        fields["file size"] = float(sum(file.stat().st_size for file in files))
        fields["file name"] = re.sub(r"\d+", "0", path.name.removesuffix(path.suffix))[:40]
    else:
        array = np.asarray(image)
        pixels = (
            scale_by_type(array) if array.ndim > 2 and array.shape[-1] in (1, 3) else scale_by_type(array)[..., None]
        )
    pixels = merge_equal_channels(pixels)
    bytes_ = np.round(np.clip(pixels, 0, 1) * 255)
    grey = pixels @ np.full(pixels.shape[-1], 1 / pixels.shape[-1], dtype=np.float32)
    flat = grey.mean(tuple(range(2, grey.ndim))) if grey.ndim > 2 else grey
    return ImageFacts(
        content=image_key(bytes_.astype(np.uint8)),
        thumbnail=_thumbnail(flat),
        fields=fields | _measure(pixels, flat, bytes_),
    )


def _read(path: Path) -> npt.NDArray[np.float32]:
    """Pixels [H, W, C] or [H, W, D, C] in [0, 1], upright, of a file or a series of slices."""
    if not _is_volume_alone(path):
        return read_image_file(path)
    values, grid = read_volume_file(path)  # in its own units, as NIfTI files are, and stretched as they are
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / np.float32(high - low if high != low else 1)
    return np.asarray(upright_volume(scaled, grid.affine)[0][..., None], dtype=np.float32)


def _is_volume_alone(path: Path) -> bool:
    """Whether it is of a kind that is read as a volume only."""
    with suppress(OSError):  # reading it will say what is wrong
        return path.is_dir() or is_series_archive(path) or kind_of(path) == "NRRD"
    return False


def _measure(
    pixels: npt.NDArray[np.float32], flat: npt.NDArray[np.float32], bytes_: npt.NDArray[np.float32]
) -> dict[str, float | str]:
    height, width = flat.shape
    edge = max(1, min(height, width) // 16)
    inside = flat[edge:-edge, edge:-edge]
    border = (float(flat.sum()) - float(inside.sum())) / (flat.size - inside.size)
    return {
        "height": float(height),
        "width": float(width),
        "aspect": width / height,
        "channels": float(pixels.shape[-1]),
        "bits": 8.0 if np.abs(pixels * 255 - bytes_).max() < 1e-3 else 16.0,
        "mean grey": float(flat.mean()),
        "border grey": border,
    }


def _thumbnail(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    tensor = torch.from_numpy(np.ascontiguousarray(grey, dtype=np.float32))[None, None]
    small = torch.nn.functional.interpolate(tensor, (THUMBNAIL, THUMBNAIL), mode="area")
    return np.asarray(small[0, 0].numpy(), dtype=np.float32)
