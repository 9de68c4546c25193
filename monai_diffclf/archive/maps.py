# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An image's maps as files: pictures, arrays, or NIfTI."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import matplotlib.image
import numpy as np
from monai.utils import CommonKeys
from numpy.typing import NDArray

from ..handlers.classification_writer import map_in_image_size, map_pictures, map_suffixes
from ..handlers.finding_view import is_multi_label
from ..image_io.map_file import image_reader, nifti_bytes
from ..keys import OutputKeys
from .inputs import ArchiveImage

__all__ = ["file_stem", "map_files"]

_UNSAFE = re.compile(r"[^\w.-]+")
_SUFFIXES = {"png": ".png", "npy": ".npy", "nifti": ".nii.gz"}


def map_files(
    kind: str,
    image: ArchiveImage,
    place: int,
    item: Mapping[str, Any],
    result: Mapping[str, Any],
    preprocessing: Sequence[Callable[..., Any]],
) -> dict[str, bytes]:
    """Name and content of the file of an image's map; of several findings a file each, in their order.

    - png: the image as the network sees it, with the decision map over it; of a volume its slices side by side.
    - npy: the decision map in the upright image's own size, float32 [H, W] or [H, W, D]; of a volume that `ReadVolumed`
      has read, in the order of its file [X, Y, Z]. Of several findings positive where the finding is seen.
    - nifti: the same in the grid of the image's file, with its affine.

    The names of files of findings end with their number, such as ``_finding_0``: what a finding is called is text.

    Args:
        kind: ``"png"``, ``"npy"``, ``"nifti"`` or ``"none"``.
        image: the image.
        place: its place in the archive.
        item: the image after preprocessing.
        result: item of the evaluator's output.
        preprocessing: the transforms.

    Returns:
        name -> content; empty where there are no maps.
    """
    if kind == "none" or OutputKeys.ERROR_MAPS not in result:
        return {}
    names = [f"{file_stem(image, place)}{end}{_SUFFIXES[kind]}" for end in map_suffixes(result)]
    if kind == "png":
        return dict(zip(names, map(_png_bytes, map_pictures(result)), strict=True))
    array = map_in_image_size(result, item[CommonKeys.IMAGE], preprocessing)
    arrays = list(array) if is_multi_label(result) else [array]
    if kind == "nifti":
        grid = image_reader(preprocessing).read.grid(image.path)
        return {name: nifti_bytes(each, grid) for name, each in zip(names, arrays, strict=True)}
    return dict(zip(names, map(_npy_bytes, arrays), strict=True))


def _png_bytes(picture: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, picture, format="png")
    return buffer.getvalue()


def _npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype=np.float32))
    return buffer.getvalue()


def file_stem(image: ArchiveImage, place: int) -> str:
    """What files about an image are called, without a suffix: its place in the archive and a part of its name."""
    return f"{place:06d}_{_stem(image.key)}"


def _stem(key: str) -> str:
    r"""What a file may be called after an image: letters, digits, ``_``, ``-`` and ``.``, not too many of them.

    Example:
        >>> _stem("a b/scan  1.nii.gz"), _stem("$(rm).png"), _stem("Röntgen.dcm")
        ('scan_1', 'rm', 'Röntgen')
    """
    name = PurePosixPath(key).name.removesuffix(".gz")
    stem = name.rpartition(".")[0] or name
    # In UTF-8 a name may have 255 bytes.
    return _UNSAFE.sub("_", stem).strip("._")[:40] or "image"
