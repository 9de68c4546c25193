# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Error maps as files and pictures."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..explain import overlay
from ..image_io.image_files import read_image_file
from ..image_io.map_file import nifti_map
from .image_grid import ImageGrid

__all__ = ["overlay_png", "write_map"]

OVERLAY_SIZE = 1024  # longer side of the overlay at most: it travels as text
PNG_ZERO = 32768  # grey level of a 16-bit PNG that stands for 0


def write_map(values: torch.Tensor, grid: ImageGrid, extension: str) -> Path:
    """Write a signed map to a temporary file.

    NIfTI: float32 in the image's own grid. PNG: 16 bits, upright, value = (grey - 32768) / 32767 * largest magnitude.

    Args:
        values: the map [H, W] or [H, W, D], upright.
        grid: grid of the image.
        extension: ``.nii.gz``, ``.nii`` or ``.png``.

    Returns:
        The file's path; whoever asked removes it.

    Raises:
        ValueError: when a volume is to be written as PNG.
    """
    array = values.numpy().astype(np.float32)
    if extension == ".png" and array.ndim != 2:
        raise ValueError("result_extension: expected .nii.gz or .nii for a volume, got .png")
    handle, name = tempfile.mkstemp(suffix=extension)
    os.close(handle)
    try:
        if extension == ".png":
            scaled = array / max(float(np.abs(array).max()), np.finfo(np.float32).tiny)
            Image.fromarray((PNG_ZERO + np.rint(32767 * scaled)).astype(np.uint16)).save(name)
        else:
            nibabel.save(nifti_map(array, grid), name)
    except Exception:
        Path(name).unlink()
        raise
    return Path(name)


def overlay_png(path: str | os.PathLike[str], values: torch.Tensor) -> str:
    """The map over the image as a base64 PNG, upright, longer side at most 1024 pixels.

    Args:
        path: the image file.
        values: the map [H, W] in the image's size.

    Raises:
        ValueError: when the image is a volume.
    """
    if values.ndim != 2:
        raise ValueError("overlay: expected a plane image, got a volume")
    image = np.moveaxis(read_image_file(path), -1, 0)
    factor = min(1.0, OVERLAY_SIZE / max(values.shape))
    size = tuple(max(1, round(n * factor)) for n in values.shape)
    picture = overlay(_resize(torch.from_numpy(image), size), _resize(values[None], size)[0])
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _resize(image: torch.Tensor, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if tuple(image.shape[1:]) != size:
        image = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    return np.asarray(image.numpy(), dtype=np.float32)
