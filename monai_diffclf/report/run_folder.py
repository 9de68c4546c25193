# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a run's folder holds for its report: errors, tables and all that was noted beside them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._class_names import classes_of_finding
from .._finding_files import finding_file, finding_folder
from .._text import csv_text, from_csv_text
from ..storage import StoredErrors, load_errors
from .data import RULES

__all__ = ["RunFolder", "check_weights", "read_findings", "read_run"]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """An evaluated run; of several findings one of them, as a question of two classes.

    Args:
        folder: where it is.
        seed: seed of the training.
        classes: names of the classes.
        stored: errors of the test images.
        probabilities: rule -> probabilities of the test images as the evaluation stored them [B, K].
        entries: classifier -> what the results say of it on the test images.
        note: what the weights say of themselves, empty where they say nothing.
        audit: the audit of the splits, None where there is none.
        floor: what classifiers on small pixels reach, by split; None where it was not measured.
        fitted: the file in which calibration and prediction sets are kept, once they are fitted.
        finding: name of the finding; None where every image has one class.
    """

    folder: Path
    seed: int
    classes: list[str]
    stored: StoredErrors
    probabilities: dict[str, NDArray[np.float64]]
    entries: dict[str, dict[str, Any]]
    note: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] | None = None
    floor: dict[str, Any] | None = None
    fitted: Path = Path("uncertainty.json")
    finding: str | None = None


def read_run(
    run: str | os.PathLike[str], *, command: str = "run the evaluation", finding: tuple[int, str] | None = None
) -> RunFolder:
    """Read the folder of a run that was evaluated.

    Args:
        run: the folder.
        command: what to type to evaluate it, for messages.
        finding: number and name of the finding to read of a run of several; None for a run of classes.

    Raises:
        ValueError: when it was never evaluated, or holds parts of different evaluations, or no diffusion classifier's.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise ValueError(f"--run: expected the folder of a run, got {folder}, which does not exist; train first")
    results = _json(folder / "results.json")
    number, name = (None, None) if finding is None else finding
    models = _models({} if results is None else results.get("test", {}), name)
    if not models:
        raise ValueError(f"--run: {folder} holds no results on test images; {command}")
    seeds = sorted({int(seed) for model in models.values() for seed in model.get("seeds", {})})
    seed = seeds[-1] if seeds else 0
    entries = {name: dict(model["seeds"][str(seed)]) for name, model in models.items() if str(seed) in model["seeds"]}
    rules = {rule: f"diffusion_{rule}" for rule in RULES if f"diffusion_{rule}" in entries}
    if not rules:
        raise ValueError(
            f"--run: expected results of a diffusion classifier in {folder / 'results.json'}, found those of "
            f"{', '.join(sorted(models))}; a report is made from noise draws, which these do not have"
        )
    evaluation = folder / "evaluation"
    if number is not None:
        evaluation = finding_folder(evaluation, number)
    path = evaluation / f"errors_test_seed_{seed}.npz"
    if not path.is_file():
        raise ValueError(f"--run: {folder / 'results.json'} has results, but their errors {path} are gone; {command}")
    stored = load_errors(path)
    tables = {rule: _table(path.with_name(f"test_{model}_seed_{seed}.csv"), command) for rule, model in rules.items()}
    if name is None:
        classes = list(next(iter(entries[model] for model in rules.values())).get("classes", {}))
        classes = classes or next(iter(tables.values()))[1]
    else:
        classes = classes_of_finding(name)
    as_in_table = [from_csv_text(csv_text(key)) for key in stored.keys]  # control characters come back as escapes
    for rule, (keys, columns, values) in tables.items():
        same = (
            keys == as_in_table and columns == classes and values.shape == (len(stored.keys), stored.errors.num_classes)
        )
        if not same or entries[rules[rule]]["num_draws"] != stored.errors.num_draws:
            raise ValueError(
                f"--run: the table test_{rules[rule]}_seed_{seed}.csv, the errors {path.name} and results.json in "
                f"{folder} are of different evaluations; {command}"
            )
    note = _json(folder / "model.json") or {}
    return RunFolder(
        folder=folder,
        seed=seed,
        classes=classes,
        stored=stored,
        probabilities={rule: values for rule, (_, _, values) in tables.items()},
        entries=entries,
        note=note,
        audit=_audit(folder, next(iter(entries.values()))),
        floor=_floor(_json(folder / "floor.json"), name),
        fitted=folder / "uncertainty.json" if number is None else finding_file(folder / "findings", number),
        finding=name,
    )


def read_findings(run: str | os.PathLike[str], *, command: str = "run the evaluation") -> dict[str, RunFolder]:
    """Read the folder of a run of several findings: name of each -> its part of the evaluation.

    Args:
        run: the folder.
        command: what to type to evaluate it, for messages.

    Raises:
        ValueError: as :func:`read_run`, or when the results do not name the findings.
    """
    results = _json(Path(run) / "results.json") or {}
    entries = [entry for model in results.get("test", {}).values() for entry in model.get("seeds", {}).values()]
    names = next((list(entry["classes"]) for entry in entries if entry.get("classes")), [])
    if not names:
        raise ValueError(f"--run: {Path(run)} holds no results on test images that name their findings; {command}")
    return {name: read_run(run, command=command, finding=(i, name)) for i, name in enumerate(names)}


def check_weights(run: RunFolder, network: str, weights: str | os.PathLike[str], *, command: str) -> None:
    """Refuse errors and results of other weights than those of a file.

    Args:
        run: the run.
        network: hash of the weights, see :func:`monai_diffclf.networks.network_hash`.
        weights: their file.
        command: what to type to evaluate them.

    Raises:
        ValueError: when they differ.
    """
    recorded = {f"the results of {name}": entry.get("weights_hash") for name, entry in run.entries.items()}
    recorded["the errors"] = run.stored.provenance.get("network")
    for what, found in recorded.items():
        if found is not None and found != network:
            raise ValueError(
                f"--run: {what} in {run.folder} are of the weights {found}, but {weights} holds {network}; {command}"
            )


def _models(models: Mapping[str, Any], finding: str | None) -> dict[str, Any]:
    """The classifiers that results are of; of several findings those of one, without its name."""
    if finding is None:
        return dict(models)
    split = ((name.partition(", "), entry) for name, entry in models.items())
    return {model: entry for (model, _, asked), entry in split if asked == finding}


def _floor(floor: dict[str, Any] | None, finding: str | None) -> dict[str, Any] | None:
    """The floor, of several findings that of one; None where there is none."""
    if floor is None or finding is None:
        return floor
    return {split: of_split[finding] for split, of_split in floor.items() if finding in of_split} or None


def _audit(folder: Path, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The audit that saw the images judged: the one that the results name, or else one of the same test images."""
    for name in ("audit_evaluation.json", "audit.json"):
        found = _json(folder / name) or {}
        if (named := entry.get("audit")) is not None:
            same = found.get("fingerprint") == named
        else:
            same = entry.get("data_hash") is not None and found.get("data_hash", {}).get("test") == entry["data_hash"]
        if same:
            return found
    return None


def _json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, None where there is none."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--run: {path} cannot be read: {error}; move it away") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"--run: expected names and values in {path}, got {type(content).__name__}; move it away")
    return dict(content)


def _table(path: Path, command: str) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Keys, names of the classes and probabilities [B, K] of a table of predictions."""
    if not path.is_file():
        raise ValueError(f"--run: the table {path} is gone; {command}")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in (rows[0] if rows else {}) if name.startswith("probability_")]
    try:
        values = np.array([[float(row[column]) for column in columns] for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(f"--run: expected numbers in the table {path} ({error}); {command}") from error
    names = [column.removeprefix("probability_") for column in columns]
    return [from_csv_text(str(row["key"])) for row in rows], names, values
