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

from .bundle_model import BundleModel, Outcome
from .counterfactual_paint import Painting, can_paint, paint
from .infer_task import describe_outcome
from .inference_queue import Job, stoppable
from .shown_image import FULL, ShownImage, read_shown, shrink

__all__ = ["Plane", "ReadImages"]

LONGEST = 2048  # pixels of a plane's longer side at most: no screen shows more
KEPT_BYTES = 256_000_000  # of images, maps and counterfactuals together


@dataclass(frozen=True)
class Plane:
    """One plane as it is sent: 16 bits, row by row.

    Args:
        values: [H, W, C], uint16 for an image in [0, 1], int16 for a map in [-1, 1] of its largest magnitude.
        slices: how many planes there are.
        spacing: height and width of a pixel, of which only the ratio counts.
        window: values that are shown black and white at first, in [0, 1].
    """

    values: npt.NDArray[Any]
    slices: int
    spacing: tuple[float, float] = (1.0, 1.0)
    window: tuple[float, float] = (0.0, 1.0)


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
        shown = self._shown(path, name)
        values: npt.NDArray[Any] | None = shown.values
        if of == "map":
            found = self._get(("outcome", name, *_stamp(path)))
            values = None if found is None else _signed(shown.upright(found[0].map.numpy()))[..., None]
        if of == "counterfactual":
            painting: Painting | None = self._get(("painting", name, *_stamp(path)))
            values = None if painting is None else _changed(shown, painting.difference.numpy())
        if values is None:
            return None
        slices = values.shape[2] if values.ndim == 4 else 1
        index = slices // 2 if index is None else index
        if not 0 <= index < slices:
            raise ValueError(f"slice: expected an integer from 0 to {slices - 1}, got {index}")
        plane = shrink(values[:, :, index] if values.ndim == 4 else values, LONGEST)
        return Plane(plane, slices, shown.spacing, shown.window)

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

    def _shown(self, path: str, name: str) -> ShownImage:
        """The image as readers of a model see it: volumes in the planes into which its map is brought."""
        model = self.models.get(name)
        volumes = model is not None and model.spatial_dims == 3
        window = model.window if model is not None and volumes else None
        key = ("shown", volumes, window, *_stamp(path))
        found: ShownImage | None = self._get(key)
        if found is None:
            found = read_shown(path, volumes=volumes, window=window)
            self._keep(key, found, found.values.nbytes)
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


def _stamp(path: str) -> tuple[Hashable, ...]:
    """A file, or a folder's files, as they are now: another one of the same name is another image."""
    files = sorted(os.scandir(path), key=lambda entry: entry.name) if os.path.isdir(path) else []
    found = [(entry.name, entry.stat()) for entry in files] or [("", os.stat(path))]
    return (path, *((name, status.st_mtime_ns, status.st_size) for name, status in found))


def _signed(values: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    largest = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))
    return np.rint(32767 * (values / largest)).astype(np.int16)


def _changed(shown: ShownImage, difference: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The image with a difference [C, *spatial] added; grey where either is."""
    change = np.moveaxis(shown.upright(difference), 0, -1)
    image = shown.values.astype(np.float32) / FULL
    if change.shape[-1] == 1:
        image = image.mean(-1, keepdims=True)
    changed: npt.NDArray[np.uint16] = np.rint(FULL * np.clip(image + change, 0, 1)).astype(np.uint16)
    return changed
