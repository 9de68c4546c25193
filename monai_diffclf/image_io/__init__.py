# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From a file to an array of pixels: pictures, DICOM, NIfTI."""

from __future__ import annotations

from .image_files import is_image_file, read_image_file
from .mammogram import read_mammogram
from .read_image import ReadImage, ReadImaged, crop_and_resize

__all__ = ["ReadImage", "ReadImaged", "crop_and_resize", "is_image_file", "read_image_file", "read_mammogram"]
