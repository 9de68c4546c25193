# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A folder of images as MONAI Label's datastore, with class names as labels."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any

from fastapi import HTTPException
from monailabel.config import Settings, settings
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from pydantic import ValidationError

from ..data.mask_names import masks_beside
from ..image_io.dicom_volume import holds_slices
from ..storage.atomic_file import replace_text, replaced
from .class_labels import find_label
from .class_store import ClassStore
from .labelled_images import DAMAGED
from .names import check_name, resolve_inside
from .studies_folder import (
    LABELS,
    MASKS,
    STORE,
    check_folder,
    drop_unsafe_entries,
    list_studies,
    name_images,
)
from .uploads import IMAGE_SUFFIXES, split_suffix

__all__ = ["ClassLabelStore"]

logger = logging.getLogger(__name__)

ALL_IMAGES = ("*",)


class ClassLabelStore(ClassStore, LocalDatastore):
    """MONAI Label's store of a folder, in which a label is the name of a class.

    - A label may come as ``label_info``, ``[{"name": ..., "idx": ...}]``, as a JSON file ``{"label": name or index}``,
      or as a segmentation with one segment. Stored are the file ``labels/TAG/ID.json``, ``{"label": name}``, and the
      same in the label's info.
    - It lists the images of the folder itself, by their content where the name has no suffix, unless
      MONAI_LABEL_DATASTORE_FILE_EXT names suffixes. What it leaves out, it counts.
    - An image's id is its file name without suffix; where two files would have the same id, the whole file name.
    - For a model of volumes a folder of DICOM slices is an image, called by its name, and so is a ZIP file of them.
    - No path is read or written that leads out of the folder.

    Args:
        folder: the images.
        classes: names of the classes.
        volumes: whether a model reads volumes.

    Raises:
        ValueError: when a file or folder of the store itself is a link that leads out of it.
    """

    def __init__(self, folder: str, classes: Sequence[str], *, volumes: bool = False) -> None:
        extensions = list(settings.MONAI_LABEL_DATASTORE_FILE_EXT)
        if extensions == Settings.model_fields["MONAI_LABEL_DATASTORE_FILE_EXT"].default:
            extensions = list(ALL_IMAGES)
        self.classes, self.volumes = list(classes), volumes
        self.folder = Path(os.path.realpath(folder))
        self.left_out: dict[str, list[str]] = {}
        self._guard = RLock()  # the server's threads and the one that watches the folder
        self._checked: float | None = None
        check_folder(self.folder)
        super().__init__(
            str(self.folder),
            extensions=extensions,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def refresh(self) -> None:
        """Look at the folder anew."""
        with self._guard:
            super().refresh()

    def status(self) -> dict[str, Any]:
        """MONAI Label's figures, and how many files are ``left_out``."""
        with self._guard:
            return {**super().status(), "left_out": sum(map(len, self.left_out.values()))}

    def json(self) -> Any:
        """All that is stored, as JSON."""
        with self._guard:
            return super().json()

    def list_images(self) -> list[str]:
        """The ids of all images."""
        with self._guard:
            return list(super().list_images())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images without a final label."""
        with self._guard:
            return list(super().get_unlabeled_images(label_tag, labels))

    def get_image_uri(self, image_id: str) -> str:
        """The path of an image, of a series its folder; empty if there is none in the folder."""
        path = self._inside(super().get_image_uri(image_id))
        # A link may have been put into it since it was listed.
        return "" if os.path.isdir(path) and not (self.volumes and holds_slices(path)) else path

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The path of a label; empty if there is none in the folder."""
        return self._inside(super().get_label_uri(label_id, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """The labelled images and their labels, as far as they lie in the folder."""
        with self._guard:
            pairs = super().datalist(full_path=True)
        return [pair for pair in pairs if all(map(self._inside, pair.values()))]

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Store an image, in the place of one that has the same id and kind.

        Raises:
            HTTPException: when the id belongs to a file of another kind, or is called as the mask of an image is.
        """
        suffix = split_suffix(Path(image_filename).name, IMAGE_SUFFIXES)[1]
        with self._guard:
            self.refresh()
            present = self._datastore.objects.get(image_id)
            ext = present.image.ext if present else suffix
            name = image_id + ext
            taken = present is None and os.path.lexists(self.folder / name)
            if taken or not (image_id + ext).lower().endswith(suffix):
                raise HTTPException(409, f"image: the id {image_id!r} belongs to another file; choose another id")
            check_name(name, "image")
            if present is None and (image := masks_beside([*self._file_names(), name]).get(name)):
                what = f"{image_id!r} looks like the mask of the image {image!r}"
                raise HTTPException(422, f"image: {what}; choose another id if it is an image")
            with replaced(self.folder / name, shared=True) as temporary:
                shutil.copyfile(image_filename, temporary)
            info = {**image_info, "ts": int(time.time()), "name": name}
            # A score, which is in the info, was that of the former image; 3D Slicer sends the same one again and again.
            labels = present.labels if present else {}
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=ext), labels=labels)
            self._update_datastore_file()
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image with its labels.

        Raises:
            HTTPException: for a folder of slices.
        """
        with self._guard:
            if Path(self.get_image_uri(image_id)).is_dir():
                raise HTTPException(422, f"image: {image_id!r} is a folder of slices; remove it by hand")
            super().remove_image(image_id)

    def save_class(self, image_id: str, name: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a class as the label of an image.

        Raises:
            HTTPException: when there is no such image, or the tag is no plain name.
        """
        try:
            tag, file_name = check_name(label_tag, "tag"), check_name(f"{image_id}.json", "image")
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        info = self.label_info_of(name, label_info)
        with self._guard, tempfile.TemporaryDirectory() as folder:
            self.refresh()
            if image_id not in self._datastore.objects:
                raise HTTPException(404, f"image: expected the id of an image in the datastore, got {image_id!r}")
            target = self.folder / LABELS / tag / file_name
            if not self._inside(str(target)) or target.is_symlink() or target.parent.is_symlink():
                raise HTTPException(422, f"tag: {label_tag!r} leads out of the server's folders")
            file = Path(folder, "label.json")
            file.write_text(json.dumps({"label": name}))
            return str(LocalDatastore.save_label(self, image_id, str(file), label_tag, info))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label."""
        with self._guard:
            super().remove_label(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image."""
        with self._guard:
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label."""
        with self._guard:
            super().update_label_info(label_id, label_tag, info)

    def _on_any_event(self, event: Any) -> None:
        """Files came or went; the store's own do so whenever it writes."""
        name = os.path.basename(event.src_path)
        if not name.startswith(".") and name != STORE:
            self.refresh()

    def _inside(self, path: str) -> str:
        try:
            return str(resolve_inside(path, [self.folder], "path")) if path else ""
        except ValueError as error:
            logger.warning("refused: %s", error)
            return ""

    def _to_id(self, file: str) -> tuple[str, str]:
        return split_suffix(file, (".json",)) if file.lower().endswith(".json") else (file, "")

    def _add_non_existing_images(self) -> int:
        """List new files. What MONAI Label does here gives files of the same stem the same id."""
        self._init_from_datastore_file()
        found, left_out = list_studies(self.folder, self._extensions, volumes=self.volumes)
        objects = self._datastore.objects
        known = self._file_names()
        dropped = self._drop_masks(left_out)
        new = name_images([name for name in found if name not in known], set(objects))
        for image_id, (name, ext) in new.items():
            info = {"ts": int(time.time()), "name": name}
            objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=ext))
        unnamed = set(found) - known - {name for name, _ in new.values()}
        left_out |= {"without an id of their own": sorted(unnamed)} if unnamed else {}
        if left_out != self.left_out:
            for reason, names in left_out.items():
                some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                logger.warning("%s: left out %d %s: %s", self.folder, len(names), reason, some)
            self.left_out = left_out
        return len(new) + dropped

    def _file_names(self) -> set[str]:
        return {image_id + entry.image.ext for image_id, entry in self._datastore.objects.items()}

    def _drop_masks(self, left_out: dict[str, list[str]]) -> int:
        """Remove masks that were listed before their images came; one with a label is an image to whoever gave it."""
        objects, masks = self._datastore.objects, set(left_out.pop(MASKS, []))
        listed = {image_id: image_id + entry.image.ext for image_id, entry in objects.items()}
        labelled = {name for image_id, name in listed.items() if name in masks and objects[image_id].labels}
        gone = [image_id for image_id, name in listed.items() if name in masks - labelled]
        for image_id in gone:
            del objects[image_id]
        if masks - labelled:
            left_out[MASKS] = sorted(masks - labelled)
        return len(gone)

    def _add_non_existing_labels(self, tag: str) -> int:
        """List labels that lie there, with the class that each file names: the store's own file may have been lost."""
        added = int(super()._add_non_existing_labels(tag))
        for image_id, entry in self._datastore.objects.items() if added else ():
            label = entry.labels.get(tag)
            file = self.get_label_uri(image_id, tag)
            if label is not None and "label" not in label.info and file.endswith(".json"):
                with suppress(ValueError, OSError):
                    label.info.update(self.label_info_of(find_label(file, {}, self.classes), {}))
        return added

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read what is stored; it may have come with the folder, from anyone."""
        with self._guard:
            try:
                super()._init_from_datastore_file(throw_exception)
            except ValueError as error:
                file, why = self._datastore_config_path, _first_line(error)
                raise ValueError(
                    f"studies: {file} is no datastore of MONAI Label, or damaged: {why}; {DAMAGED}"
                ) from error
            if self._config_ts != self._checked:
                drop_unsafe_entries(self._datastore)
                self._checked = self._config_ts

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Replace the file as a whole, so that a crash leaves the old one or the new one."""
        with self._guard:
            self._ignore_event_config = True
            content = self._datastore.model_dump(exclude={"base_path"})
            replace_text(self._datastore_config_path, json.dumps(content, indent=2, default=str))
            self._config_ts = self._checked = os.stat(self._datastore_config_path).st_mtime


def _first_line(error: ValueError) -> str:
    """The first thing that is wrong; pydantic writes a page of them."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
