# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Several classifiers together, from the predictions that their evaluations stored: cascades and ensembles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classification import CascadeFit, fit_cascade
from ..handlers.evaluation_saver import read_predictions
from ..handlers.results import read_results
from ..networks.model_description import read_model_note
from ..storage import FittedCascade, load_errors, save_cascade
from ..uncertainty import Ensemble, fit_ensemble

__all__ = ["DEFERRAL", "Aligned", "RunCascade", "align_predictions", "fit_run_cascade"]

DEFERRAL = "deferral.json"
RULES = ("mean", "vote")
_STATED = ("weighting", "temperature", "classes", "image_size")

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Aligned:
    """Predictions of several classifiers for the same images, in the same order.

    Args:
        keys: name of each image.
        patients: patient of each image, empty where unknown.
        labels: class of each image [n].
        members: probabilities of each classifier [n, K], float64.
    """

    keys: list[str]
    patients: list[str]
    labels: torch.Tensor
    members: list[torch.Tensor]


def align_predictions(tables: Sequence[Source]) -> Aligned:
    """Read tables of predictions, and put their rows in the order of the first by the images' names.

    Fit an ensemble to the members of validation tables with :func:`monai_diffclf.uncertainty.fit_ensemble`, and call it
    with the members of the test tables of the same classifiers.

    Args:
        tables: CSV files that evaluations of the classifiers wrote, see `read_predictions`.

    Raises:
        ValueError: when there is none, or they are not of the same images with the same labels and classes.
    """
    if not tables:
        raise ValueError("tables: expected at least one table of predictions, got none")
    read = [read_predictions(table) for table in tables]
    first, members = read[0], []
    for path, found in zip(tables, read, strict=True):
        place = {key: row for row, key in enumerate(found["keys"].tolist())}
        if len(place) != len(found["keys"]) or set(place) != set(first["keys"].tolist()):
            raise ValueError(
                f"tables: expected the {len(first['keys'])} images of {tables[0]}, each once, got "
                f"{len(found['keys'])} rows of {len(set(place) & set(first['keys'].tolist()))} of them in {path}"
            )
        order = [place[key] for key in first["keys"].tolist()]
        if not np.array_equal(found["labels"][order], first["labels"]):
            raise ValueError(f"tables: expected the labels of {tables[0]}, got others in {path}")
        if found["probabilities"].shape != first["probabilities"].shape:
            raise ValueError(f"tables: expected the classes of {tables[0]}, got another number of them in {path}")
        if _named(found) and _named(first) and found["classes"].tolist() != first["classes"].tolist():
            raise ValueError(
                f"tables: expected the classes {first['classes'].tolist()} of {tables[0]} in their order, got "
                f"{found['classes'].tolist()} in {path}"
            )
        members.append(torch.from_numpy(found["probabilities"][order].astype(np.float64)))
    return Aligned(first["keys"].tolist(), first["patients"].tolist(), torch.from_numpy(first["labels"]), members)


def _named(table: Mapping[str, Any]) -> bool:
    """Whether a table's columns name the classes; those of older ones number them."""
    return not all(str(name).isdecimal() for name in table["classes"])


@dataclass(frozen=True)
class RunCascade:
    """Cascades of two runs, by the second one's rule of decision.

    Args:
        fitted: rule to threshold and ensemble.
        fits: rule to what it did on validation images.
        path: the file it was written to.
    """

    fitted: dict[str, FittedCascade]
    fits: dict[str, CascadeFit]
    path: Path


def fit_run_cascade(
    first: Source,
    second: Source,
    *,
    max_loss: float = 0.01,
    deferred: float | None = None,
    certainty: float = 0.9,
    pool: str | None = None,
) -> RunCascade:
    """Fit cascades to the validation predictions of two runs and write ``deferral.json`` into the second's folder.

    Args:
        first: folder of the run of a cheap classifier, such as a ResNet, evaluated.
        second: folder of that of a diffusion classifier.
        max_loss: see :func:`monai_diffclf.classification.fit_cascade`.
        deferred: see there.
        certainty: see there.
        pool: ``"log_linear"`` or ``"mean"`` gives deferred images the ensemble of both; None the second's answer.

    Raises:
        ValueError: when a folder holds no evaluated run, the second's does not say what made its probabilities, or they
            are not of the same images.
    """
    hashes, tables = {}, {}
    kinds = ("first", first, "predictions", "a classifier without noise draws, such as a ResNet")
    for name, run, part, kind in (kinds, ("second", second, "evaluation", "a diffusion classifier")):
        note = read_model_note(Path(run) / "model.pt")
        tables[name] = sorted((Path(run) / part).glob("validation*.csv"))
        if not note.get("weights") or not tables[name]:
            raise ValueError(
                f"{name}: expected the evaluated run of {kind}, with model.json and {part}/validation*.csv, got {run}"
            )
        hashes[name] = str(note["weights"])
    fitted, fits = {}, {}
    for rule in RULES:
        own = [path for path in tables["second"] if path.name.startswith(f"validation_diffusion_{rule}_")]
        if not own:
            continue
        both = align_predictions([tables["first"][0], own[0]])
        one, two = both.members
        combine: Ensemble | None = None if pool is None else fit_ensemble([one, two], both.labels, pool=pool)
        settings: dict[str, Any] = {"max_loss": max_loss, "deferred": deferred, "certainty": certainty}
        fits[rule] = fit_cascade(one, two, both.labels, patients=both.patients, combine=combine, **settings)
        made_by = _made_by(Path(second), rule, own[0])
        fitted[rule] = FittedCascade(rule, fits[rule].threshold, combine, hashes["first"], hashes["second"], made_by)
    if not fitted:
        raise ValueError(f"second: expected predictions of a diffusion classifier by mean or vote, none in {second}")
    path = Path(second) / DEFERRAL
    save_cascade(path, fitted, {"fits": {rule: asdict(fit) for rule, fit in fits.items()}})
    return RunCascade(fitted, fits, path)


def _made_by(run: Path, rule: str, table: Path) -> dict[str, Any]:
    """What made the probabilities of a run's table, by the names under which inference compares it.

    Raises:
        ValueError: when the run does not say it.
    """
    errors = table.with_name("errors_validation_seed_" + table.stem.rpartition("_seed_")[2] + ".npz")
    judged = read_results(run / "results.json").get("validation", {}).get(f"diffusion_{rule}", {})
    model = read_model_note(run / "model.pt").get("model") or {}
    stated = {name: of[name] for of in (judged, model) for name in _STATED if name in of}
    made_by = load_errors(errors).provenance if errors.is_file() else {}
    if not made_by or set(stated) != set(_STATED):
        raise ValueError(
            "second: expected a run that says by which draws, weighting and temperature it was judged, with "
            f"{errors.name} and results.json, got {run} without; evaluate it again"
        )
    return {**made_by, **stated}
