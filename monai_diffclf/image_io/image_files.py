# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Image files as float32 arrays in [0, 1], upright: what a viewer shows at row r and column c is ``array[r, c]``."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import
from PIL import Image, ImageOps

from .nifti_file import read_nifti

pydicom, _ = optional_import("pydicom")
pixels, _ = optional_import("pydicom.pixels")

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file looks like a readable image: by its suffix, or by DICOM's mark in its header."""
    path = Path(path)
    if path.name.startswith(".") or not path.is_file():
        return False
    if path.name.lower().endswith(PICTURE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES):
        return True
    # A DICOMDIR is the index of a DICOM disc, without pixels.
    return path.name.upper() != "DICOMDIR" and has_dicom_mark(path)


def read_image_file(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """The pixels of a PNG, JPEG, TIFF, BMP, DICOM or NIfTI file.

    - Pictures: EXIF orientation applied, palettes resolved; 8 bits are divided by 255, 16 bits by 65535.
    - DICOM: modality LUT or rescale slope, then VOI LUT or window, then scaled by the range that the stored bits can
      take (never by the image's own extremes, unless the pixels are stored as floats); MONOCHROME1 is inverted.
    - NIfTI: array axis 0 is x (the column) and axis 1 is y (the row), so the array is transposed. An axis whose affine
      points to the patient's right, front or head is flipped, as viewers do; a file without an orientation (no sform
      and qform code, or an identity rotation with voxels of size 1) is taken as stored. uint8 is divided by 255;
      anything else is stretched from its minimum and maximum to [0, 1].

    Args:
        path: the file.

    Returns:
        float32 ``[H, W, C]``, or ``[H, W, D, C]`` when there is more than one slice or frame; C is 1, or 3 for colour.

    Raises:
        ValueError: naming the file and the cause, when it is absent, empty, damaged, of an unknown kind, transparent,
            or holds NaN or infinite pixels.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: expected an image file, got a folder; give one file for each image")
    if not path.is_file():
        raise ValueError(f"{path}: expected an image file, but there is none")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: expected an image file, but it is empty (0 bytes)")
    name = path.name.lower()
    try:
        if name.endswith(NIFTI_SUFFIXES):
            image = read_nifti(path)
        elif name.endswith(DICOM_SUFFIXES) or has_dicom_mark(path):
            image = _read_dicom(path)
        else:
            image = _read_picture(path)
    except Exception as error:
        # The decoders raise whatever they meet (OSError, KeyError, struct.error, ...): one kind for the user.
        raise ValueError(f"{path}: cannot be read as an image: {type(error).__name__}: {error}") from error
    _check_finite(image, f"{path}: ")
    return np.ascontiguousarray(image, dtype=np.float32)


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
    _check_finite(image)
    if image.size and (image.min() < 0 or image.max() > 1):
        raise ValueError(
            f"expected float pixels in [0, 1], got [{image.min():.4g}, {image.max():.4g}]; scale them first"
        )
    return image.astype(np.float32)


def _check_finite(image: npt.NDArray[Any], where: str = "") -> None:
    if not np.isfinite(image).all():
        raise ValueError(f"{where}expected finite pixels, got {int((~np.isfinite(image)).sum())} NaN or infinite ones")


def merge_equal_channels(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A colour image ``[..., 3]`` whose channels are all equal is grey, ``[..., 1]``; others stay as they are."""
    if image.shape[-1] == 3 and (image == image[..., :1]).all():
        return image[..., :1]
    return image


def has_dicom_mark(path: Path) -> bool:
    """Whether a file has the mark of DICOM behind its preamble, whatever its name."""
    with open(path, "rb") as file:
        return bytes(file.read(132)[128:]) == b"DICM"


def _read_picture(path: Path) -> npt.NDArray[np.float32]:
    with Image.open(path) as file:
        frames = getattr(file, "n_frames", 1)
        if frames > 1:
            raise ValueError(f"expected one picture, got a file with {frames}; save each as its own file")
        image = ImageOps.exif_transpose(file)
        if image.mode == "I":
            # Pillow opens some 16-bit files as 32-bit integers.
            array = np.asarray(image)
            if array.min() < 0 or array.max() > 65535:
                raise ValueError("expected 8 or 16 bits for a pixel, got 32; convert the file")
            return scale_by_type(array.astype(np.uint16))[..., None]
        if image.mode.startswith("I;16"):
            return scale_by_type(np.asarray(image).astype(np.uint16))[..., None]
        if image.mode == "F":
            return scale_by_type(np.asarray(image))[..., None]
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if image.getchannel("A").getextrema()[0] != 255:
                raise ValueError("expected opaque pixels, got transparent ones; flatten the file on a background")
        # Palettes and other colour spaces become RGB; one channel of 1 or 8 bits stays one.
        array = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return scale_by_type(array if array.ndim == 3 else array[..., None])


def _read_dicom(path: Path) -> npt.NDArray[np.float32]:
    dataset = pydicom.dcmread(path)
    if "PhotometricInterpretation" not in dataset:
        raise ValueError(f"the DICOM file has no image, its class is {dataset.get('SOPClassUID', 'unknown')}")
    array = dataset.pixel_array  # [(frames), rows, columns, (3)], YBR already as RGB
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        image = scale_by_type(pixels.apply_color_lut(array, dataset))
    elif dataset.SamplesPerPixel > 1:
        image = array.astype(np.float32) / np.float32(2**dataset.BitsStored - 1)
    else:
        image = _apply_grey_luts(array, dataset)
        if dataset.get("WindowCenter") is None and not dataset.get("VOILUTSequence") and np.ptp(image) < 0.1:
            warnings.warn(
                f"{path}: has no window and uses {np.ptp(image):.1%} of the range of its stored bits, so it is almost "
                "without contrast; write a window into the file (WindowCenter, WindowWidth)",
                stacklevel=2,
            )
        image = image[..., None]
    return np.moveaxis(image, 0, 2) if frames > 1 else image


def _apply_grey_luts(array: npt.NDArray[Any], dataset: Any) -> npt.NDArray[np.float32]:
    """Stored values -> what the file asks a screen to show, in [0, 1]; MONOCHROME1 inverted."""
    image = pixels.apply_modality_lut(array, dataset)
    shown = pixels.apply_voi_lut(image, dataset)
    if not np.issubdtype(array.dtype, np.integer):
        low, high = float(np.min(shown)), float(np.max(shown))
    elif dataset.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif dataset.get("ModalityLUTSequence"):
        low, high = 0.0, 2.0 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        bits, signed = dataset.BitsStored, dataset.PixelRepresentation == 1
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], dtype=np.float64)
        ends = pixels.apply_modality_lut(ends, dataset)
        low, high = float(min(ends)), float(max(ends))
    # MONOCHROME1 is inverted here, where integers subtract exactly: both kinds give the very same pixels.
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    values = np.asarray(shown, dtype=np.float64)
    scaled = (high - values if inverted else values - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)
