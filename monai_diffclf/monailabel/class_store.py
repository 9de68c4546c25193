# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What this app's datastores have in common: a label is the name of a class."""

from __future__ import annotations

from abc import abstractmethod
from threading import Lock
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from .class_labels import find_label

__all__ = ["ClassStore"]


class ClassStore(Datastore):
    """A datastore that keeps class names as labels, and what is told of an image, such as its score.

    Those who derive from it name it before MONAI Label's own store, and set `classes`, the names of the classes.
    """

    classes: list[str]
    _reading = Lock()  # of all stores: segmentations may be large

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Store the class of an image; returns the label's id.

        Raises:
            HTTPException: when there is no such image, or what came names no class, or several.
        """
        try:
            with self._reading:
                name = find_label(label_filename, label_info or {}, self.classes)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return self.save_class(image_id, name, label_tag, label_info or {})

    @abstractmethod
    def save_class(self, image_id: str, name: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a class as the label of an image; returns the label's id.

        Raises:
            HTTPException: when there is no such image, or the tag is no plain name.
        """

    def label_info_of(self, name: str, label_info: dict[str, Any]) -> dict[str, Any]:
        """What is stored with a label of a class: what came with it, and the class in MONAI Label's terms."""
        return {**label_info, "label": name, "label_info": [{"name": name, "idx": self.classes.index(name)}]}
