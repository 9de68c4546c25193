# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The inference task: an image file in, what a diffusion classifier knows of it out."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monai.utils import CommonKeys
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ..classification.vote_statistics import of_final_probabilities
from ..keys import OutputKeys
from .bundle_model import BundleModel, Outcome
from .image_grid import ImageGrid
from .infer_request import RESULT_EXTENSIONS, InferRequest, find_devices, parse_request
from .inference_queue import Job, stoppable
from .label_map import write_class
from .map_file import PNG_ZERO, overlay_png, write_map

__all__ = ["DiffusionClassifierTask", "describe_outcome"]

logger = logging.getLogger(__name__)


class DiffusionClassifierTask(InferTask):
    """Classify one image with a bundle.

    A request that cannot be served is answered with status 422 and a JSON reply ``{"detail": ...}`` that says what was
    expected (404 for an image that the datastore does not have).

    Args:
        model: the bundle.
    """

    def __init__(self, model: BundleModel) -> None:
        rules = [model.rule, *(rule for rule in ("vote", "mean") if rule != model.rule)]
        config = {
            "device": list(dict.fromkeys([model.device, *find_devices()])),
            "num_draws": model.num_draws,
            "rule": rules,
            "seed": model.seed,
            "result_extension": list(RESULT_EXTENSIONS),
            "overlay": False,
        }
        labels = {name: index for index, name in enumerate(model.classes)}
        super().__init__(InferType.CLASSIFICATION, labels, model.spatial_dims, model.description, config)
        self.model = model

    def is_valid(self) -> bool:
        """Whether the task can be offered: the bundle was loaded when the app started."""
        return True

    def __call__(
        self, request: Mapping[str, Any], job: Job | None = None, want_file: bool = True
    ) -> tuple[str, dict[str, Any]]:
        """Classify the image at the path ``request["image"]``.

        Args:
            request: path and settings.
            job: what may stop the work.
            want_file: whether to write the map.

        Returns:
            The file of the map (empty if none is wanted), and the reply; see docs/monailabel.md for its keys.

        Raises:
            HTTPException: when the request or the image is not as expected.
            JobStopped: when the job was stopped.
        """
        job = job or Job()
        start = time.perf_counter()
        path = str(request.get("image") or "")
        if not path:
            raise HTTPException(404, "image: expected the id of an image in the datastore, or an uploaded file")
        try:
            wanted = parse_request(request)
            if wanted.result_extension == ".png" and self.dimension != 2:
                raise ValueError("result_extension: expected .nii.gz or .nii for a volume, got .png")
            image = self.model.read(path)
            grid = self.model.grid(path)
        except (ValueError, TypeError) as error:
            logger.info("refused: %s", error)
            raise HTTPException(422, str(error).replace(path, os.path.basename(path))) from error
        job.check()
        read = time.perf_counter()
        with stoppable(self.model.network(wanted.device or self.model.device), job):
            outcome = self.model.classify(
                image, num_draws=wanted.num_draws, rule=wanted.rule, seed=wanted.seed, device=wanted.device
            )
        inferred = time.perf_counter()
        reply = describe_outcome(outcome, self.model.classes)
        reply["map"] |= {"affine": grid.affine.tolist(), "extension": wanted.result_extension}
        if wanted.result_extension == ".png":
            reply["map"]["zero"] = PNG_ZERO
        self._add_overlay(reply, path, outcome, wanted)
        file = self._write(outcome, grid, wanted.result_extension) if want_file else ""
        end = time.perf_counter()
        latencies = {"pre": read - start, "infer": inferred - read, "write": end - inferred, "total": end - start}
        reply["label_names"] = self.labels
        reply["latencies"] = {name: round(seconds, 3) for name, seconds in latencies.items()}
        reply["ignored"] = list(wanted.ignored)
        return str(file), reply

    def score(self, path: str | Path, job: Job | None = None) -> dict[str, Any]:
        """What is stored of an image to rank it by: label, probabilities, vote share, uncertainty, warnings.

        Raises:
            ValueError: when the image cannot be read.
            JobStopped: when the job was stopped.
        """
        image = self.model.read(path)
        with stoppable(self.model.network(self.model.device), job or Job()):
            reply = describe_outcome(self.model.classify(image), self.model.classes)
        return {key: reply[key] for key in ("label", "probabilities", "vote_share", "uncertainty", "warnings")}

    @staticmethod
    def _write(outcome: Outcome, grid: ImageGrid, extension: str) -> str:
        try:
            if extension == ".nrrd":
                return str(write_class(outcome.predicted, outcome.map, grid))
            return str(write_map(outcome.map, grid, extension))
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    @staticmethod
    def _add_overlay(reply: dict[str, Any], path: str, outcome: Outcome, wanted: InferRequest) -> None:
        if not wanted.overlay:
            return
        if outcome.map.ndim != 2:
            reply["warnings"].append("overlay: there is none of a volume")
            return
        reply["overlay"] = overlay_png(path, outcome.map)


def describe_outcome(outcome: Outcome, classes: list[str]) -> dict[str, Any]:
    """An outcome in plain numbers and class names, ready for JSON.

    ``prediction`` has the form in which MONAI Label's own classifiers answer. ``probability_margin`` and
    ``probability_entropy`` are those of the final probabilities.
    """
    item, inferer = outcome.item, outcome.inferer
    final = torch.as_tensor(item[CommonKeys.PRED]).cpu()
    probabilities = _by_class(final, classes)
    uncertainty = of_final_probabilities(item[OutputKeys.UNCERTAINTY], final)
    calibrated = not torch.equal(final.float(), outcome.before.float())
    reply: dict[str, Any] = {
        "label": classes[outcome.predicted],
        "prediction": [{"idx": i, "label": name, "score": probabilities[name]} for i, name in enumerate(classes)],
        "probabilities": probabilities,
        "calibrated": calibrated,
        OutputKeys.VOTE_SHARE.value: _by_class(item[OutputKeys.VOTE_SHARE], classes),
        OutputKeys.UNCERTAINTY.value: {name: _number(value) for name, value in uncertainty.items()},
    }
    if calibrated:
        reply["probabilities_before_calibration"] = _by_class(outcome.before, classes)
    if OutputKeys.PREDICTION_SET in item:
        inside = zip(classes, item[OutputKeys.PREDICTION_SET], strict=True)
        reply[OutputKeys.PREDICTION_SET.value] = [name for name, is_in in inside if is_in]
    ood = (OutputKeys.OOD_SCORE.value, OutputKeys.OOD_P_VALUE.value)
    reply |= {name: _number(item[name]) for name in ood if name in item}
    return reply | {
        OutputKeys.NETWORK_EVALUATIONS.value: int(item[OutputKeys.NETWORK_EVALUATIONS]),
        "num_draws": inferer.num_draws,
        "rule": inferer.rule,
        "seed": inferer.seed,
        "device": outcome.device,
        "map": {
            "class": classes[outcome.predicted],
            "rival": classes[outcome.rival],
            "max_abs": float(outcome.map.abs().max()),
            "size": list(outcome.map.shape),
        },
        "warnings": list(outcome.warnings),
    }


def _by_class(values: torch.Tensor, classes: list[str]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(classes, values, strict=True)}


def _number(value: Any) -> float | None:
    """A float; None for what JSON cannot hold."""
    number = float(value)
    return number if math.isfinite(number) else None
