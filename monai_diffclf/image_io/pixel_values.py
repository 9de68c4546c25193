# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Arrays of pixels of any type as float32 in [0, 1]."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from .doubts import doubt

__all__ = ["check_finite", "merge_equal_channels", "scale_by_type", "turned", "warn_if_faint"]


def scale_by_type(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """uint8 and uint16 divided by the type's largest value, bool as 0 and 1, floats as they are if in [0, 1].

    Raises:
        ValueError: on another type, or floats that are not finite or not in [0, 1].

    Example:
        >>> import numpy as np
        >>> scale_by_type(np.array([0, 51, 255], dtype=np.uint8))
        array([0. , 0.2, 1. ], dtype=float32)
    """
    if image.dtype in (np.uint8, np.uint16):
        return np.asarray(image / np.float32(np.iinfo(image.dtype).max), dtype=np.float32)
    if image.dtype == np.bool_:
        return image.astype(np.float32)
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"expected pixels of type uint8, uint16, bool or float, got {image.dtype}; convert them first")
    check_finite(image)
    if image.size and (image.min() < 0 or image.max() > 1):
        raise ValueError(
            f"expected float pixels in [0, 1], got [{image.min():.4g}, {image.max():.4g}]; scale them first"
        )
    return image.astype(np.float32)


def check_finite(image: npt.NDArray[Any], where: str = "") -> None:
    """Raise `ValueError`, after the text `where`, for NaN and infinite pixels."""
    if not np.isfinite(image).all():
        raise ValueError(f"{where}expected finite pixels, got {int((~np.isfinite(image)).sum())} NaN or infinite ones")


def merge_equal_channels(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A colour image ``[..., 3]`` whose channels are all equal is grey, ``[..., 1]``; others stay as they are."""
    if image.shape[-1] == 3 and (image == image[..., :1]).all():
        return image[..., :1]
    return image


def turned(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A stored picture ``[H, W, C]`` as it is shown, by the tag Orientation of EXIF and TIFF 6.0.

    Numbers that it does not define turn nothing, as in viewers.

    Example:
        >>> import numpy as np
        >>> turned(np.array([[[1.0], [2.0]]]), 6)[..., 0].tolist()
        [[1.0], [2.0]]
    """
    if 5 <= orientation <= 8:
        image = np.swapaxes(image, 0, 1)
    if orientation in (3, 4, 7, 8):
        image = np.flip(image, 0)
    if orientation in (2, 3, 6, 7):
        image = np.flip(image, 1)
    return image


def warn_if_faint(image: npt.NDArray[np.float32], bits: int, path: str | os.PathLike[str]) -> None:
    """Warn of a picture that uses little of its range: 12 bits saved as 16, or a mask of 0 and 1 as 8 bits.

    Of more than 8 bits less than a tenth is little; of 8 bits, in which a dark picture may be as it is, less than 8 of
    the 256 values.
    """
    used = float(np.ptp(image))
    if 0 < used < (0.1 if bits > 8 else 7.5 / 255):
        doubt(
            path,
            f"uses {used:.1%} of the range of its {bits} bits, so it is almost without contrast; scale the "
            "values to the whole range if they have fewer bits",
        )
