# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Folders of DICOM slices as images, each a volume."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from .._class_names import shown
from ..image_io.dicom_volume import is_slice, series_and_image, slice_files

__all__ = ["warn_of_parts", "whole_series"]


def whole_series(paths: Sequence[Path]) -> list[Path]:
    """Each file that is no slice, and each folder of slices, where its first slice is met.

    Args:
        paths: images of a folder and its subfolders.
    """
    return list(dict.fromkeys(path.parent if is_slice(path) else path for path in paths))


def warn_of_parts(images: Iterable[Path], *, stacklevel: int = 3) -> None:
    """Say so where folders hold different slices of one series: each is a volume of its own, and none the scan.

    Args:
        images: files, and folders of slices.
        stacklevel: as in :func:`warnings.warn`.

    Warns:
        UserWarning: naming the folders.
    """
    folders: dict[str, list[Path]] = {}
    for folder in images:
        if folder.is_dir() and (file := next(slice_files(folder), None)):
            folders.setdefault(series_and_image(file)[0], []).append(folder)
    parts = []
    for series, some in folders.items():
        if not series or len(some) == 1:
            continue
        held = [{series_and_image(file)[1] for file in slice_files(folder)} for folder in some]
        if len(set().union(*held)) > max(map(len, held)):  # not copies of one another
            parts.append(" and ".join(shown(str(folder), 200) for folder in some[:3]))
    if parts:
        warnings.warn(
            f"{len(parts)} series of which slices lie in several folders, each of which is taken as a volume of its "
            f"own: {'; '.join(parts[:5])}; put all slices of a series into one folder",
            stacklevel=stacklevel,
        )
