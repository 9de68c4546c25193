# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which image to look at next: scores of the unlabelled images, and the strategy that serves the most uncertain one."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from ..classification import SURE_WHEN_LARGE
from ..keys import UncertaintyKeys, current_name
from .infer_task import DiffusionClassifierTask
from .inference_queue import InferenceQueue, Job

__all__ = ["SCORE", "MostUncertain", "UncertaintyScoring", "stored_score"]

SCORE = "diffusion_classifier"  # key of an image's info in the datastore
DEFAULT_MEASURE = UncertaintyKeys.PROBABILITY_ENTROPY.value

logger = logging.getLogger(__name__)


class UncertaintyScoring(ScoringMethod):
    """Classify every unlabelled image that has no score of this very bundle yet, and store its uncertainty.

    Stored in the image's info under ``diffusion_classifier``: ``label``, ``probabilities``, ``vote_share``,
    ``uncertainty`` (all measures) and ``made_by`` (a hash of the bundle); ``error`` for an image that cannot be read.

    Args:
        task: what classifies.
        queue: where it does so, image by image, so that requests need not wait for all of them.
    """

    def __init__(self, task: DiffusionClassifierTask, queue: InferenceQueue) -> None:
        super().__init__("Uncertainty of the diffusion classifier, for the strategy most_uncertain")
        self.task, self.queue = task, queue

    def unscored(self, datastore: Datastore) -> list[str]:
        """The unlabelled images without a score of this bundle."""
        made_by = self.task.model.made_by()
        return [
            name for name in sorted(datastore.get_unlabeled_images()) if stored_score(datastore, name, made_by) is None
        ]

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, go_on: Callable[[], bool] = lambda: True
    ) -> dict[str, Any]:
        """Score the images.

        Args:
            request: of no meaning here.
            datastore: the images.
            go_on: asked before each image.

        Returns:
            How many were ``scored``, had a score already (``kept``) or could not be read (``failed``).
        """
        start, made_by = time.time(), self.task.model.made_by()
        waiting = self.unscored(datastore)
        kept, scored, failed = len(datastore.get_unlabeled_images()) - len(waiting), 0, 0
        for name in waiting:
            if not go_on():
                break
            try:
                path = datastore.get_image_uri(name)
            except HTTPException as error:  # a DICOMweb server that does not give it now may do so another time
                logger.warning("%s cannot be scored: %s", name, error.detail)
                failed += 1
                continue
            if not path:  # removed since
                continue
            try:
                score = self.queue.submit(functools.partial(self._score, path))[1].result()
                scored += 1
            except ValueError as error:
                logger.warning("%s cannot be scored: %s", name, error)
                score, failed = {"error": str(error).replace(path, Path(path).name)}, failed + 1
            if name in datastore.list_images():
                datastore.update_image_info(name, {SCORE: score | {"made_by": made_by, "ts": int(time.time())}})
        seconds = round(time.time() - start, 1)
        return {"scored": scored, "kept": kept, "failed": failed, "seconds": seconds}

    def _score(self, path: str, job: Job) -> dict[str, Any]:
        return self.task.score(path, job)


class MostUncertain(Strategy):
    """Serve the unlabelled image with the most uncertain score; request parameter ``measure`` chooses the measure.

    Where no image has a score yet, the first unlabelled one is served, and ``uncertainty`` is null. ``unscored`` says
    how many wait for their score.

    Args:
        scoring: what scores the images.
    """

    def __init__(self, scoring: UncertaintyScoring) -> None:
        super().__init__("The most uncertain image that has no label yet")
        self.scoring = scoring

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image.

        Returns:
            ``id``, ``measure``, ``uncertainty`` and ``unscored``; None when every image has its label.

        Raises:
            HTTPException: when there is no such measure.
        """
        made_by = self.scoring.task.model.made_by()
        names = sorted(datastore.get_unlabeled_images())
        if not names:
            return None
        asked = str(request.get("measure") or DEFAULT_MEASURE)
        scores = {name: stored_score(datastore, name, made_by) for name in names}
        measured = {name: score["uncertainty"] for name, score in scores.items() if score and "uncertainty" in score}
        known = next(iter(measured.values()), {asked: None})
        measure = current_name(asked, known)
        if measure not in known:
            raise HTTPException(422, f"measure: expected one of {sorted(known)}, got {measure!r}")
        sign = -1 if measure in SURE_WHEN_LARGE else 1
        waiting = [name for name in names if scores[name] is None]
        readable = [name for name in names if name in measured or name in waiting]
        chosen = max(measured, key=lambda name: sign * measured[name][measure]) if measured else (readable or names)[0]
        uncertainty = measured[chosen][measure] if chosen in measured else None
        return {"id": chosen, "measure": measure, "uncertainty": uncertainty, "unscored": len(waiting)}


def stored_score(datastore: Datastore, name: str, made_by: str) -> dict[str, Any] | None:
    """The stored score of an image, unless another bundle made it."""
    score = datastore.get_image_info(name).get(SCORE)
    return score if isinstance(score, dict) and score.get("made_by") == made_by else None
