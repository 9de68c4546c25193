# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DICOM results of one image of an archive, a plane or a volume."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from monai.utils import CommonKeys

from .. import __version__
from ..bundle import Bundle
from ..dicom_out import Algorithm, dicom_files
from ..handlers.classification_writer import map_in_image_size
from ..handlers.finding_view import is_multi_label
from ..handlers.prediction_table import finding_rows
from ..image_io.file_kind import DICOM_SUFFIXES, kind_of
from ..image_io.map_file import is_of_volumes
from ..image_io.series_archive import is_series_archive
from ..inferers import MultiLabelClassifierInferer
from ..keys import OutputKeys
from .inputs import ArchiveImage
from .maps import file_stem

__all__ = ["algorithm_of", "check_images", "has_findings", "image_files", "is_dicom"]

_SETTINGS = ("num_draws", "rule", "seed", "weighting")
_NAMED = 5  # images that are no DICOM, in the warning


def is_dicom(image: ArchiveImage) -> bool:
    """Whether an image is read as DICOM: a file, or the folder or ZIP file of the slices of a volume."""
    if os.path.isdir(image.path) or is_series_archive(image.path):
        return True
    kind = kind_of(image.path)
    return kind == "DICOM" or (kind is None and image.path.lower().endswith(DICOM_SUFFIXES))


def has_findings(bundle: Bundle) -> bool:
    """Whether the classes of a bundle are findings, any of which an image may have."""
    return isinstance(bundle.inferer, MultiLabelClassifierInferer)


def check_images(images: Sequence[ArchiveImage]) -> None:
    """Name the images that will have no DICOM results.

    Args:
        images: the images.

    Raises:
        ValueError: when none will.

    Warns:
        UserWarning: naming them, where there are some.
    """
    others = [image.key for image in images if not is_dicom(image)]
    if len(others) == len(images):
        raise ValueError(
            f"--dicom-out: expected DICOM images, to whose studies results belong, got none ({others[0]} is of another "
            "kind); leave --dicom-out out"
        )
    if others:
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        named = ", ".join(others[:_NAMED])
        warnings.warn(f"--dicom-out: no DICOM results of what is no DICOM: {named}{more}", stacklevel=3)


def algorithm_of(bundle: Bundle, weights: str) -> Algorithm:
    """What reports say of a bundle as what has classified.

    Args:
        bundle: the bundle.
        weights: fingerprint of its network's weights.
    """
    inferer = bundle.inferer
    said = [f"{name}={getattr(inferer, name)}" for name in _SETTINGS if hasattr(inferer, name)]
    return Algorithm(bundle.name, __version__, weights, (*said, f"calibrated={bundle.calibrated}"))


def image_files(
    image: ArchiveImage,
    place: int,
    item: Mapping[str, Any],
    result: Mapping[str, Any],
    row: Mapping[str, Any],
    *,
    preprocessing: Sequence[Callable[..., Any]],
    classes: Sequence[str],
    algorithm: Algorithm,
    begun: str,
) -> dict[str, bytes]:
    """Name and content of the DICOM files about an image; of several findings a map and a picture for each.

    Args:
        image: the image.
        place: its place in the archive.
        item: the image after preprocessing.
        result: item of the evaluator's output.
        row: its row of the table.
        preprocessing: the transforms.
        classes: names of the classes.
        algorithm: what has classified.
        begun: time of the results, in ISO format.

    Raises:
        ValueError: when no object can refer to the image.
    """
    values = None
    if OutputKeys.ERROR_MAPS in result:
        values = map_in_image_size(result, item[CommonKeys.IMAGE], preprocessing)
    rows = finding_rows(item, result, classes) if is_multi_label(result) else row
    volume, when = is_of_volumes(preprocessing), datetime.fromisoformat(begun)
    made = dicom_files(image.path, rows, classes, algorithm, values, when=when, volume=volume)
    return {f"{file_stem(image, place)}_{kind}.dcm": content for kind, content in made.items()}
