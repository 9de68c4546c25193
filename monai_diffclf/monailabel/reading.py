# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the reading page shows of an image: its pixels, what a model makes of it, the map and the counterfactual."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..image_io.image_files import read_image_file
from .bundle_model import BundleModel, Outcome
from .counterfactual_paint import Painting, can_paint, paint
from .infer_task import describe_outcome
from .inference_queue import Job, stoppable

__all__ = ["Plane", "ReadImages"]

LONGEST = 2048  # pixels of a plane's longer side at most: no screen shows more
KEPT_BYTES = 256_000_000  # of images, maps and counterfactuals together


@dataclass(frozen=True)
class Plane:
    """One plane as it is sent: 16 bits, row by row.

    Args:
        values: [H, W, C], uint16 for an image in [0, 1], int16 for a map in [-1, 1] of its largest magnitude.
        slices: how many planes there are.
    """

    values: npt.NDArray[Any]
    slices: int


class ReadImages:
    """Images as readers see them; the last ones are kept, so that slices and maps need no second inference.

    Args:
        models: the classifiers by name.
    """

    def __init__(self, models: Mapping[str, BundleModel]) -> None:
        self.models = models
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def predict(self, path: str, name: str, job: Job) -> dict[str, Any]:
        """What a model makes of an image: `describe_outcome`, and whether it can paint a counterfactual.

        Raises:
            ValueError: when the image cannot be read.
            JobStopped: when the job was stopped.
        """
        return self._outcome(path, name, job)[1]

    def known(self, path: str, name: str) -> dict[str, Any] | None:
        """The same, if it is known already."""
        found = self._get(("outcome", name, *_stamp(path)))
        return found[1] if found else None

    def paint(self, path: str, name: str, job: Job) -> dict[str, Any]:
        """The counterfactual's figures; its pixels are asked for by `plane`.

        Raises:
            ValueError: when the image cannot be read, or the model paints none.
            JobStopped: when the job was stopped.
        """
        key = ("painting", name, *_stamp(path))
        painting: Painting | None = self._get(key)
        if painting is None:
            outcome = self._outcome(path, name, job)[0]
            model = self.models[name]
            painting = paint(model, model.read(path), outcome, job)
            self._keep(key, painting, painting.difference.nbytes)
        fields = ("target", "flipped", "drift", "drifted")
        return {field: getattr(painting, field) for field in fields}

    def plane(self, path: str, of: str, name: str, index: int | None) -> Plane | None:
        """A plane of the image, its map or its counterfactual; None for what was not asked for before.

        Args:
            path: the image file.
            of: ``image``, ``map`` or ``counterfactual``.
            name: the model of the other two.
            index: the slice of a volume, from the feet; None for the middle one.

        Raises:
            ValueError: when the image cannot be read, or has no such slice.
        """
        values: npt.NDArray[Any] | None
        if of == "map":
            found = self._get(("outcome", name, *_stamp(path)))
            values = None if found is None else _signed(found[0].map[..., None].numpy())
        else:
            values = self._pixels(path)
        if of == "counterfactual":
            painting: Painting | None = self._get(("painting", name, *_stamp(path)))
            values = None if painting is None or values is None else _changed(values, painting.difference.numpy())
        if values is None:
            return None
        slices = values.shape[2] if values.ndim == 4 else 1
        index = slices // 2 if index is None else index
        if not 0 <= index < slices:
            raise ValueError(f"slice: expected an integer from 0 to {slices - 1}, got {index}")
        return Plane(_shrink(values[:, :, index] if values.ndim == 4 else values), slices)

    def _outcome(self, path: str, name: str, job: Job) -> tuple[Outcome, dict[str, Any]]:
        key = ("outcome", name, *_stamp(path))
        found: tuple[Outcome, dict[str, Any]] | None = self._get(key)
        if found is None:
            model = self.models[name]
            with stoppable(model.network(model.device), job):
                outcome = model.classify(model.read(path))
            reply = describe_outcome(outcome, model.classes) | {"counterfactual": can_paint(model)}
            found = (outcome, reply)
            self._keep(key, found, outcome.map.nbytes)
        return found

    def _pixels(self, path: str) -> npt.NDArray[np.uint16]:
        """The image's values [H, W, C] or [H, W, D, C]."""
        key = ("pixels", *_stamp(path))
        found: npt.NDArray[np.uint16] | None = self._get(key)
        if found is None:
            found = np.rint(65535 * read_image_file(path)).astype(np.uint16)
            self._keep(key, found, found.nbytes)
        return found

    def _get(self, key: Hashable) -> Any:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        with self._lock:
            self._kept[key] = (value, size)
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)


def _stamp(path: str) -> tuple[str, int, int]:
    """A file as it is now: another one of the same name is another image."""
    status = os.stat(path)
    return path, status.st_mtime_ns, status.st_size


def _signed(values: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    largest = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))
    return np.rint(32767 * (values / largest)).astype(np.int16)


def _changed(values: npt.NDArray[Any], difference: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The image with a difference [C, *spatial] added; grey where either is."""
    change = np.moveaxis(difference, 0, -1)
    image = values.astype(np.float32) / 65535
    if change.shape[-1] == 1:
        image = image.mean(-1, keepdims=True)
    changed: npt.NDArray[np.uint16] = np.rint(65535 * np.clip(image + change, 0, 1)).astype(np.uint16)
    return changed


def _shrink(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A plane [H, W, C] of a size that screens show."""
    factor = LONGEST / max(values.shape[:2])
    if factor >= 1:
        return values
    size = [max(1, round(n * factor)) for n in values.shape[:2]]
    planes = torch.from_numpy(np.moveaxis(values, -1, 0).astype(np.float32))[None]
    smaller = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)[0]
    shrunk: npt.NDArray[Any] = np.rint(np.moveaxis(smaller.numpy(), 0, -1)).astype(values.dtype)
    return shrunk
