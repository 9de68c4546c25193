# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The strategies of active learning on the stored scores, one image at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy
from numpy.typing import NDArray

from ..uncertainty import STRATEGIES, select_images
from .active_learning import UncertaintyScoring, stored_score

__all__ = ["ChosenImage"]


class ChosenImage(Strategy):
    """Serve the image that a strategy of :func:`monai_diffclf.uncertainty.select_images` wants next.

    Diversity sees what labelled images and those in other readers' hands are like, as far as they were scored by the
    same weights. Where no image has a score yet, the first one is served.

    Args:
        scoring: what scores the images.
        name: one of `STRATEGIES`.
    """

    def __init__(self, scoring: UncertaintyScoring, name: str) -> None:
        super().__init__(STRATEGIES[name])
        self.scoring, self.name = scoring, name

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image.

        Returns:
            ``id``, and how many images are ``unscored``; None when there is none to choose.

        Raises:
            HTTPException: when the model's scores have not what the strategy needs.
        """
        made_by = self.scoring.task.model.made_by()
        names = sorted(datastore.get_unlabeled_images())
        if not names:
            return None
        scores = {name: stored_score(datastore, name, made_by) for name in names}
        usable = [name for name in names if (scores[name] or {}).get("uncertainty")]
        unscored = sum(score is None for score in scores.values())
        if not usable:
            waiting = [name for name in names if scores[name] is None]
            return {"id": (waiting or names)[0], "unscored": unscored}
        found = [scores[name] or {} for name in usable]
        known = [stored_score(datastore, name, made_by) for name in datastore.list_images() if name not in scores]
        try:
            chosen = self._choose(found, [score for score in known if score and score.get("features")])
        except ValueError as error:
            raise HTTPException(422, f"{self.name}: the scores of this model do not serve it: {error}") from error
        return {"id": usable[chosen], "unscored": unscored}

    def _choose(self, scores: list[dict[str, Any]], known: list[dict[str, Any]]) -> int:
        measures = sorted(set.intersection(*(set(score["uncertainty"]) for score in scores)))
        uncertainty = {name: [score["uncertainty"][name] for score in scores] for name in measures}
        features = centres = None
        if self.name == "diversity":
            together = np.asarray([score.get("features") for score in (*scores, *known)], dtype=float)
            together = (together - together.mean(0)) / np.maximum(together.std(0), 1e-12)
            features, centres = together[: len(scores)], _or_none(together[len(scores) :])
        ood = [score.get("ood_score") for score in scores]
        rows = select_images(
            self.name,
            1,
            uncertainty={name: values for name, values in uncertainty.items() if None not in values},
            ood_score=None if None in ood else np.asarray(ood, dtype=float),
            features=features,
            known=centres,
        )
        return int(rows[0])


def _or_none(rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
    return rows if len(rows) else None
