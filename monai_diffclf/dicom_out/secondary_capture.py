# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the evidence lies, as a picture that any viewer shows: the image with the map over it, and what it is not."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from .._text import printable
from ..explain import overlay
from .finding import Algorithm, Finding
from .library import common, highdicom, settle
from .placed import add_side
from .series import instance_number, of_finding, series_uid
from .source import Source
from .text import vr_text
from .uids import new_uid

__all__ = ["BANNER", "overlay_picture", "secondary_capture", "shown_slice"]

BANNER = "NOT A MEDICAL DEVICE - RESEARCH ONLY"

_SERIES_NUMBER = 9603
_SHORTEST = 384  # pixels of the longer side, below which a picture is enlarged, so that its text can be read
_LINE = 18  # pixels of height of a line of text for every `_SHORTEST` pixels of width
_PURPOSE = Code("121322", "DCM", "Source image for image processing operation")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_TERMS = "APRLHF"
_ENDS = ("RL", "AP", "FH")  # of each axis: where coordinates fall, and where they grow


def secondary_capture(
    source: Source,
    finding: Finding,
    algorithm: Algorithm,
    shown: npt.NDArray[Any],
    values: npt.NDArray[Any],
    *,
    when: datetime,
) -> Dataset:
    """The image with its decision map over it as a Secondary Capture in RGB; below it a strip of text.

    Red speaks for the class found, blue for its rival (see :func:`monai_diffclf.explain.overlay`); of a finding red for
    its presence. The image keeps its pixels; a small one is enlarged by a whole number, by which its spacings are
    divided, each under the name that it has in the source. Of slices the one is shown in which the map speaks most for
    the class (`shown_slice`); the strip and the description say which it is, the reference names its file or frame.

    Args:
        source: the image.
        finding: what was found.
        algorithm: what has found it.
        shown: what a viewer shows of the image, in [0, 1]: [rows, columns, 1 or 3], of slices that of the one shown, or
            [rows, columns, slices, 1 or 3].
        values: the map [rows, columns], or [rows, columns, slices].
        when: time of the object.

    Returns:
        the object, as highdicom makes it.

    Raises:
        ValueError: when highdicom is not installed, the sizes do not fit, or the source cannot be referred to.
    """
    hd = highdicom()
    values = np.asarray(values, dtype=np.float64)
    place = shown_slice(values)
    if shown.shape[:-1] not in (values.shape, values.shape[:2]) or values.shape[:2] != source.shape:
        raise ValueError(
            f"values: expected a map as large as the image {list(shown.shape[:-1])}, of {source.shape[0]} x "
            f"{source.shape[1]} pixels, got {list(values.shape)}"
        )
    plane = values if place is None else values[..., place]
    which = "" if place is None else f"slice {place + 1} of {values.shape[2]}"
    picture = shown[:, :, place] if shown.ndim == 4 else shown
    pixels, factor = overlay_picture(picture, plane, finding, algorithm, which=which)
    facts = (source.instances, finding.facts(), algorithm.__dict__, when.isoformat())
    try:
        made = hd.sc.SCImage.from_ref_dataset(
            source.first,
            pixel_array=pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=series_uid(source, "overlay", algorithm, when, finding.name),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=new_uid("overlay", facts),
            instance_number=instance_number(source),
            patient_orientation=("L", "P"),  # highdicom asks for one; that of the image follows
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_date=when.date(),
            content_time=when.time(),
            **common(algorithm.name, f"Map{of_finding(finding)} over image by {algorithm.name}, research only", when),
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"source: expected an image that a picture can refer to, but {error}") from error
    _describe(made, source, finding, factor, place, which)
    settle(made, when)
    return made  # type: ignore[no-any-return]


def shown_slice(values: npt.NDArray[Any]) -> int | None:
    """The slice of a map [rows, columns, slices] that speaks most for the class; None of a plane.

    It is the one with the largest sum of what is positive; of a map that is positive nowhere, of magnitudes.
    """
    if values.ndim == 2:
        return None
    strength = np.maximum(values, 0) if (values > 0).any() else np.abs(values)
    return int(strength.sum(axis=(0, 1)).argmax())


def overlay_picture(
    shown: npt.NDArray[Any], values: npt.NDArray[Any], finding: Finding, algorithm: Algorithm, *, which: str = ""
) -> tuple[npt.NDArray[np.uint8], int]:
    """The picture [rows', columns', 3] and by how much the image in it is enlarged.

    Args:
        shown: the image [rows, columns, 1 or 3] in [0, 1].
        values: the map [rows, columns].
        finding: what was found.
        algorithm: what has found it.
        which: which slice it is, in words.
    """
    painted = overlay(np.moveaxis(np.asarray(shown, dtype=np.float64), -1, 0), values, size=_SHORTEST)
    factor = painted.shape[0] // values.shape[0]
    width = painted.shape[1]
    said = f"{finding.what}: {finding.probabilities[finding.asked]:.2f}"
    lines = [BANNER, printable(f"{said} ({algorithm.name}); red: for it, blue: against it")]
    lines += [f"{which}, where the map is strongest"] if which else []
    height = max(_LINE, round(_LINE * width / _SHORTEST))
    strip = Image.new("RGB", (width, round(height * (len(lines) + 0.5))))
    for number, line in enumerate(lines):
        _write(ImageDraw.Draw(strip), line, (width, height), number)
    rows = [np.round(painted * 255).astype(np.uint8), np.asarray(strip, dtype=np.uint8)]
    return np.concatenate(rows), factor


def _write(draw: ImageDraw.ImageDraw, line: str, box: tuple[int, int], number: int) -> None:
    """A line of text, as large as it fits."""
    width, height = box
    size = float(height) * 0.8
    font: Any = ImageFont.load_default(size)
    while draw.textlength(line, font=font) > 0.97 * width and size > 4:
        size *= 0.9
        font = ImageFont.load_default(size)
    draw.text((0.015 * width, height * (number + 0.2)), line, font=font, fill=(255, 255, 0))


def _letters(header: Dataset) -> list[str]:
    """PatientOrientation, if it has two values that are valid; else that of the axes of a slice; else none."""
    found = header.get("PatientOrientation")
    values = [] if found is None or isinstance(found, str) else [str(value) for value in found]
    if len(values) == 2 and all(value and set(value) <= set(_TERMS) for value in values):
        return values
    cosines = header.get("ImageOrientationPatient")
    if cosines is None or len(cosines) != 6:
        return []
    letters = []
    for axis in np.asarray(cosines, dtype=float).reshape(2, 3):
        longest = int(np.abs(axis).argmax())
        letters.append(_ENDS[longest][int(axis[longest] > 0)])
    return letters


def _describe(made: Dataset, source: Source, finding: Finding, factor: int, place: int | None, which: str) -> None:
    """What highdicom leaves out: side, spacing, what it was made of and how."""
    add_side(made, source)
    first = source.first
    made.PatientOrientation = _letters(first)
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    for name in _SPACINGS:
        if name in made:
            del made[name]
        if first.get(name) and all(float(side) > 0 for side in first[name].value):
            setattr(made, name, [round(float(side) / factor, 9) for side in first[name].value])
    for name in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        if first.get(name) in ("YES", "NO"):
            setattr(made, name, first[name].value)
    where = f" ({which}, where it is strongest)" if which else ""
    made.DerivationDescription = vr_text(f"Decision map for {finding.what} over the image{where}. {BANNER}", "ST")
    made.SourceImageSequence = [_reference(source, place)]
    made.LossyImageCompression = str(first.get("LossyImageCompression") or "00")


def _reference(source: Source, place: int | None) -> Dataset:
    """The file, and in one of several frames the frame, that is shown."""
    several = len(source.headers) > 1
    header = source.headers[place or 0] if several else source.first
    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if place is not None and not several:
        item.ReferencedFrameNumber = place + 1
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = _PURPOSE[:3]
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
