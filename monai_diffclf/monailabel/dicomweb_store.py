# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A DICOMweb server as MONAI Label's datastore: one image a series, read as DICOM."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore

from .class_labels import find_label
from .names import check_name, resolve_inside

__all__ = ["DicomWebImages"]

logger = logging.getLogger(__name__)


class DicomWebImages(DICOMWebDatastore):
    """MONAI Label's DICOMweb store, for reading.

    - A series is an image: one file, or, for a bundle that reads volumes, its slices. It is read as DICOM: MONAI
      Label's way through NIfTI loses how the grey values are to be shown.
    - Labels are not stored: DICOM has no place for a class that MONAI Label could write.

    Args:
        client: the server.
        classes: names of the classes.
    """

    def __init__(self, client: DICOMwebClient, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        cache = settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip()
        super().__init__(
            client=client,
            search_filter=settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
            cache_path=cache or None,
            fetch_by_frame=settings.MONAI_LABEL_DICOMWEB_FETCH_BY_FRAME,
            convert_to_nifti=False,
        )

    def status(self) -> dict[str, Any]:
        """MONAI Label's figures; an error in their place if the DICOMweb server does not answer."""
        try:
            return dict(super().status())
        except (requests.RequestException, OSError) as error:
            logger.warning("DICOMweb: %s", error)
            return {"total": 0, "completed": 0, "label_tags": {}, "error": f"DICOMweb: {type(error).__name__}"}

    def get_image_uri(self, image_id: str) -> str:
        """The file of a series, or the folder of its files, which a bundle for volumes reads.

        Raises:
            HTTPException: when the series has no file, or cannot be had.
        """
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", image_id) or len(image_id) > 64:
            return ""
        try:
            folder = Path(super().get_image_uri(image_id))
            files = [resolve_inside(path, [folder], "image") for path in folder.iterdir()]
        except (requests.RequestException, OSError, LookupError, ValueError) as error:
            logger.warning("DICOMweb: series %s: %s", image_id, error)
            self._forget(image_id)
            raise HTTPException(502, f"image: the DICOMweb server did not give the series: {_kind(error)}") from error
        if not files:
            raise HTTPException(422, "image: expected a series of some files, got none")
        return str(files[0]) if len(files) == 1 else str(folder)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of the image."""
        return {"SeriesInstanceUID": image_id, "name": f"{image_id}.dcm"}

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Refuse: see the class."""
        find_label(label_filename, label_info, self.classes)
        raise HTTPException(422, "label: class labels cannot be stored on a DICOMweb server; serve a folder of images")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refuse: images come from the DICOMweb server."""
        raise HTTPException(422, "image: images come from the DICOMweb server; store it there")

    def _forget(self, image_id: str) -> None:
        """Remove what came of a series that could not be had as a whole."""
        shutil.rmtree(Path(self._datastore.image_path(), check_name(image_id, "image")), ignore_errors=True)


def _kind(error: Exception) -> str:
    return type(error).__name__
