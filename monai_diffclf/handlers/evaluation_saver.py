# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From an evaluator's outputs to the table of predictions and the file of results."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from monai.utils import CommonKeys
from numpy.typing import NDArray

from .._patients import known_patient
from .._text import csv_texts, from_csv_text
from ..data.table_rows import read_rows
from ..metrics import choose_threshold, classification_metrics
from ..metrics.classification import called_positive
from ..storage.atomic_file import replace_text
from .confusion import write_confusion
from .dataset_collector import Collected, DatasetCollector
from .earlier_results import begin_evaluation
from .results import Metrics, comparable, git_commit, read_results, write_results


class EvaluationSaver(DatasetCollector):
    """Ignite handler: when an evaluation is complete, write each image's prediction, and the metrics of all.

    The engine's output holds ``pred`` (probabilities [K]) for each image, its batch ``label`` (class number), ``key``
    (its name) and, where known, ``patient``. If any is known, intervals come from resampling patients; an image of an
    unknown one is drawn by itself.

    Args:
        predictions_path: CSV file to write, with ``{seed}`` in its name: predictions of other seeds are found by it,
            and the summary over seeds is taken from the scores of all seeds that the results name.
        results_path: JSON file to merge the metrics into, see :func:`write_results`; None writes predictions only.
        split: name of the split.
        model: name of the model.
        data: which data set, in words.
        seed: seed of the training.
        threshold: for two classes: a number on the probability of class 1; or ``"balanced_accuracy"``, ``"accuracy"``,
            ``"f1"`` to choose the best on these images (on validation images only); or ``"validation"``, the one chosen
            there by an earlier evaluation of the same model and seed.
        num_draws: noise draws for each image, None for a model without.
        network_evaluations: forward passes for each image.
        commit_root: folder whose git commit is recorded.
        commit: what is recorded instead, such as the commit that made predictions read from a table.
        num_resamples: bootstrap resamples.
        classes: names of the classes in the order of their labels: the table's columns are called by them, and the
            confusion matrix is written beside it (``..._confusion.csv`` and ``.png``). None numbers the columns.
        facts: what else to record, such as weights and images, see :func:`monai_diffclf.handlers.judged_facts`.

    Raises:
        ValueError: if ``{seed}`` is missing in the name, or no threshold was chosen on validation images yet.
    """

    def __init__(
        self,
        predictions_path: str | os.PathLike[str],
        results_path: str | os.PathLike[str] | None = None,
        *,
        split: str,
        model: str,
        data: str,
        seed: int,
        threshold: float | str = 0.5,
        num_draws: int | None = None,
        network_evaluations: float | None = None,
        commit_root: str | os.PathLike[str] = ".",
        commit: str | None = None,
        num_resamples: int = 2000,
        classes: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(CommonKeys.PRED)
        self.template = os.fspath(predictions_path)
        if "{seed}" not in Path(self.template).name:
            raise ValueError(f"predictions_path: expected a file name with {{seed}} in it, got {self.template!r}.")
        self.results_path = results_path
        self.split, self.model, self.data, self.seed = split, model, data, int(seed)
        self.threshold = threshold
        self.num_draws, self.network_evaluations = num_draws, network_evaluations
        self.commit_root, self.commit, self.num_resamples = commit_root, commit, num_resamples
        self.classes, self.facts = None if classes is None else [str(name) for name in classes], dict(facts or {})

    def begin(self, engine: Engine) -> None:
        """Remove what an evaluation of something else left."""
        begin_evaluation(
            Path(self.template).parent,
            self.files,
            kind=self.model,
            split=self.split,
            seed=self.seed,
            models=[self.model],
            results_path=self.results_path,
            facts=self.facts,
            made_by={"num_draws": self.num_draws},
        )

    @property
    def files(self) -> list[Path]:
        """What is written beside the results: the table, and with names of the classes the confusion matrix."""
        table = self._path(self.seed)
        if self.classes is None:
            return [table]
        return [table, *(table.with_name(f"{table.stem}_confusion{suffix}") for suffix in (".csv", ".png"))]

    def write(self, engine: Engine, collected: Collected) -> None:
        """Write the predictions and the results of an evaluation."""
        probabilities = collected.values.astype(np.float64)
        self.save(collected.keys, collected.patients, collected.labels, probabilities)

    def save(
        self,
        keys: Sequence[str],
        patients: Sequence[str],
        labels: NDArray[Any],
        probabilities: NDArray[Any],
        *,
        further: Metrics | None = None,
    ) -> None:
        """Write the predictions and the results.

        Args:
            keys: name of each image [N].
            patients: patient of each image, empty where unknown [N].
            labels: class of each image [N].
            probabilities: of each class [N, K].
            further: metrics of this seed that do not follow from the probabilities; over several seeds value and bounds
                are averaged.
        """
        path = self._path(self.seed)
        write_predictions(
            path, keys=keys, patients=patients, labels=labels, probabilities=probabilities, classes=self.classes
        )
        # The scores as others will read them: results can be recomputed from the table to the last digit.
        own = read_predictions(path)
        threshold = self._choose(own) if own["probabilities"].shape[1] == 2 else 0.5
        if self.classes is not None:
            self._write_confusion(path, own, threshold)
        if self.results_path is None:
            return
        options: dict[str, Any] = {"num_resamples": self.num_resamples, "groups": own["patients"]}
        entry: dict[str, Any] = {"data": self.data, "num_images": len(keys), "num_draws": self.num_draws}
        extra = {name: dict(metric) for name, metric in (further or {}).items()}
        metrics = classification_metrics(own["labels"], own["probabilities"], threshold=threshold, **options)
        metrics |= extra
        others = self._other_seeds(own, {**metrics, **entry, **self.facts})
        summary = None
        if others is not None:
            scores = [own["probabilities"], *(table["probabilities"] for table, _ in others)]
            thresholds = [threshold, *(float(recorded["threshold"]) for _, recorded in others)]
            summary = classification_metrics(own["labels"], scores, threshold=thresholds, **options)
            for name, mine in extra.items():
                seeds = [mine, *(recorded[name] for _, recorded in others)]
                summary[name] = {bound: float(np.mean([seed[bound] for seed in seeds])) for bound in mine}
        resampled = "patients" if (own["patients"] != "").any() else "images"
        write_results(
            self.results_path,
            split=self.split,
            model=self.model,
            metrics=metrics,
            summary=summary,
            seed=self.seed,
            network_evaluations=self.network_evaluations,
            commit=git_commit(self.commit_root) if self.commit is None else self.commit,
            extra={"threshold": threshold, "resampled": resampled, **self.facts},
            **entry,
        )

    def _write_confusion(self, path: Path, own: Mapping[str, Any], threshold: float) -> None:
        probabilities, classes = own["probabilities"], self.classes or []
        two = probabilities.shape[1] == 2
        predicted = called_positive(probabilities[:, 1], threshold) if two else probabilities.argmax(1)
        title = f"{self.model}, {self.split}, seed {self.seed}" + (f", threshold {threshold:.3g}" if two else "")
        write_confusion(path.with_name(f"{path.stem}_confusion.csv"), own["labels"], predicted, classes, title=title)

    def _path(self, seed: int) -> Path:
        return Path(self.template.replace("{seed}", str(seed)))

    def _choose(self, own: Mapping[str, Any]) -> float:
        if not isinstance(self.threshold, str):
            return float(self.threshold)
        if self.threshold != "validation":
            return choose_threshold(own["labels"], own["probabilities"][:, 1], criterion=self.threshold)
        found = self._recorded("validation").get(str(self.seed))
        if found is None:
            raise ValueError(
                f"threshold: expected the results of {self.model!r}, seed {self.seed}, on the validation images in "
                f"{self.results_path}, got none; evaluate those first."
            )
        return float(found["threshold"])

    def _recorded(self, split: str) -> dict[str, Any]:
        """What the file of results says of each seed of this model."""
        results = read_results(self.results_path) if self.results_path is not None else {}
        return dict(results.get(split, {}).get(self.model, {}).get("seeds", {}))

    def _other_seeds(
        self, own: Mapping[str, Any], entry: Mapping[str, Any]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]] | None:
        """Predictions and results of each other seed that was measured likewise; None if any are lost."""
        found = []
        for number, recorded in self._recorded(self.split).items():
            if int(number) == self.seed or not comparable(recorded, entry):
                continue
            if not self._path(int(number)).exists():
                return None
            table = read_predictions(self._path(int(number)))
            if any((table[name] != own[name]).any() for name in ("keys", "labels")):
                return None
            found.append((table, recorded))
        return found


def write_predictions(
    path: str | os.PathLike[str],
    *,
    keys: Sequence[str],
    patients: Sequence[str],
    labels: Sequence[int] | NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str] | None = None,
) -> None:
    """Write a table of predictions: key, patient, label, and probability_CLASS of each class, sorted by key.

    A key or patient that a spreadsheet would run as a formula gets an apostrophe in front; `read_predictions` takes it
    off again.

    Args:
        path: CSV file.
        keys: name of each image [N]; what a spreadsheet would run is marked as text, which `read_predictions` undoes.
        patients: patient of each image, empty where unknown [N].
        labels: class of each image [N].
        probabilities: of each class [N, K], kept to 9 digits, which is all that float32 has.
        classes: names of the classes [K]; None numbers them.

    Raises:
        ValueError: if the lengths differ, or the names are not K different ones.
    """
    names = list(classes) if classes is not None else range(np.asarray(probabilities).shape[1])
    columns = [f"probability_{name}" for name in names]
    if len({*columns}) != np.asarray(probabilities).shape[1]:
        raise ValueError(f"classes: expected {np.asarray(probabilities).shape[1]} different names, got {list(names)}")
    rows = sorted(
        zip(keys, map(known_patient, patients), labels, np.asarray(probabilities).tolist(), strict=True),
        key=lambda row: row[:3],
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "patient", "label", *columns])
    for key, patient, label, row in rows:
        writer.writerow([*csv_texts([key, patient]), int(label), *(f"{p:.9g}" for p in row)])
    replace_text(path, text.getvalue())


def read_predictions(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """A table of predictions as arrays: ``keys``, ``patients``, ``labels`` [N] and ``probabilities`` [N, K].

    The classes are in the order of the columns; ``classes`` [K] holds what they are called there.

    Raises:
        ValueError: if a column is missing or there is no row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_predictions(
        ...         folder + "/test.csv", keys=["b", "a"], patients=["", ""], labels=[1, 0],
        ...         probabilities=np.array([[0.25, 0.75], [0.5, 0.5]]),
        ...     )
        ...     read_predictions(folder + "/test.csv")["probabilities"].tolist()
        [[0.5, 0.5], [0.25, 0.75]]
    """
    rows = list(read_rows(path, ("key", "patient", "label")))
    if not rows:
        raise ValueError(f"path: expected a row an image in {path}, got none.")
    columns = [column for column in rows[0].fields if column.startswith("probability_")]
    if not columns:
        raise ValueError(f"path: expected a column probability_CLASS for each class in {path}, got {columns}.")
    return {
        "keys": np.array([from_csv_text(row.fields["key"]) for row in rows]),
        "patients": np.array([known_patient(from_csv_text(row.fields["patient"])) for row in rows]),
        "labels": np.array([row.integer("label") for row in rows]),
        "probabilities": np.array([[row.number(column) for column in columns] for row in rows]),
        "classes": np.array([column.removeprefix("probability_") for column in columns]),
    }
