# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Folders of DICOM slices as images, each a volume."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from .._class_names import shown
from ..image_io.dicom_volume import is_slice, series_and_image

__all__ = ["series_or_file", "whole_series"]


def whole_series(paths: Sequence[Path]) -> list[Path]:
    """Each file that is no slice, and each folder of slices, where its first slice is met.

    Args:
        paths: images of a folder and its subfolders.

    Warns:
        UserWarning: where folders hold different slices of one series: each is a volume of its own, and none the scan.
    """
    found, slices = list[Path](), dict[Path, list[Path]]()
    for path in paths:
        found.append(series_or_file(path))
        if found[-1] != path:
            slices.setdefault(found[-1], []).append(path)
    _warn_of_parts(slices)
    return list(dict.fromkeys(found))


def series_or_file(path: Path) -> Path:
    """The folder of a file that is a slice, which is the image; any other file itself."""
    return path.parent if is_slice(path) else path


def _warn_of_parts(slices: dict[Path, list[Path]]) -> None:
    folders: dict[str, list[Path]] = {}
    for folder, files in slices.items():
        folders.setdefault(series_and_image(files[0])[0], []).append(folder)
    parts = []
    for series, some in folders.items():
        held = [{series_and_image(file)[1] for file in slices[folder]} for folder in some] if len(some) > 1 else []
        if series and held and len(set().union(*held)) > max(map(len, held)):  # not copies of one another
            parts.append(" and ".join(shown(str(folder), 200) for folder in some[:3]))
    if parts:
        warnings.warn(
            f"{len(parts)} series of which slices lie in several folders, each of which is taken as a volume of its "
            f"own: {'; '.join(parts[:5])}; put all slices of a series into one folder",
            stacklevel=4,
        )
