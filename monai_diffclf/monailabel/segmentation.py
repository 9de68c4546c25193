# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which segments of a segmentation have voxels: 3D Slicer submits all classes as segments, the empty ones too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

__all__ = ["MAP_SEGMENTS", "chosen_segments"]

MAP_SEGMENTS = ("for the class", "against the class")  # of a map that is shown as a segmentation: no labels

MAX_VOXELS = 100_000_000
_FORMATS = {".nrrd": "NrrdImageIO", ".nii.gz": "NiftiImageIO", ".nii": "NiftiImageIO"}


def chosen_segments(file: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the segments with voxels.

    Args:
        file: a label map, 0 where there is no segment; or a Slicer segmentation (``.seg.nrrd``), which names its own.
        entries: ``name`` and ``idx`` of all segments, as 3D Slicer sends them: in the order of their values in the map.

    Raises:
        ValueError: when the file cannot be read, or no or several segments have voxels, or a value could mean two.
    """
    values, names = _read(file)
    if not values:
        raise ValueError(f"label: expected voxels in one of the segments {_names(entries)}, but all are empty")
    chosen = sorted({names[value] if names else _name(value[1], entries) for value in values} - set(MAP_SEGMENTS))
    if not chosen:
        raise ValueError("label: expected voxels in the segment of a class, got those of a map only")
    if len(chosen) > 1:
        raise ValueError(f"label: expected voxels in one segment, the image's class, got voxels in {chosen}")
    return chosen


def _name(value: int, entries: Sequence[Mapping[str, Any]]) -> str:
    """The segment that a value of the map means.

    Slicer numbers the segments in the map from 1, and in ``idx`` all those of the scene, also those that it leaves out.
    """
    by_index = {str(entry.get("name")) for entry in entries if entry.get("idx") == value}
    by_place = {str(entries[value - 1].get("name"))} if 0 < value <= len(entries) else set()
    found = by_index | by_place
    if len(found) != 1:
        known = [(entry.get("name"), entry.get("idx")) for entry in entries]
        what = f"could mean {sorted(found)}" if found else "is none of theirs"
        raise ValueError(f"label: the value {value} of the segmentation {what}; the segments are {known}")
    return found.pop()


def _names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(entry.get("name")) for entry in entries]


def _read(file: str) -> tuple[list[tuple[int, int]], dict[tuple[int, int], str]]:
    """(layer, value) of all voxels that are not 0, and what the file itself calls them."""
    format_ = next((name for suffix, name in _FORMATS.items() if file.lower().endswith(suffix)), None)
    if format_ is None:
        raise ValueError(f"label: expected a segmentation that ends with one of {list(_FORMATS)}")
    if format_ == "NrrdImageIO":
        _refuse_other_files(file)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(format_)
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
        voxels = int(np.prod([float(n) for n in reader.GetSize()])) * reader.GetNumberOfComponents()
        if voxels > MAX_VOXELS:
            raise ValueError(f"label: expected at most {MAX_VOXELS:,} voxels, got {voxels:,}")
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"label: the segmentation cannot be read: {_reason(error)}") from error
    array = SimpleITK.GetArrayViewFromImage(image)
    layers = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    whole = np.issubdtype(array.dtype, np.integer)
    if not (whole or (np.isfinite(array).all() and (array == np.rint(array)).all())):
        raise ValueError("label: expected whole numbers in the segmentation")
    values = [(layer, int(value)) for layer, plane in enumerate(layers) for value in np.unique(plane) if value]
    names = _own_names({key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()})
    if names and (unknown := [value for value in values if value not in names]):
        raise ValueError(f"label: the values {unknown} of the segmentation have no name in it")
    return values, names


def _own_names(header: Mapping[str, str]) -> dict[tuple[int, int], str]:
    """Slicer's own segmentation files name the segments: (layer, value) -> name."""
    names = {}
    for key, value in header.items():
        if match := re.fullmatch(r"(Segment[0-9]+_)LabelValue", key):
            layer = header.get(f"{match[1]}Layer", "0")
            if not (layer.isdecimal() and value.isdecimal()):
                raise ValueError(f"label: expected numbers for {match[1]}Layer and {key}, got {layer!r} and {value!r}")
            names[int(layer), int(value)] = header.get(f"{match[1]}Name", "")
    return names


def _refuse_other_files(file: str) -> None:
    """A NRRD header may say that the voxels are in another file, of any path."""
    with open(file, "rb") as content:
        header = content.read(1_000_000).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    if not header.startswith(b"NRRD") or re.search(rb"(?im)^\s*data ?file\s*:", header):
        raise ValueError(f"label: expected a NRRD file that holds its own voxels, got {Path(file).name}")


def _reason(error: RuntimeError) -> str:
    """The last line of what ITK says, which begins with places in its own source, without the path."""
    return re.sub(r"/\S+/", "", str(error).strip().splitlines()[-1])
