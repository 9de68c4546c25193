# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is known of images that lie elsewhere, such as their scores: a JSON file for each, in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from threading import RLock
from typing import Any

from ..storage.atomic_file import replace_text
from .names import check_name

__all__ = ["RemoteInfo"]


class RemoteInfo:
    """What is known of images, by their ids: ``FOLDER/ID.json``, replaced as a whole, each read once.

    Args:
        folder: the folder, which nobody else writes to; made when the first thing is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = RLock()
        self._known: dict[str, dict[str, Any]] = {}

    def get(self, image: str) -> dict[str, Any]:
        """What is known of an image; nothing where its file cannot be read.

        Raises:
            ValueError: when the id is no plain name.
        """
        path = self._path(image)
        with self._guard:
            if image not in self._known:
                try:
                    self._known[image] = dict(json.loads(path.read_text(encoding="utf-8")))
                except (OSError, ValueError, TypeError):
                    self._known[image] = {}
            return dict(self._known[image])

    def update(self, image: str, more: dict[str, Any]) -> None:
        """Add to what is known of an image.

        Raises:
            ValueError: when the id is no plain name.
        """
        with self._guard:
            self.replace(image, {**self.get(image), **more})

    def replace(self, image: str, info: dict[str, Any]) -> None:
        """Store what is known of an image, in the place of what was.

        Raises:
            ValueError: when the id is no plain name.
        """
        text = json.dumps(info)
        with self._guard:
            replace_text(self._path(image), text)
            self._known[image] = json.loads(text)

    def _path(self, image: str) -> Path:
        return self.folder / check_name(f"{image}.json", "image")
