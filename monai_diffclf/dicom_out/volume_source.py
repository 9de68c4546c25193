# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A DICOM volume that results refer to: which slice of what was read is in which file or frame."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..image_io.dicom_volume import open_dicom_volume
from ..image_io.image_files import read_image_file
from .source import Source, read_source

__all__ = ["VolumeSource", "read_volume_source"]


@dataclass(frozen=True)
class VolumeSource:
    """The slices of a series in the order of their positions, or a file of several frames.

    Args:
        source: the headers.
        files: the file of each header.
        frames: the place among the source's files, or frames, of each slice of the volume by position.
    """

    source: Source
    files: tuple[Path, ...]
    frames: tuple[int, ...]

    def arranged(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A map [X, Y, Z] of what `ReadVolumed` has read as [rows, columns, files or frames].

        Raises:
            ValueError: when it has another size.
        """
        expected = (self.source.shape[1], self.source.shape[0], len(self.frames))
        if np.shape(values) != expected:
            raise ValueError(f"values: expected a map of {list(expected)} voxels, got {list(np.shape(values))}")
        made = np.empty((*self.source.shape, len(self.frames)), dtype=values.dtype)
        made[..., list(self.frames)] = values.transpose(1, 0, 2)
        return made

    def shown(self, place: int) -> npt.NDArray[np.float32]:
        """What a viewer shows of a file or frame, in [0, 1]: [rows, columns, 1]."""
        if len(self.files) > 1:
            return read_image_file(self.files[place])
        return read_image_file(self.files[0])[:, :, place]


def read_volume_source(path: str | os.PathLike[str]) -> VolumeSource:
    """The volume in a folder of slices, or in a DICOM file of several frames.

    Args:
        path: the folder or file.

    Raises:
        ValueError: naming it, when it is not one volume (`open_dicom_volume`), or lacks the UIDs by which one refers to
            it (`read_source`).
    """
    try:
        places = open_dicom_volume(path).places
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    if os.path.isdir(path):
        files = tuple(file for file, _ in places)
        return VolumeSource(read_source(files), files, tuple(range(len(files))))
    return VolumeSource(read_source(path), (Path(path),), tuple(frame for _, frame in places))
