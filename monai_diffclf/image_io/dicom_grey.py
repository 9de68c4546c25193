# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM's grey-scale pipeline: from stored values to what the file asks a screen to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from .dicom_header import FrameHeader, as_number, field, is_absent, number_of_frames, value_of
from .dicom_luts import Table, read_table

__all__ = ["modality_values", "show_grey"]

# Their modality LUT gives the X-ray intensity and is not for display: windows apply to the stored values (PS3.3,
# C.8.7.1.1.2). X-ray angiography, radiofluoroscopy, biplane angiography.
NOT_FOR_DISPLAY = tuple(f"1.2.840.10008.5.1.4.1.1.12.{n}" for n in (1, 2, 3))

WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Rescale:
    """Modality LUT as a straight line; the identity where the file has none."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class Window:
    """A window, in output values of the modality LUT; the function is one of `WINDOW_FUNCTIONS`."""

    center: Any
    width: Any
    function: str

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Values in [0, 1]. PS3.3, C.11.2.1.2 and C.11.2.1.3."""
        # pydicom scales to the range of the bits stored, whose ends a negative slope would swap; so it is told of
        # 16 bits and of no slope.
        view = Dataset()
        view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 16, 0
        view.WindowCenter, view.WindowWidth, view.VOILUTFunction = self.center, self.width, self.function
        return np.asarray(apply_windowing(values, view)) / 65535


def show_grey(
    stored: npt.NDArray[Any], dataset: Any, *, big_endian: bool, warn: Callable[[str], None]
) -> npt.NDArray[np.float32]:
    """Stored values -> modality LUT -> VOI LUT or window -> presentation LUT shape.

    Without VOI LUT and window the image is scaled by the range that the stored bits can take, the same for all frames;
    pixels stored as floats by their own extremes.

    Args:
        stored: [(frames), rows, columns], the bits stored only, with their sign.
        dataset: the image's elements.
        big_endian: byte order of the file.
        warn: is given the text of each warning.

    Returns:
        float32 of the same shape in [0, 1], 0 black.

    Raises:
        ValueError: naming the tags that contradict each other.
    """
    frames = stored if number_of_frames(dataset) > 1 else stored[None]
    ends = _stored_range(stored, dataset)
    steps = [_Steps(FrameHeader(dataset, n, warn=warn), ends, big_endian) for n in range(len(frames))]
    # All frames share one scale, also where each has a slope of its own (PET).
    low, high = min(step.range[0] for step in steps), max(step.range[1] for step in steps)
    inverted = _is_inverted(dataset, warn)
    shown = np.empty(frames.shape, dtype=np.float32)
    for step, frame, target in zip(steps, frames, shown, strict=True):
        target[...] = step.show(frame, low, high, inverted)
    if not any(step.has_voi for step in steps) and np.ptp(shown) < 0.1:
        warn(
            f"has no window and uses {np.ptp(shown):.1%} of the range of its stored bits, so it is almost "
            f"without contrast; write a window into the file ({field('WindowCenter')}, {field('WindowWidth')})"
        )
    return shown if number_of_frames(dataset) > 1 else shown[0]


def modality_values(stored: npt.NDArray[Any], header: FrameHeader, *, big_endian: bool) -> npt.NDArray[np.float32]:
    """Stored values of one frame in the units of its modality, such as Hounsfield units of CT.

    Args:
        stored: [rows, columns], the bits stored only, with their sign.
        header: what the header says of the frame.
        big_endian: byte order of the file.

    Raises:
        ValueError: naming the tags that contradict each other.
    """
    modality = _modality(header, _stored_range(stored, header.dataset), big_endian)
    if isinstance(modality, Table):
        return np.asarray(modality.apply(stored), dtype=np.float32)
    return np.asarray(stored * modality.slope + modality.intercept, dtype=np.float32)


class _Steps:
    """The steps that one frame goes through."""

    def __init__(self, header: FrameHeader, ends: tuple[float, float], big_endian: bool) -> None:
        self.modality = _modality(header, ends, big_endian)
        if isinstance(self.modality, Table):
            self.range = (0.0, self.modality.highest)
        else:
            scaled = [end * self.modality.slope + self.modality.intercept for end in ends]
            self.range = (min(scaled), max(scaled))
        self.voi = _voi(header, self.range, big_endian)
        self.has_voi = self.voi is not None
        decisive = self.modality if self.voi is None else self.voi
        if isinstance(decisive, Table):
            decisive.warn_if_dark(header.warn)

    def show(self, stored: npt.NDArray[Any], low: float, high: float, inverted: bool) -> npt.NDArray[np.float64]:
        """The frame in [0, 1]; `low` and `high` are what becomes 0 and 1 without a VOI LUT."""
        if isinstance(self.modality, Table):
            values = self.modality.apply(stored)
        elif self.modality == Rescale():
            values = stored
        else:
            values = stored * self.modality.slope + self.modality.intercept
        if isinstance(self.voi, Window):
            values, low, high = self.voi.apply(values), 0.0, 1.0
        elif isinstance(self.voi, Table):
            values, low, high = self.voi.apply(values), 0.0, self.voi.highest
        # Inverted before it is divided, where integers subtract exactly: both kinds give the very same pixels.
        values = np.asarray(values, dtype=np.float64)
        scaled = (high - values if inverted else values - low) / max(high - low, np.finfo(np.float64).tiny)
        return np.asarray(np.clip(scaled, 0, 1))


def _stored_range(stored: npt.NDArray[Any], dataset: Any) -> tuple[float, float]:
    """What the stored bits can take; for floats, what they do take."""
    if not np.issubdtype(stored.dtype, np.integer):
        return float(np.min(stored)), float(np.max(stored))
    bits = int(dataset.BitsStored)
    if value_of(dataset, "PixelRepresentation", 0) == 1:
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1


def _modality(header: FrameHeader, ends: tuple[float, float], big_endian: bool) -> Table | Rescale:
    """Modality LUT, or rescale slope and intercept. PS3.3, C.11.1 and C.7.6.16.2.9."""
    if header.dataset.get("SOPClassUID") in NOT_FOR_DISPLAY:
        return Rescale()
    table = read_table(header.dataset, "ModalityLUTSequence", ends, big_endian=big_endian, warn=header.warn)
    if table is not None:
        return table
    names = ("RescaleSlope", "RescaleIntercept")
    holder = header.first("PixelValueTransformationSequence", names)
    found = {name: value_of(holder, name) for name in names}
    values = {name: as_number(value, name) for name, value in found.items() if value is not None}
    # Half of a rescale is no doubt where the half changes nothing.
    if len(values) == 1 and values not in ({"RescaleSlope": 1.0}, {"RescaleIntercept": 0.0}):
        raise ValueError(
            f"expected both {field('RescaleSlope')} and {field('RescaleIntercept')} or neither, got "
            f"{found['RescaleSlope']} and {found['RescaleIntercept']}; write the missing one, or remove both"
        )
    if values.get("RescaleSlope") == 0:
        header.warn(f"{field('RescaleSlope')} is 0, which would make every pixel equal; the stored values are used")
        return Rescale()
    return Rescale(values.get("RescaleSlope", 1.0), values.get("RescaleIntercept", 0.0))


def _voi(header: FrameHeader, inputs: tuple[float, float], big_endian: bool) -> Table | Window | None:
    """The first VOI LUT, else the first window, of the frame or of the image."""
    for holder in header.holders("FrameVOILUTSequence"):
        table = read_table(holder, "VOILUTSequence", inputs, big_endian=big_endian, warn=header.warn)
        window = table or _window(holder, header.warn)
        if window is not None:
            return window
    return None


def _window(holder: Any, warn: Callable[[str], None]) -> Window | None:
    centers, widths = (_as_list(value_of(holder, name)) for name in ("WindowCenter", "WindowWidth"))
    if not centers and not widths:
        return None
    pairs = [pair for pair in zip(centers, widths, strict=False) if not any(map(is_absent, pair))]
    if not pairs:
        raise ValueError(
            f"expected both {field('WindowCenter')} and {field('WindowWidth')} or neither, got {centers or None} and "
            f"{widths or None}; write the missing one, or remove both"
        )
    center, width = pairs[0]
    function = str(value_of(holder, "VOILUTFunction", "LINEAR")).strip().upper()
    if function not in WINDOW_FUNCTIONS:
        warn(f"{field('VOILUTFunction')}: expected one of {WINDOW_FUNCTIONS}, got {function!r}; LINEAR is taken")
        function = "LINEAR"
    as_number(center, "WindowCenter")
    size = as_number(width, "WindowWidth")
    if size <= 0 or (function == "LINEAR" and size < 1):
        least = "1 or more" if function == "LINEAR" else "more than 0"
        warn(f"{field('WindowWidth')}: expected {least} for the function {function}, got {width}; no window is used")
        return None
    return Window(center, width, function)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else [value]


def _is_inverted(dataset: Any, warn: Callable[[str], None]) -> bool:
    """Whether the lowest output is white: by PresentationLUTShape, else by PhotometricInterpretation."""
    kind, shape = dataset.PhotometricInterpretation, value_of(dataset, "PresentationLUTShape")
    if shape not in (None, "IDENTITY", "INVERSE"):
        warn(f"{field('PresentationLUTShape')}: expected IDENTITY or INVERSE, got {shape!r}; it is ignored")
        shape = None
    if shape is None:
        return bool(kind == "MONOCHROME1")
    if (shape == "INVERSE") != (kind == "MONOCHROME1"):
        warn(
            f"{field('PresentationLUTShape')} {shape} contradicts {field('PhotometricInterpretation')} {kind}; the "
            f"shape is followed, as DCMTK does, so low values are {'white' if shape == 'INVERSE' else 'black'}"
        )
    return bool(shape == "INVERSE")
