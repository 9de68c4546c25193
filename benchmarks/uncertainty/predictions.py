"""One model's answers to one set of images, from the errors or the tables that its evaluation left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_diffclf.classification import Classification, classify_errors
from monai_diffclf.classification.draw_weights import Weighting
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.storage import StoredErrors, rows_of_images

Array = np.ndarray[Any, Any]


class Predictions:
    """One model's answers to one set of images, seed by seed.

    Args:
        keys: name of each image [n].
        labels: class of each image [n].
        groups: patient of each image [n], or its number.
        probabilities: a list of [n, K], one a seed.
        uncertainty: name to a list of [n], one a seed.
    """

    def __init__(
        self,
        keys: Array,
        labels: Array,
        groups: Array,
        probabilities: list[Array],
        uncertainty: dict[str, list[Array]] | None = None,
    ) -> None:
        self.keys, self.labels, self.groups, self.probabilities = keys, labels, groups, probabilities
        self.uncertainty = {"probability": [1 - p.max(1) for p in probabilities], **(uncertainty or {})}

    def ranked(self, name: str) -> list[Array]:
        """For each seed whether an image is answered rightly, and how unsure the answer is [n, 2]."""
        pairs = zip(self.probabilities, self.uncertainty[name], strict=True)
        return [np.column_stack([p.argmax(1) == self.labels, u]) for p, u in pairs]

    def in_order_of(self, other: Predictions, what: str) -> Predictions:
        """The same answers with the images in the order of another model's; other images are refused."""
        rows = rows_of_images(other.keys, self.keys, labels=other.labels, table_labels=self.labels, what=what)
        return Predictions(
            self.keys[rows],
            self.labels[rows],
            other.groups,
            [p[rows] for p in self.probabilities],
            {name: [u[rows] for u in each] for name, each in self.uncertainty.items() if name != "probability"},
        )

    def ensemble(self) -> Predictions:
        """The trainings as one model: the mean of their probabilities."""
        return Predictions(self.keys, self.labels, self.groups, [np.mean(self.probabilities, axis=0)])


def group_names(patients: Any) -> Array:
    """Patients, or a number an image where they are unknown."""
    names = np.asarray(patients)
    return names if (names != "").all() else np.arange(len(names)).astype(str)


def one_model(trainings: list[Predictions], what: str) -> Predictions:
    """Several trainings, each as a model of one, as seeds of one model; all in the order of the first."""
    first = trainings[0]
    aligned = [each.in_order_of(first, f"{what}, training {number}") for number, each in enumerate(trainings)]
    return Predictions(
        first.keys,
        first.labels,
        first.groups,
        [each.probabilities[0] for each in aligned],
        {name: [each.uncertainty[name][0] for each in aligned] for name in first.uncertainty if name != "probability"},
    )


def of_errors(stored: list[StoredErrors], rule: str, weighting: Weighting, temperature: float) -> Predictions:
    """What a rule makes of the stored errors of each training."""
    trainings = []
    for each in stored:
        result: Classification = classify_errors(each.errors, rule, weighting=weighting, temperature=temperature)
        trainings.append(
            Predictions(
                np.asarray(each.keys),
                each.labels.numpy(),
                group_names(each.patients),
                [result.probabilities.double().numpy()],
                {
                    name: [result.uncertainty[name].double().numpy()]
                    for name in ("vote_variance", "vote_entropy", "entropy_remaining")
                },
            )
        )
    return one_model(trainings, f"errors of the {rule}")


def of_tables(paths: list[Path]) -> Predictions:
    """Predictions that the baseline's evaluation wrote, a table a training."""
    tables = [read_predictions(path) for path in paths]
    trainings = [Predictions(t["keys"], t["labels"], group_names(t["patients"]), [t["probabilities"]]) for t in tables]
    return one_model(trainings, paths[0].name)


def halves(groups: Array, seed: int) -> tuple[Array, Array]:
    """Two random halves of the images; those of one patient are in the same half."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(groups))
    first = np.isin(groups, names[: len(names) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)
