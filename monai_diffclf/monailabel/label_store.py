# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A folder of images as MONAI Label's datastore, with class names as labels."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import Settings, settings
from monailabel.datastore.local import LocalDatastore

from ..image_io.image_files import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES

__all__ = ["ClassLabelStore", "find_label"]

logger = logging.getLogger(__name__)


class ClassLabelStore(LocalDatastore):
    """MONAI Label's store of a folder, in which a label is the name of a class.

    A label may come as ``label_info``, ``[{"name": ..., "idx": ...}]``, or as a JSON file ``{"label": name or index}``.
    Stored are the file ``labels/TAG/ID.json``, ``{"label": name}``, and the same in the label's info. It lists all
    images whose suffix `monai_diffclf.image_io.read_image_file` knows, unless MONAI_LABEL_DATASTORE_FILE_EXT is set.

    Args:
        folder: the images.
        classes: names of the classes.
    """

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        extensions = list(settings.MONAI_LABEL_DATASTORE_FILE_EXT)
        if extensions == Settings.model_fields["MONAI_LABEL_DATASTORE_FILE_EXT"].default:
            suffixes = PICTURE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES
            extensions = [f"*{suffix}" for lower in suffixes for suffix in (lower, lower.upper())]
        self.classes = list(classes)
        super().__init__(
            folder,
            extensions=extensions,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store the class of an image.

        Raises:
            HTTPException: when there is no such image, or what came names no class, or several.
        """
        self.refresh()  # scores may have been written by another process
        if image_id not in self.list_images():
            raise HTTPException(404, f"image: expected the id of an image in the datastore, got {image_id!r}")
        try:
            name = find_label(label_filename, label_info or {}, self.classes)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        index = self.classes.index(name)
        info = {**(label_info or {}), "label": name, "label_info": [{"name": name, "idx": index}]}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "label.json")
            file.write_text(json.dumps({"label": name}))
            return str(super().save_label(image_id, str(file), label_tag, info))


def find_label(file: str, info: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The class that a client's label means.

    Args:
        file: the label's file; counts if it is JSON.
        info: the label's parameters: ``label_info`` or ``label``, or those of a prediction that is saved as a label.
        classes: names of the classes.

    Raises:
        ValueError: when no class is named, an unknown one, or more than one.
    """
    named = [info.get("label"), (info.get("params") or {}).get("label"), *_from_label_info(info), _from_file(file)]
    names = {_class_name(value, classes) for value in named if value is not None}
    if len(names) != 1:
        raise ValueError(
            f"label: expected one of {list(classes)}, as label_info [{{'name': ...}}] in params or as a JSON file "
            f"{{'label': ...}}, got {sorted(names) if names else 'none'}"
        )
    return names.pop()


def _from_label_info(info: Mapping[str, Any]) -> list[Any]:
    entries = info.get("label_info") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"label_info: expected a list of {{'name': ...}}, got {entries!r}")
    return [entry.get("name", entry.get("idx")) for entry in entries]


def _from_file(file: str) -> Any:
    if not file.lower().endswith(".json"):
        return None
    try:
        content = json.loads(Path(file).read_text())
    except ValueError as error:
        raise ValueError(f"label: expected a JSON file, but it cannot be read: {error}") from error
    return content.get("label") if isinstance(content, dict) else content


def _class_name(value: Any, classes: Sequence[str]) -> str:
    if isinstance(value, str) and value in classes:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return classes[value]
    raise ValueError(f"label: expected one of {list(classes)} or an index below {len(classes)}, got {value!r}")
