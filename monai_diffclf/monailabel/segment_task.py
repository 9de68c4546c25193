# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Class and map as segmentations, which viewers show that list no classifiers: 3D Slicer and OHIF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from .bundle_model import Outcome
from .image_grid import ImageGrid
from .infer_request import InferRequest
from .infer_task import DiffusionClassifierTask
from .inference_queue import Job
from .label_map import class_labels, write_labels
from .segmentation import MAP_SEGMENTS

__all__ = ["MAP_SHARE", "SegmentTask", "map_labels", "segment_tasks"]

MAP_SHARE = 0.5  # of the map's largest magnitude, from which on a pixel is in a segment


def map_labels(values: torch.Tensor) -> torch.Tensor:
    """The strong parts of a map as labels: 1 where the class explains a pixel better, 2 where its rival does.

    Args:
        values: the map [*spatial].

    Returns:
        labels [*spatial], 0 where the magnitude is below half of the largest one.

    Example:
        >>> map_labels(torch.tensor([4.0, 1.0, -1.0, -2.0, 0.0])).tolist()
        [1, 0, 0, 2, 0]
    """
    least = MAP_SHARE * values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    return (values >= least).to(torch.uint8) + 2 * (values <= -least).to(torch.uint8)


class SegmentTask(InferTask):
    """A classifier whose answer is a label map, whatever file a client asks for; the reply is the classifier's.

    Args:
        task: the classifier.
        shows: ``"class"``: value 1 + index of the class in every voxel; ``"map"``: see `map_labels`.
    """

    def __init__(self, task: DiffusionClassifierTask, shows: str) -> None:
        classes = task.model.classes
        names = classes if shows == "class" else list(MAP_SEGMENTS)
        what = "the class in every voxel" if shows == "class" else "where the image speaks for the class and against it"
        config = {name: value for name, value in task.config().items() if name not in ("result_extension", "overlay")}
        labels = {name: value for value, name in enumerate(names, 1)}
        super().__init__(InferType.SEGMENTATION, labels, task.dimension, f"{what}: {task.description}", config)
        self.task, self.shows = task, shows

    def is_valid(self) -> bool:
        """Whether the task can be offered."""
        return True

    def __call__(
        self, request: Mapping[str, Any], job: Job | None = None, want_file: bool = True
    ) -> tuple[str, dict[str, Any]]:
        """Classify an image; see `DiffusionClassifierTask`."""
        file, reply = self.task({**request, "result_extension": ".nrrd"}, job, want_file, write=self._write)
        # By these names 3D Slicer finds the segments of the values 1, 2, ...
        return file, reply | {"label_names": self.labels}

    def _write(self, outcome: Outcome, grid: ImageGrid, wanted: InferRequest) -> Path:
        labels = class_labels(outcome.predicted, outcome.map) if self.shows == "class" else map_labels(outcome.map)
        return write_labels(labels, grid, compress=wanted.result_compress)


def segment_tasks(tasks: Mapping[str, DiffusionClassifierTask]) -> dict[str, InferTask]:
    """Two segmentations for each classifier: ``NAME_class`` and ``NAME_map``."""
    return {f"{name}_{shows}": SegmentTask(task, shows) for name, task in tasks.items() for shows in ("class", "map")}
