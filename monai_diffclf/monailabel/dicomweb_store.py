# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A DICOMweb server as MONAI Label's datastore: one image a series, read as DICOM; labels are kept beside it."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from fastapi import HTTPException
from monailabel.config import Settings, settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from .class_store import ClassStore
from .names import check_name, resolve_inside
from .remote_info import RemoteInfo
from .remote_labels import RemoteLabels

__all__ = ["MODALITIES", "DicomWebImages"]

logger = logging.getLogger(__name__)

MODALITIES = ("CR", "DX", "MG", "PX", "RF", "XA", "SC", "CT", "MR")
"""Modalities of the series that are images, unless a search filter says otherwise."""

_SERIES, _MODALITY = "0020000E", "Modality"


class DicomWebImages(ClassStore, DICOMWebDatastore):
    """MONAI Label's DICOMweb store.

    - Images are the series of the modalities `MODALITIES` (MONAI Label's own default is CT alone). A search filter of
      one's own (MONAI_LABEL_DICOMWEB_SEARCH_FILTER) is taken as it is; its ``"Modality"`` may be a list.
    - A series is an image: one file, or, for a bundle that reads volumes, its slices. It is read as DICOM: MONAI
      Label's way through NIfTI loses how the grey values are to be shown.
    - Labels are stored on this machine, in the folder ``class_labels`` of the cache (`RemoteLabels`), under the
      series' UID: a class has no place in a DICOM segmentation, which is what MONAI Label would send. So is what is
      known of an image, such as its score, in ``image_info`` (`RemoteInfo`).
    - An image that is uploaded is stored on the server (STOW-RS).

    Args:
        client: the server.
        classes: names of the classes.
    """

    def __init__(self, client: DICOMwebClient, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        cache = settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip()
        self._listed: tuple[float, list[str]] | None = None
        super().__init__(
            client=client,
            search_filter=settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
            cache_path=cache or None,
            fetch_by_frame=settings.MONAI_LABEL_DICOMWEB_FETCH_BY_FRAME,
            convert_to_nifti=False,
        )
        self.labels = RemoteLabels(Path(self._datastore.image_path()) / "class_labels")
        self.image_info = RemoteInfo(Path(self._datastore.image_path()) / "image_info")

    def status(self) -> dict[str, Any]:
        """MONAI Label's figures; an error in their place if the DICOMweb server does not answer."""
        try:
            images = set(self.list_images())
        except (requests.RequestException, OSError) as error:
            logger.warning("DICOMweb: %s", error)
            return {"total": 0, "completed": 0, "label_tags": {}, "error": f"DICOMweb: {type(error).__name__}"}
        done = len(images & self.labels.labelled(DefaultLabelTag.FINAL.value))
        return {"total": len(images), "completed": done, "label_tags": self.labels.counts()}

    def refresh(self) -> None:
        """Ask the server anew, when images are next listed."""
        self._listed = None

    def list_images(self) -> list[str]:
        """UIDs of the series that the search finds, kept for MONAI_LABEL_DICOMWEB_CACHE_EXPIRY seconds."""
        now = time.monotonic()
        if self._listed is None or now - self._listed[0] > settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY:
            found: dict[str, None] = {}
            for asked in _searches(self._search_filter):
                for series in self._client.search_for_series(search_filters=asked):
                    found.update(dict.fromkeys(map(str, series.get(_SERIES, {}).get("Value", []))))
            self._listed = now, list(found)
        return list(self._listed[1])

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images that have a label, of the tag ``final`` by default."""
        found = self.labels.labelled(label_tag or DefaultLabelTag.FINAL.value)
        return [image for image in self.list_images() if image in found]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the other images."""
        found = self.labels.labelled(label_tag or DefaultLabelTag.FINAL.value)
        return [image for image in self.list_images() if image not in found]

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Tag -> id of each label of an image."""
        return dict.fromkeys(self.labels.tags(image_id), image_id)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The id of a label; empty if there is none."""
        return image_id if self.labels.find(image_id, tag) else ""

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """The file of a label; empty if there is none."""
        return str(self.labels.find(label_id, label_tag) or "")

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known of a label."""
        return self.labels.info(label_id, label_tag)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label."""
        try:
            self.labels.update(label_id, label_tag, info)
        except LookupError as error:
            raise HTTPException(404, str(error.args[0])) from error

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label."""
        self.labels.remove(label_id, label_tag)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """The images with a final label, and their labels, as files; what cannot be had is left out."""
        pairs = []
        for image in self.get_labeled_images():
            try:
                pairs.append({"image": self.get_image_uri(image), "label": self.get_label_uri(image, "final")})
            except HTTPException as error:
                logger.warning("DICOMweb: series %s: %s", image, error.detail)
        return pairs

    def json(self) -> dict[str, Any]:
        """All that is stored."""
        return {
            "objects": {
                image: {
                    "image": {"info": self.get_image_info(image)},
                    "labels": {tag: {"info": self.labels.info(image, tag)} for tag in self.labels.tags(image)},
                }
                for image in self.list_images()
            }
        }

    def get_image_uri(self, image_id: str) -> str:
        """The file of a series, or the folder of its files, which a bundle for volumes reads.

        Raises:
            HTTPException: when the series has no file, or cannot be had.
        """
        if not _is_uid(image_id):
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
        return {**self.image_info.get(image_id), "SeriesInstanceUID": image_id, "name": f"{image_id}.dcm"}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image.

        Raises:
            HTTPException: when there is no such image.
        """
        self._check_listed(image_id)
        self.image_info.update(image_id, info)

    def save_class(self, image_id: str, name: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a class as the label of an image; returns the label's id, which is the image's.

        Raises:
            HTTPException: when there is no such image, or the tag is no plain name.
        """
        self._check_listed(image_id)
        try:
            self.labels.save(image_id, name, label_tag, self.label_info_of(name, label_info))
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return image_id

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Store a DICOM file on the server (STOW-RS); its id is its SeriesInstanceUID.

        Raises:
            HTTPException: when the file is no DICOM image of a series, or the server does not take it.
        """
        try:
            dataset = pydicom.dcmread(image_filename)
            series = str(dataset.SeriesInstanceUID)
            told = [str(dataset[name].value) for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")]
        except Exception as error:  # pydicom raises whatever it meets
            raise HTTPException(422, "image: expected a DICOM file, with the UIDs of its study and series") from error
        if not all(map(_is_uid, (series, *told))):
            raise HTTPException(422, "image: expected a DICOM file, with the UIDs of its study and series")
        try:
            self._client.store_instances([dataset])
        except (requests.RequestException, OSError) as error:
            logger.warning("DICOMweb: %s", error)
            raise HTTPException(502, f"image: the DICOMweb server did not take it: {_kind(error)}") from error
        self._forget(series)
        self.image_info.replace(series, image_info)  # a score, which was there, was that of the series before
        self.refresh()
        return series

    def remove_image(self, image_id: str) -> None:
        """Refuse: images are the DICOMweb server's."""
        raise HTTPException(422, "image: images are the DICOMweb server's; remove it there")

    def _on_any_event(self, event: Any) -> None:
        """Nothing: what lies in the cache is no image of its own."""

    def _check_listed(self, image_id: str) -> None:
        if image_id not in self.list_images():
            raise HTTPException(404, f"image: expected the id of an image in the datastore, got {image_id!r}")

    def _forget(self, image_id: str) -> None:
        """Remove what came of a series that could not be had as a whole."""
        shutil.rmtree(Path(self._datastore.image_path(), check_name(image_id, "image")), ignore_errors=True)


def _kind(error: Exception) -> str:
    return type(error).__name__


def _searches(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The searches to send, one a modality, as QIDO-RS takes no list of them."""
    if asked == Settings.model_fields["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"].default:
        asked = {_MODALITY: list(MODALITIES)}
    several = asked.get(_MODALITY)
    if not isinstance(several, list):
        return [dict(asked)]
    return [{**asked, _MODALITY: modality} for modality in several]


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is not None
