# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From a file to an array of pixels or voxels: pictures, DICOM, NIfTI, NRRD."""

from __future__ import annotations

from .crop_and_resize import CropAndResize, crop_and_resize
from .image_files import is_image_file, read_image_file
from .image_grid import ImageGrid, read_grid
from .image_quality import image_warnings
from .mammogram import read_mammogram
from .read_image import ReadImage, ReadImaged
from .read_volume import ReadVolume, ReadVolumed
from .volume_file import read_volume_file

__all__ = [
    "CropAndResize",
    "ImageGrid",
    "ReadImage",
    "ReadImaged",
    "ReadVolume",
    "ReadVolumed",
    "crop_and_resize",
    "image_warnings",
    "is_image_file",
    "read_grid",
    "read_image_file",
    "read_mammogram",
    "read_volume_file",
]
