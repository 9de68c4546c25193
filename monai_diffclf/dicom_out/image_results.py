# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""All objects of one image: a file, or the slices of a volume."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ..image_io.image_files import cause, read_image_file
from ..image_io.series_archive import is_series_archive, series_folder
from .codes import Codes
from .finding import STATES, Algorithm, Finding, finding_of
from .library import to_bytes
from .parametric_map import parametric_map
from .secondary_capture import secondary_capture, shown_slice
from .source import read_source
from .structured_report import structured_report
from .volume_source import read_volume_source

__all__ = ["dicom_files"]


def dicom_files(
    path: str | os.PathLike[str],
    row: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    algorithm: Algorithm,
    values: npt.NDArray[Any] | None,
    *,
    when: datetime,
    codes: Codes | None = None,
    volume: bool = False,
) -> dict[str, bytes]:
    """The report of a classified image, and where there is a map, the parametric map and the picture, as files.

    Args:
        path: the image, a DICOM file; of a volume also the folder, or ZIP file, of its slices.
        row: its row of the table of predictions, see `finding_of`; of several findings a row of each.
        classes: names of the classes, or of the findings.
        algorithm: what has classified.
        values: its decision map in its own size [rows, columns] or [rows, columns, frames], of a volume [X, Y, Z] as
            `ReadVolumed` has read it; of several findings [L, ...]; None without.
        when: time of the objects.
        codes: codes of some classes.
        volume: whether it is a volume.

    Returns:
        ``"report"``, and with a map ``"map"`` and ``"overlay"`` -> content of the file; of several findings
        ``"finding_0_map"``, ``"finding_0_overlay"``, ``"finding_1_map"`` and so on.

    Raises:
        ValueError: naming the file, when highdicom is not installed or no object can refer to the image.
    """
    findings = _findings(row, classes)
    if is_series_archive(path):
        with series_folder(path) as folder:
            return dicom_files(folder, row, classes, algorithm, values, when=when, codes=codes, volume=volume)
    try:
        opened = read_volume_source(path) if volume else None
        source = read_source(path) if opened is None else opened.source
        made = {"report": structured_report(source, findings, algorithm, when=when, codes=codes)}
        for number, finding in enumerate(findings if values is not None else ()):
            begin = f"finding_{number}_" if finding.name else ""
            own = np.asarray(values)[number] if finding.name else np.asarray(values)
            own = own if opened is None else opened.arranged(own)
            shown = read_image_file(path) if opened is None else opened.shown(shown_slice(own) or 0)
            made[f"{begin}map"] = parametric_map(source, finding, algorithm, own, when=when)
            made[f"{begin}overlay"] = secondary_capture(source, finding, algorithm, shown, own, when=when)
        return {name: to_bytes(each) for name, each in made.items()}
    except Exception as error:
        # Of a header that breaks the standard pydicom and highdicom raise whatever they meet; one line names the file.
        told = cause(error)
        raise ValueError(told if told.startswith(f"{os.fspath(path)}: ") else f"{path}: {told}") from error


def _findings(row: Mapping[str, Any] | Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[Finding]:
    if isinstance(row, Mapping):
        return [finding_of(row, classes)]
    if len(row) != len(classes):
        raise ValueError(f"row: expected a row for each of the findings {list(classes)}, got {len(row)}")
    return [finding_of(each, STATES, name=name) for each, name in zip(row, classes, strict=True)]
