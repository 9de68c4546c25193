# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM files: opened within limits, decoded, shown."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Container
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from .dicom_bits import cut_unused_bits
from .dicom_class import class_name
from .dicom_codestream import check_codestreams
from .dicom_grey import show_grey
from .dicom_header import field, number_of_frames, value_of
from .doubts import doubt
from .limits import MAX_PIXELS, byte_limit, check_pixel_count, inflate

__all__ = ["check_decoder", "check_image", "decode", "has_pixels", "open_dicom", "read_dicom", "show"]

PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"
# Of each element that says how pixels are stored, in words and numbers.
_STORED: dict[str, tuple[str, Container[int]]] = {
    "Rows": ("from 1 to 65535", range(1, 65536)),
    "Columns": ("from 1 to 65535", range(1, 65536)),
    "BitsAllocated": ("1 or a multiple of 8 up to 64", (1, *range(8, 65, 8))),
    "BitsStored": ("from 1 to 64", range(1, 65)),
    "HighBit": ("from 0 to 63", range(64)),
    "PixelRepresentation": ("0 or 1", (0, 1)),
}
INSTALL = "run `pip install python-gdcm` or `pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`"


def read_dicom(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    """What a viewer shows of a DICOM image.

    Returns:
        float32 in [0, 1], ``[H, W, C]`` or, with several frames, ``[H, W, frames, C]``; C is 1, or 3 for colour.

    Raises:
        ValueError: naming the tags, when the file is no image, too large, contradicts itself or cannot be decoded.
    """
    dataset = open_dicom(path, max_pixels=max_pixels)
    check_image(dataset, max_pixels)
    return show(decode(dataset, path), dataset, path)


def open_dicom(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Any:
    """The data set of a DICOM file. Preamble, meta header and transfer syntax may be missing.

    A deflated file is inflated up to the limit, no further; large elements of others are read when they are asked for.

    Raises:
        ValueError: when a deflated file is larger, or the transfer syntax is needed and missing.
    """
    with open(path, "rb") as file:
        read_preamble(file, force=True)
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        content = inflate(file.read(), byte_limit(max_pixels)) if deflated else b""
    if deflated:
        dataset = read_dataset(io.BytesIO(content), False, True)
        dataset.file_meta = FileMetaDataset(meta)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.set_original_encoding(False, True)
    else:
        dataset = pydicom.dcmread(path, force=True, defer_size="1 MB")
    _settle(dataset)
    return dataset


def decode(dataset: Any, path: str | os.PathLike[str] = "") -> npt.NDArray[Any]:
    """The stored values of a data set that `check_image` has passed: [(frames), rows, columns, (3)]; YBR becomes RGB.

    Args:
        dataset: the image.
        path: what warnings call the file.

    Raises:
        ValueError: see `read_dicom`.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    others = check_decoder(syntax)
    if "PixelData" in dataset and value_of(dataset, "PixelData") is None:
        raise ValueError(f"{field('PixelData')} is empty: the file has no image")
    if syntax.is_encapsulated and syntax != RLELossless:
        check_codestreams(dataset, number_of_frames(dataset))
    try:
        cells = pixel_array(dataset, correct_unused_bits=False)
    except Exception as error:  # decoders raise whatever they meet
        raise ValueError(
            f"{field('PixelData')} cannot be decoded, as {dataset.Rows} x {dataset.Columns} pixels ({field('Rows')}, "
            f"{field('Columns')}) of {dataset.BitsAllocated} bits ({field('BitsAllocated')}): {error}{others}"
        ) from error
    # pydicom decodes every frame that there are bytes for.
    frames = number_of_frames(dataset)
    found = cells.shape[0] if cells.ndim > 2 + (dataset.SamplesPerPixel > 1) else 1
    if found != frames:
        raise ValueError(
            f"{field('PixelData')} holds {found} frames of {dataset.Rows} x {dataset.Columns} pixels, but "
            f"{field('NumberOfFrames')} says {frames}; write the right one, or the right {field('Rows')}"
        )
    native = not syntax.is_encapsulated or syntax == RLELossless
    return cut_unused_bits(cells, dataset, native=native, warn=_warner(path))


def show(stored: npt.NDArray[Any], dataset: Any, path: str | os.PathLike[str] = "") -> npt.NDArray[np.float32]:
    """What a viewer shows of the stored values from `decode`; shapes as in `read_dicom`."""
    kind = dataset.PhotometricInterpretation
    if kind == PALETTE:
        shown = apply_color_lut(stored, dataset)
        image = shown[..., :3] / np.float32(np.iinfo(shown.dtype).max)
    elif kind in GREY:
        big_endian = dataset.original_encoding[1] is False
        image = show_grey(stored, dataset, big_endian=big_endian, warn=_warner(path))[..., None]
    else:
        image = stored.astype(np.float32) / np.float32(2.0 ** int(dataset.BitsStored) - 1)
    image = np.asarray(image, dtype=np.float32)
    return np.moveaxis(image, 0, 2) if number_of_frames(dataset) > 1 else image


def check_decoder(syntax: Any) -> str:
    """Refuse what no installed decoder reads; else what to say of other decoders should they fail.

    Raises:
        ValueError: naming the transfer syntax and what to install.
    """
    what = f"{field('TransferSyntaxUID')} {getattr(syntax, 'name', syntax)} ({syntax})"
    try:
        decoder = get_decoder(syntax)
    except Exception as error:
        raise ValueError(
            f"expected a transfer syntax that pydicom knows, got {what}; convert the file to Explicit VR "
            "Little Endian (1.2.840.10008.1.2.1), for example with gdcmconv --raw"
        ) from error
    others = decoder.missing_dependencies
    if not decoder.is_available:
        raise ValueError(f"{what} needs a decoder that is not installed ({'; '.join(others)}); {INSTALL}")
    return f"; if the file is not damaged, another decoder may read its {what}: {INSTALL}" if others else ""


def _warner(path: str | os.PathLike[str]) -> Callable[[str], None]:
    return lambda text: doubt(path, text)


def _settle(dataset: Any) -> None:
    """Give what the decoders insist on, where the file leaves no doubt."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if value_of(dataset.file_meta, "TransferSyntaxUID") is None:
        implicit, little = dataset.original_encoding
        uncompressed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            raise ValueError(f"the pixels are compressed, but {field('TransferSyntaxUID')}, which says how, is missing")
        dataset.file_meta.TransferSyntaxUID = uncompressed
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = number_of_frames(dataset)
    if value_of(dataset, "SamplesPerPixel") is None:
        dataset.SamplesPerPixel = 3 if value_of(dataset, "PhotometricInterpretation") in COLOUR else 1


def has_pixels(dataset: Any) -> bool:
    """Whether there are pixels of any kind, integers or floats."""
    return any(name in dataset for name in PIXEL_ELEMENTS)


def check_image(dataset: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse, before anything is decoded, what is no image, is too large, or lacks what decoding needs.

    Raises:
        ValueError: naming the tag.
    """
    kind = value_of(dataset, "PhotometricInterpretation")
    if not has_pixels(dataset):
        uid = value_of(dataset, "SOPClassUID", "unknown")
        raise ValueError(
            f"the DICOM file has no image, its class is {uid} ({class_name(dataset)}); {field('PixelData')} is missing"
        )
    if kind not in (*GREY, *COLOUR, PALETTE):
        raise ValueError(
            f"expected {field('PhotometricInterpretation')} {', '.join((*GREY, *COLOUR, PALETTE))}, got {kind}"
        )
    floats = "PixelData" not in dataset
    for name in ("Rows", "Columns", "BitsAllocated", *(() if floats else ("BitsStored", "PixelRepresentation"))):
        if value_of(dataset, name) is None:
            raise ValueError(f"{field(name)} is missing or empty, so the pixels cannot be read")
    for name, (words, allowed) in _STORED.items():
        value = value_of(dataset, name)
        if value is not None and not (isinstance(value, int) and value in allowed):
            raise ValueError(
                f"{field(name)}: expected one whole number, {words}, got {value!r}; export the image again"
            )
    samples = dataset.SamplesPerPixel
    if samples != (3 if kind in COLOUR else 1):
        raise ValueError(
            f"{field('SamplesPerPixel')} {samples} contradicts {field('PhotometricInterpretation')} {kind}"
        )
    frames = number_of_frames(dataset)
    check_pixel_count([dataset.Rows, dataset.Columns, *([frames] if frames > 1 else [])], max_pixels)
