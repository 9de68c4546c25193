# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM volumes: a series as a folder of slices, or an (enhanced) image of several frames in one file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom

from .._class_names import shown
from .._file_state import once_a_file
from .dicom_class import class_name, no_image
from .dicom_file import PIXEL_ELEMENTS, check_image, decode, has_pixels, open_dicom
from .dicom_grey import modality_values
from .dicom_grid import SPACINGS
from .dicom_header import FrameHeader, as_number, field, number_of_frames, value_of
from .doubts import doubt
from .file_kind import DICOM_SUFFIXES, kind_of
from .limits import MAX_PIXELS, check_pixel_count
from .slice_stack import Slice, Stack, stack_slices

__all__ = [
    "DicomVolume",
    "holds_dicom",
    "holds_slices",
    "is_slice",
    "open_dicom_volume",
    "series_and_image",
    "slice_files",
]

GREY = ("MONOCHROME1", "MONOCHROME2")
# What images of one volume have in common, where they say it: patient, place in space and units among it.
_OF_ALL = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality", "RescaleType", "Units")
# Keywords that tell acquisitions of one series apart, by the functional group that they are in.
_MARKS = {
    "AcquisitionNumber": "",
    "TemporalPositionIdentifier": "",
    "EchoNumbers": "",
    "DiffusionBValue": "MRDiffusionSequence",
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
}


class _Source(NamedTuple):
    """Where the pixels of a slice are."""

    path: Path
    frame: int


class DicomVolume:
    """Slices that make one volume; their pixels are read when they are asked for.

    Args:
        stack: order and affine.
        sources: file and frame of each slice.
        size: rows and columns.
        max_pixels: most voxels that are decoded.
    """

    def __init__(self, stack: Stack, sources: Sequence[_Source], size: tuple[int, int], max_pixels: int) -> None:
        self.stack, self._sources, self._size, self._max_pixels = stack, sources, size, max_pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        return self._size[1], self._size[0], len(self._sources)

    @property
    def places(self) -> list[tuple[Path, int]]:
        """File of each slice, in the order of their positions, and its frame in that file."""
        return [(self._sources[place].path, self._sources[place].frame) for place in self.stack.order]

    def values(self) -> npt.NDArray[np.float32]:
        """The volume [X, Y, Z] as columns, rows and slices, in the units of its modality: Hounsfield units of CT."""
        volume = np.empty((len(self._sources), *self._size), dtype=np.float32)
        decoded: tuple[Path, Any, npt.NDArray[Any]] | None = None
        for target, place in zip(volume, self.stack.order, strict=True):
            path, frame = self._sources[place]
            if decoded is None or decoded[0] != path:
                dataset = open_dicom(path, max_pixels=self._max_pixels)
                check_image(dataset, self._max_pixels)
                try:
                    decoded = path, dataset, decode(dataset, path)
                except ValueError as error:
                    raise ValueError(f"{shown(path.name)}: {error}") from error
            target[...] = _frame_values(decoded[2], decoded[1], path, frame)
        return np.asarray(volume.transpose(2, 1, 0))


@once_a_file
def is_slice(path: str | os.PathLike[str]) -> bool:
    """Whether a file is DICOM and not an image of several frames: a slice, or what lies beside slices."""
    if not _is_dicom(Path(path)):
        return False
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["NumberOfFrames"], force=True)
        return number_of_frames(header) == 1
    except Exception:  # pydicom raises whatever it meets; reading the volume will say what is wrong
        return True


def slice_files(folder: Path) -> Iterator[Path]:
    """The DICOM files that lie in a folder itself, but hidden ones and a DICOMDIR, by name; each is opened as asked."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return (path for path in files if path.name.upper() != "DICOMDIR" and _is_dicom(path))


def holds_dicom(folder: Path) -> bool:
    """Whether a path is a folder in which, not below it, such a file lies."""
    return folder.is_dir() and any(slice_files(folder))


def holds_slices(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is the slices of a series: DICOM files, and nothing that is a link or no plain file."""
    with os.scandir(folder) as entries:
        files = sorted(entries, key=lambda entry: entry.name)
    plain = all(entry.is_file(follow_symlinks=False) for entry in files)
    shown = [entry for entry in files if not entry.name.startswith(".")]
    return plain and bool(shown) and is_slice(shown[0].path)


def series_and_image(path: str | os.PathLike[str]) -> tuple[str, str]:
    """SeriesInstanceUID and SOPInstanceUID of a file, empty where it has none, or cannot be read."""
    names = ("SeriesInstanceUID", "SOPInstanceUID")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(names), force=True)
        series, image = (str(value_of(header, name, "")) for name in names)
    except Exception:  # pydicom raises whatever it meets; reading the volume will say what is wrong
        return "", ""
    return series, image


def open_dicom_volume(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> DicomVolume:
    """The volume in a folder of slices, or in a file of several frames, by its headers.

    Args:
        path: a folder that holds the slices of one series, or a file.
        max_pixels: most voxels that are decoded.

    Raises:
        ValueError: when there is no image, it is of colours, lacks place, spacing or orientation, is larger than
            `max_pixels`, or is not one volume, see `stack_slices`.
    """
    path = Path(path)
    headers = _headers(path, max_pixels)
    _check_series([header for _, header in headers])
    _check_copies(headers)
    slices, sources = [], []
    for file, header in headers:
        name, frames = shown(file.name), number_of_frames(header)
        _check_kind(header, name)
        for frame in range(frames):
            slices.append(_slice(header, frame, name if frames == 1 else f"frame {frame + 1}"))
            sources.append(_Source(file, frame))
    if len(slices) > 1 and not path.is_dir() and len({tuple(one.position) for one in slices}) == 1:
        raise ValueError(f"expected functional groups with the place of each of {len(slices)} frames, got one for all")
    if len(slices) == 1 and not path.is_dir():
        raise ValueError("expected a volume, got one slice, a plane image; give the folder that the slices are in")
    rows, columns = slices[0].size
    check_pixel_count([columns, rows, len(slices)], max_pixels)
    return DicomVolume(stack_slices(slices), sources, (rows, columns), max_pixels)


def _headers(path: Path, max_pixels: int) -> list[tuple[Path, Any]]:
    """Each image file with its header, the pixels dropped."""
    files = slice_files(path) if path.is_dir() else [path]
    found = []
    for file in files:
        header = open_dicom(file, max_pixels=max_pixels)
        if path.is_dir() and (no_image(header) or not has_pixels(header)):
            doubt(path, f"{shown(file.name)} is left out, as it is no image but of the class {class_name(header)}")
            continue
        try:
            check_image(header, max_pixels)
        except ValueError as error:
            raise ValueError(f"{shown(file.name)}: {error}") from error
        for name in PIXEL_ELEMENTS:
            if name in header:
                del header[name]
        found.append((file, header))
    if not found:
        raise ValueError(
            "expected the slices of a DICOM series in a folder, got none; give the folder that they are in"
        )
    several = [file.name for file, header in found if number_of_frames(header) > 1]
    if several and len(found) > 1:
        raise ValueError(
            f"expected slices in files of their own, got {shown(several[0])} with several frames among {len(found)} "
            "images; give the path of that file, or take it out"
        )
    return found


def _is_dicom(path: Path) -> bool:
    kind = kind_of(path)
    return kind == "DICOM" or (kind is None and path.name.lower().endswith(DICOM_SUFFIXES))


def _check_series(headers: Sequence[Any]) -> None:
    """Refuse images of several series, or of one series that do not belong together for another reason."""
    found = Counter(str(value_of(header, "SeriesInstanceUID", "")) for header in headers)
    if len(found) > 1:
        words = {str(value_of(header, "SeriesInstanceUID", "")): _series_name(header) for header in headers}
        told = ", ".join(
            f"{words[uid]} ({count} image{'' if count == 1 else 's'})" for uid, count in found.most_common(5)
        )
        more = "" if len(found) <= 5 else f" and {len(found) - 5} more"
        raise ValueError(
            f"expected one series ({field('SeriesInstanceUID')}), got {len(found)}: {told}{more}; put the files of "
            "each into a folder of its own"
        )
    for keyword in _OF_ALL:
        values = sorted({shown(str(value)) for header in headers if (value := value_of(header, keyword)) is not None})
        if len(values) > 1:
            raise ValueError(
                f"expected one {field(keyword)} in all images of a series, got {len(values)}: {', '.join(values[:3])}; "
                "put the files of each into a folder of its own, or export the series again"
            )


def _check_copies(headers: Sequence[tuple[Path, Any]]) -> None:
    """Refuse two images under one UID: the same slice twice, wherever its header says that it lies."""
    first: dict[str, Path] = {}
    for file, header in headers:
        uid = str(value_of(header, "SOPInstanceUID", ""))
        if uid and (known := first.setdefault(uid, file)) != file:
            raise ValueError(
                f"expected an own {field('SOPInstanceUID')} for each slice, got {shown(uid)} in both "
                f"{shown(known.name)} and {shown(file.name)}; remove the copy, or export the series again"
            )


def _series_name(header: Any) -> str:
    number, text = value_of(header, "SeriesNumber"), value_of(header, "SeriesDescription")
    words = [*([] if number is None else [str(number)]), *([] if text is None else [repr(shown(str(text)))])]
    return " ".join(words) or str(value_of(header, "SeriesInstanceUID", "one without a number"))


def _check_kind(header: Any, name: str) -> None:
    """Refuse colours, and CT without the rescale that makes Hounsfield units of it."""
    if header.PhotometricInterpretation not in GREY:
        raise ValueError(f"{name}: expected a grey volume, got colours ({header.PhotometricInterpretation})")
    if value_of(header, "Modality") != "CT" or value_of(header, "ModalityLUTSequence") is not None:
        return
    holder = FrameHeader(header).first("PixelValueTransformationSequence", ["RescaleIntercept"])
    if value_of(holder, "RescaleIntercept") is None or value_of(holder, "RescaleSlope") is None:
        raise ValueError(
            f"{name}: expected {field('RescaleSlope')} and {field('RescaleIntercept')}, without which CT has no "
            "Hounsfield units, got none; export the series again"
        )


def _slice(dataset: Any, frame: int, name: str) -> Slice:
    """What the header says of a frame.

    Raises:
        ValueError: naming the field, where its place, orientation or spacing is absent or no numbers.
    """
    header = FrameHeader(dataset, frame)
    spacing = _numbers(header, "PixelMeasuresSequence", "PixelSpacing", 2, name)
    if min(spacing) <= 0:
        raise ValueError(f"{name}: expected a positive {field('PixelSpacing')}, got {list(spacing)}")
    marks = {}
    for keyword, group in _MARKS.items():
        holder = header.first(group, [keyword]) if group else dataset
        if (value := value_of(holder, keyword)) is not None:
            marks[keyword] = shown(str(value))
    return Slice(
        name,
        (int(dataset.Rows), int(dataset.Columns)),
        (spacing[0], spacing[1]),
        np.asarray(_numbers(header, "PlaneOrientationSequence", "ImageOrientationPatient", 6, name)),
        np.asarray(_numbers(header, "PlanePositionSequence", "ImagePositionPatient", 3, name)),
        marks,
        _apart(header),
    )


def _apart(header: FrameHeader) -> float | None:
    """SpacingBetweenSlices, which no geometry goes by; None where it is absent or no number."""
    value = value_of(header.first("PixelMeasuresSequence", ["SpacingBetweenSlices"]), "SpacingBetweenSlices")
    try:
        return None if value is None else as_number(value, "SpacingBetweenSlices")
    except ValueError:
        return None


def _numbers(header: FrameHeader, group: str, keyword: str, count: int, name: str) -> tuple[float, ...]:
    value = value_of(header.first(group, [keyword]), keyword)
    if value is None:
        other = [each for each in SPACINGS[1:] if value_of(header.dataset, each) is not None]
        beside = f" ({other[0]} alone does not say it of a volume)" if keyword == "PixelSpacing" and other else ""
        raise ValueError(
            f"{name}: expected {field(keyword)}, without which nothing says where its voxels lie, got none{beside}; "
            "give a cross-sectional series as the scanner exports it, or a NIfTI file"
        )
    values = list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
    if len(values) != count:
        raise ValueError(f"{name}: expected {count} numbers in {field(keyword)}, got {len(values)}")
    return tuple(as_number(number, keyword) for number in values)


def _frame_values(stored: npt.NDArray[Any], dataset: Any, path: Path, frame: int) -> npt.NDArray[np.float32]:
    several = number_of_frames(dataset) > 1
    header = FrameHeader(dataset, frame, warn=lambda text: doubt(path, text))
    big_endian = dataset.original_encoding[1] is False
    return modality_values(stored[frame] if several else stored, header, big_endian=big_endian)
