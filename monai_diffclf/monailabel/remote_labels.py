# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Labels of images that lie elsewhere: a JSON file for each, in a folder for each tag."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import RLock
from typing import Any

from ..storage.atomic_file import replace_text
from .names import check_name

__all__ = ["RemoteLabels"]


class RemoteLabels:
    """The classes that readers have given to images, by the images' ids.

    A label is the file ``FOLDER/TAG/ID.json``: ``{"label": NAME, "info": {...}}``, replaced as a whole. Ids and tags
    are plain names, see :func:`monai_diffclf.monailabel.names.check_name`.

    Args:
        folder: the folder; made when the first label is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = RLock()

    def save(self, image: str, name: str, tag: str, info: dict[str, Any]) -> Path:
        """Store the label of an image, in the place of one with the same tag.

        Raises:
            ValueError: when id or tag is no plain name.
        """
        path = self._path(image, tag)
        with self._guard:
            replace_text(path, json.dumps({"label": name, "info": {"ts": int(time.time()), **info, "label": name}}))
        return path

    def find(self, image: str, tag: str) -> Path | None:
        """The file of a label; None where there is none."""
        try:
            path = self._path(image, tag)
        except ValueError:
            return None
        return path if path.is_file() and not path.is_symlink() else None

    def info(self, image: str, tag: str) -> dict[str, Any]:
        """What is known of a label; nothing where there is none, or its file cannot be read."""
        path = self.find(image, tag)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["info"] if path else {}
            return dict(found)
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def update(self, image: str, tag: str, more: dict[str, Any]) -> None:
        """Add to what is known of a label.

        Raises:
            LookupError: when there is none.
        """
        with self._guard:
            known = self.info(image, tag)
            if not known:
                raise LookupError(f"label: there is none of {image!r} with the tag {tag!r}")
            self.save(image, str(known["label"]), tag, {**known, **more})

    def remove(self, image: str, tag: str) -> None:
        """Remove a label, if it is there."""
        with self._guard:
            if path := self.find(image, tag):
                path.unlink()

    def tags(self, image: str) -> list[str]:
        """The tags under which an image has a label."""
        return [tag for tag in self._tags() if self.find(image, tag)]

    def labelled(self, tag: str) -> set[str]:
        """The ids of the images with a label of this tag."""
        folder = self.folder / tag
        return {path.stem for path in folder.glob("*.json")} if tag in self._tags() else set()

    def counts(self) -> dict[str, int]:
        """Number of labels of each tag that has any."""
        return {tag: number for tag in self._tags() if (number := len(self.labelled(tag)))}

    def _tags(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []

    def _path(self, image: str, tag: str) -> Path:
        return self.folder / check_name(tag, "tag") / check_name(f"{image}.json", "image")
