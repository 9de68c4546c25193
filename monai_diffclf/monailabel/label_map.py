# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Label maps as NRRD files, the one kind of answer that 3D Slicer and OHIF show."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import SimpleITK
import torch

from .image_grid import ImageGrid
from .map_file import write_map

__all__ = ["class_labels", "write_labels"]


def class_labels(predicted: int, like: torch.Tensor) -> torch.Tensor:
    """The class, counted from 1, everywhere.

    3D Slicer takes value n for the n-th of its segments, so the predicted class becomes the segment with voxels, which
    is what a label is taken from when it is submitted.

    Args:
        predicted: index of the class.
        like: any map in the image's size.
    """
    return torch.full_like(like, predicted + 1, dtype=torch.uint8)


def write_labels(labels: torch.Tensor, grid: ImageGrid, *, compress: bool = True) -> Path:
    """Write a temporary NRRD file of labels, 8 bits, in the image's own grid.

    Args:
        labels: labels in the image's size, upright: [H, W] or [H, W, D].
        grid: grid of the image.
        compress: whether to compress the voxels; OHIF reads raw ones.

    Returns:
        The file's path; whoever asked removes it.

    Raises:
        ValueError: when the image's axes are not at right angles, which ITK does not support.
    """
    nifti = write_map(labels.float(), grid, ".nii")
    handle, name = tempfile.mkstemp(suffix=".nrrd")
    os.close(handle)
    try:
        image = SimpleITK.Cast(SimpleITK.ReadImage(str(nifti)), SimpleITK.sitkUInt8)
        SimpleITK.WriteImage(image, name, useCompression=compress)
    except Exception as error:
        Path(name).unlink()
        if isinstance(error, RuntimeError) and "orthonormal" in str(error):
            text = "result_extension: .nrrd needs an image whose axes are at right angles; ask for .nii.gz"
            raise ValueError(text) from error
        raise
    finally:
        nifti.unlink()
    return Path(name)
