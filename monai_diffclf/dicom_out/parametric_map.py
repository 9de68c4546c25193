# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the evidence lies, as a parametric map: numbers that a program reads, on the pixels of the image."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from .codes import NO_UNITS, private_concept
from .finding import Algorithm, Finding
from .library import common, highdicom, settle
from .placed import add_side, has_thickness, placed_headers
from .series import instance_number, of_finding, series_uid
from .source import Source
from .text import vr_text
from .uids import new_uid

__all__ = ["parametric_map"]

_SERIES_NUMBER = 9602


def parametric_map(
    source: Source, finding: Finding, algorithm: Algorithm, values: npt.NDArray[Any], *, when: datetime
) -> Dataset:
    """The decision map of the class or finding as a Parametric Map with 32-bit floats, a frame for each slice.

    Its pixels are those of the image, as they are stored (also of MONOCHROME1); positive where the class explains a
    pixel better than its rival (see :func:`monai_diffclf.explain.decision_map`), or the presence of the finding better
    than its absence. Spacing, orientation, position and
    frame of reference are the image's, or of an image that has none those of `placed_headers`.

    Args:
        source: the image; of several slices it needs positions and a frame of reference.
        finding: what was found.
        algorithm: what has found it.
        values: the map [rows, columns], or [rows, columns, slices] in the order of the source's files or frames.
        when: time of the object.

    Returns:
        the object, as highdicom makes it.

    Raises:
        ValueError: when highdicom is not installed, the map has another size or values that are not finite, or slices
            have no positions.
    """
    hd = highdicom()
    frames = np.asarray(values, dtype=np.float32)
    frames = frames[None] if frames.ndim == 2 else np.moveaxis(frames, -1, 0)
    if frames.shape != (source.num_frames, *source.shape):
        raise ValueError(
            f"values: expected a map of {source.num_frames} frame(s) of {source.shape[0]} x {source.shape[1]} pixels, "
            f"as the image has, got {list(np.shape(values))}"
        )
    if not np.isfinite(frames).all():
        raise ValueError("values: expected finite numbers, got others")
    highest = float(np.abs(frames).max()) or 1.0
    facts = (source.instances, finding.facts(), algorithm.__dict__, when.isoformat())
    try:
        headers = placed_headers(source)
        frame = str(headers[0].FrameOfReferenceUID)
        made = hd.pm.ParametricMap(
            source_images=headers,
            pixel_array=np.ascontiguousarray(frames),
            series_instance_uid=series_uid(source, "map", algorithm, when, finding.name, frame=frame),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=new_uid("map", facts),
            instance_number=instance_number(source),
            device_serial_number=vr_text(algorithm.weights, "LO") or "unknown",
            contains_recognizable_visual_features=source.first.get("RecognizableVisualFeatures") == "YES",
            real_world_value_mappings=[_mapping(finding, highest)],
            voi_lut_transformations=[_window(highest)],
            content_label="DECISION_MAP",
            content_description=vr_text(f"Evidence for {finding.what}, research only", "LO"),
            content_date=when.date(),
            content_time=when.time(),
            **common(algorithm.name, f"Decision map{of_finding(finding)} by {algorithm.name}, research only", when),
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"source: expected an image that a parametric map can lie on, but {error}") from error
    _finish(made, source, new_uid("dimensions", facts))
    settle(made, when)
    return made  # type: ignore[no-any-return]


def _mapping(finding: Finding, highest: float) -> Any:
    return highdicom().pm.RealWorldValueMapping(
        lut_label="DECISION_MAP",
        lut_explanation=vr_text(f"Denoising error of rival less that of {finding.what}", "LO"),
        unit=NO_UNITS,
        value_range=(-highest, highest),
        quantity_definition=private_concept("decision map", "Difference of denoising errors"),
    )


def _window(highest: float) -> Any:
    """Zero in the middle; the exact function, as the linear one holds for widths from 1 on."""
    return highdicom().VOILUTTransformation(
        window_center=0.0, window_width=2 * highest, voi_lut_function="LINEAR_EXACT", window_explanation="Zero is grey"
    )


def _finish(made: Dataset, source: Source, uid: str) -> None:
    """What highdicom leaves open: the side, and the identifier of the dimensions, which it makes by chance."""
    add_side(made, source)
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in made.get("DimensionIndexSequence") or ():
        item.DimensionOrganizationUID = uid
    if not has_thickness(source):
        for measures in made.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence") or ():
            del measures.SliceThickness
