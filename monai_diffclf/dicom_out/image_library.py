# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The images of a report with what their headers say of them, DICOM's template 1600."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from .codes import SIDES
from .library import highdicom
from .source import Source

__all__ = ["image_library"]

_SOURCE = Code("260753009", "SCT", "Source")
_LIBRARY = Code("111028", "DCM", "Image Library")
_GROUP = Code("126200", "DCM", "Image Library Group")
_LATERALITY = Code("111027", "DCM", "Image Laterality")
# What highdicom's descriptors of a modality take from a header (TID 1603 and 1604).
_NEEDED = {
    **dict.fromkeys(("CT", "MR", "PT"), ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")),
    **dict.fromkeys(("CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"), ("PatientOrientation", "ImagerPixelSpacing")),
}
_ALWAYS = ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "FrameOfReferenceUID")


def image_library(source: Source) -> Any:
    """The container of TID 1600: the images in one group, each with modality, size, laterality, frame of reference.

    Geometry (TID 1603, 1604) is told of images whose headers have all that belongs to it.

    Args:
        source: the images.

    Raises:
        ValueError: when highdicom does not know their class.
    """
    hd = highdicom()
    items = []
    for header in source.headers:
        item = hd.sr.ImageContentItem(
            name=_SOURCE,
            referenced_sop_class_uid=str(header.SOPClassUID),
            referenced_sop_instance_uid=str(header.SOPInstanceUID),
            relationship_type="CONTAINS",
        )
        item.ContentSequence = hd.sr.ContentSequence(_descriptors(header, source.laterality))
        items.append(item)
    group = hd.sr.ContainerContentItem(name=_GROUP, relationship_type="CONTAINS")
    group.ContentSequence = hd.sr.ContentSequence(items)
    library = hd.sr.ContainerContentItem(name=_LIBRARY, relationship_type="CONTAINS")
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _descriptors(header: Dataset, laterality: str) -> Any:
    hd = highdicom()
    told = header
    modality = str(header.get("Modality", ""))
    needed = _NEEDED.get(modality, ())
    thickness = modality in ("CT", "MR", "PT") and not header.get("SliceThickness")
    if modality not in _NEEDED or thickness or not all(header.get(name) for name in needed):
        # Of another modality it asks for no geometry; the modality itself it takes from the class.
        told = Dataset()
        for name in _ALWAYS:
            if header.get(name):
                setattr(told, name, header[name].value)
        told.Modality = "OT"
    side = SIDES.get(laterality)
    more = [] if side is None else [hd.sr.CodeContentItem(_LATERALITY, side, relationship_type="HAS ACQ CONTEXT")]
    try:
        return hd.sr.ImageLibraryEntryDescriptors(told, additional_descriptors=more)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"source: expected an image of a class that highdicom knows, got {header.SOPClassUID}: {error}"
        ) from error
