# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""All objects of one image file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy.typing as npt

from ..image_io.image_files import read_image_file
from .codes import Codes
from .finding import Algorithm, finding_of
from .library import to_bytes
from .parametric_map import parametric_map
from .secondary_capture import secondary_capture
from .source import read_source
from .structured_report import structured_report

__all__ = ["dicom_files"]


def dicom_files(
    path: str | os.PathLike[str],
    row: Mapping[str, Any],
    classes: Sequence[str],
    algorithm: Algorithm,
    values: npt.NDArray[Any] | None,
    *,
    when: datetime,
    codes: Codes | None = None,
) -> dict[str, bytes]:
    """The report of a classified image, and where there is a map, the parametric map and the picture, as files.

    Args:
        path: the image, a DICOM file.
        row: its row of the table of predictions, see `finding_of`.
        classes: names of the classes.
        algorithm: what has classified.
        values: its decision map in its own size [rows, columns] or [rows, columns, frames]; None without.
        when: time of the objects.
        codes: codes of some classes.

    Returns:
        ``"report"``, and with a map ``"map"`` and ``"overlay"`` -> content of the file.

    Raises:
        ValueError: naming the file, when highdicom is not installed or no object can refer to the image.
    """
    source, finding = read_source(path), finding_of(row, classes)
    try:
        made = {"report": structured_report(source, finding, algorithm, when=when, codes=codes)}
        if values is not None:
            shown = read_image_file(path)
            made["map"] = parametric_map(source, finding, algorithm, values, when=when)
            made["overlay"] = secondary_capture(source, finding, algorithm, shown, values, when=when)
        return {name: to_bytes(each) for name, each in made.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
