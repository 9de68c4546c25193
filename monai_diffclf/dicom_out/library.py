# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""highdicom, which makes the objects: asked for when the first one is made."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from .. import __version__
from .._optional import require
from ..image_io.dicom_class import MANUFACTURER
from .codes import PRIVATE
from .finding import Algorithm
from .text import vr_text
from .uids import new_uid

__all__ = ["common", "highdicom", "observer", "settle", "to_bytes"]


def highdicom() -> Any:
    """The package.

    Raises:
        ValueError: when it is not installed.
    """
    require("highdicom", argument="dicom_out", purpose="writing DICOM", extra="highdicom")
    import highdicom
    import highdicom.ko
    import highdicom.pm
    import highdicom.sc
    import highdicom.sr

    return highdicom


def common(model: str, description: str, when: datetime) -> dict[str, Any]:
    """Arguments that all objects share: who makes them, when, and in which characters.

    Args:
        model: name of the bundle.
        description: what the series is.
        when: when they are made.
    """
    hd = highdicom()
    scheme = hd.coding_schemes.CodingSchemeIdentificationItem(
        PRIVATE, name="Private codes of monai_diffclf", responsible_organization=MANUFACTURER
    )
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": vr_text(model, "LO") or "unnamed",
        "software_versions": f"monai_diffclf {__version__}",
        "series_description": vr_text(description, "LO"),
        "series_date": when.date(),
        "series_time": when.time(),
        "specific_character_set": "ISO_IR 192",
        "coding_schemes": [scheme],
    }


def observer(algorithm: Algorithm, *, serial_number: str | None = None) -> Any:
    """What has observed, as the context of a document: a device, which is the bundle (TID 1004).

    Args:
        algorithm: what has classified.
        serial_number: of the device; None for none.
    """
    hd = highdicom()
    return hd.sr.ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=new_uid("device", algorithm.__dict__),
            name="monai_diffclf",
            manufacturer_name=MANUFACTURER,
            model_name=vr_text(algorithm.name, "LO") or "unnamed",
            serial_number=serial_number,
        ),
    )


def settle(dataset: Dataset, when: datetime) -> None:
    """Give an object the time at which it is made, wherever highdicom has put the present one."""
    date, time = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    for name in ("InstanceCreation", "Content"):
        if f"{name}Date" in dataset:
            setattr(dataset, f"{name}Date", date)
            setattr(dataset, f"{name}Time", time)
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if item.get("ContributionDateTime"):
            item.ContributionDateTime = date + time
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = date, time


def to_bytes(dataset: Dataset) -> bytes:
    """The object as a DICOM file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
