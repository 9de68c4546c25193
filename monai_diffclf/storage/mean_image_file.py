# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The mean image that lies beside what was fitted for a bundle, in its uncertainty file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..uncertainty.mean_image import MeanImage
from .errors_file import list_differences

__all__ = ["MEAN_IMAGE", "find_mean_image", "load_mean_image"]

MEAN_IMAGE = "mean_image"


def load_mean_image(path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None) -> MeanImage | None:
    """The mean image in a file of :func:`monai_diffclf.storage.save_uncertainty`, among its ``notes``; None if none is.

    Args:
        path: the file.
        provenance: what it must have been fitted for, such as ``network``; None accepts any.

    Raises:
        ValueError: when the file cannot be read, holds other than a mean image, or one of another model.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        found = content.get(MEAN_IMAGE)
        mean = None if found is None else MeanImage.from_dict(found)
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"path: expected a file written by save_uncertainty, got {path}: {error}") from error
    if mean is not None and provenance is not None and (differences := list_differences(provenance, mean.provenance)):
        raise ValueError(
            f"provenance: the mean image in {path} is of another model: {differences}; fit anew for this one"
        )
    return mean


def find_mean_image(path: str | os.PathLike[str], *, provenance: Mapping[str, Any]) -> MeanImage | None:
    """The mean image in a file, if there is one for this model; None without the file or for another model.

    For what else than calibration is wanted of it, such as finding inverted images: that holds for any number of draws.

    Args:
        path: the file, which need not be there.
        provenance: what it must have been fitted for, such as ``network``.

    Raises:
        ValueError: when a file is there and cannot be read, or holds other than a mean image.
    """
    mean = load_mean_image(path) if os.path.isfile(path) else None
    return None if mean is None or list_differences(provenance, mean.provenance) else mean
