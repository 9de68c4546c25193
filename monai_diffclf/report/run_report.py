# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the folder of an evaluated run to the data of its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..classification.draw_weights import Weighting
from .audit_findings import audit_findings
from .curves import classify
from .data import ReportData
from .run_facts import RunFacts
from .run_fit import apply_fit
from .run_folder import RunFolder
from .training_curve import read_training_curve

__all__ = ["report_of_run"]

_FLOOR = (
    "What simple classifiers on small pixels reach was not measured (floor.json): evaluate again to have it beside the "
    "result."
)
_AUDIT = (
    "The splits were not audited with these test images (--audit false, or by an older version), so that shared "
    "patients and copies may make results look better."
)
_TRAINING = "How the training went is not on record: the run's folder has no TensorBoard events."


def report_of_run(
    run: RunFolder, *, weighting: Weighting = "uniform", temperature: float | None = None, title: str = ""
) -> ReportData:
    """The report of a run, without pictures.

    Args:
        run: the run, see :func:`monai_diffclf.report.run_folder.read_run`.
        weighting: weighting of the mean error in the evaluation.
        temperature: of its probabilities.
        title: heading; the run's data otherwise.

    Raises:
        ValueError: when errors and tables are of different evaluations.
    """
    entry = next(iter(run.entries.values()))
    groups = np.array(run.stored.patients) if any(run.stored.patients) else None
    _check_votes(run)
    fit = apply_fit(run)
    missing = list(fit.missing)
    floor = None if run.floor is None else run.floor.get("test")
    splits, patients = _splits(run)
    curve = read_training_curve(run.folder)
    missing += [text for text, found in ((_FLOOR, floor), (_AUDIT, run.audit), (_TRAINING, curve)) if found is None]
    size = run.note.get("model", {}).get("image_size")
    shape = f", {' x '.join(map(str, size))} pixels" if size else ""
    names = ", ".join(f"“{name}”" for name in run.classes)
    return ReportData(
        title=title or f"A diffusion model tells {len(run.classes)} classes apart",
        description=f"A class-conditional diffusion model classified {len(run.stored.keys):,} test images of "
        f"{entry['data']}, which it had not seen in training. It removed noise from each image once as every one of "
        f"{len(run.classes)} classes, {run.stored.errors.num_draws} times, and took the class under which it did best.",
        images=None,
        labels=run.stored.labels.numpy(),
        class_names=run.classes,
        errors=run.stored.errors,
        keys=run.stored.keys,
        groups=groups,
        weighting=weighting,
        temperature=temperature,
        probabilities=run.probabilities,
        thresholds={rule: float(run.entries[f"diffusion_{rule}"].get("threshold", 0.5)) for rule in run.probabilities},
        data_note=f"{entry['data']}{shape}; classes {names}. Test images, opened for this evaluation alone.",
        run=RunFacts(
            splits=splits,
            patients=patients,
            findings=None if run.audit is None else audit_findings(run.audit),
            floor=None if floor is None else {**{k: v for k, v in (run.floor or {}).items() if k == "pixels"}, **floor},
            others={
                name: {key: value for key, value in found.items() if isinstance(value, Mapping) and "low" in value}
                for name, found in run.entries.items()
                if name.removeprefix("diffusion_") not in run.probabilities
            },
            calibrated=fit.calibrated,
            calibration=fit.words,
            sets=fit.sets,
            confidence=fit.confidence,
            training=curve,
            settings=dict(_settings(run, entry)),
            missing=missing,
        ),
    )


def _check_votes(run: RunFolder) -> None:
    """Refuse a table of the vote that these errors do not give."""
    if "vote" not in run.probabilities or not bool(run.stored.errors.evaluated.all()):
        return
    made = classify(run.stored.errors, "vote", "uniform", 1.0).probabilities.double().numpy()
    # Temperature and weighting, which are not on record, move half a vote.
    if np.abs(made - run.probabilities["vote"]).max() > 1 / (run.stored.errors.num_draws + 1):
        raise ValueError(
            f"--run: the table of predictions and the errors in {run.folder} are of different evaluations; run the "
            "evaluation again"
        )


def _splits(run: RunFolder) -> tuple[dict[str, dict[str, int]], dict[str, int | None]]:
    """Images of each class and patients by split: from the audit, or what the weights and the test images say."""
    if run.finding is not None:
        return _splits_of_finding(run, run.finding)
    if run.audit is not None and run.audit.get("splits"):
        found = run.audit["splits"]
        counts = {split: dict(facts["images_of_class"]) for split, facts in found.items()}
        return counts, {split: facts.get("patients") or None for split, facts in found.items()}
    data = run.note.get("training", {}).get("data", {})
    described = {split: facts for split, facts in data.items() if isinstance(facts, Mapping) and "classes" in facts}
    counts = {split: dict(facts["classes"]) for split, facts in described.items()}
    patients = {split: facts.get("patients") for split, facts in described.items()}
    numbers = np.bincount(run.stored.labels.numpy(), minlength=len(run.classes)).tolist()
    counts["test"] = dict(zip(run.classes, numbers, strict=True))
    patients["test"] = len({*run.stored.patients}) if all(run.stored.patients) else None
    return counts, patients


def _splits_of_finding(run: RunFolder, finding: str) -> tuple[dict[str, dict[str, int]], dict[str, int | None]]:
    """Images without and with a finding, and of which it is not known, by split; the audit does not tell them apart."""
    absent, present = run.classes
    counts, patients = dict[str, dict[str, int]](), dict[str, int | None]()
    for split, facts in run.note.get("training", {}).get("data", {}).items():
        if not isinstance(facts, Mapping) or finding not in facts.get("classes", {}):
            continue
        with_it, unknown = int(facts["classes"][finding]), int(facts.get("unknown", {}).get(finding, 0))
        counts[split] = {absent: facts["images"] - with_it - unknown, present: with_it, "not known": unknown}
        patients[split] = facts.get("patients")
    numbers = np.bincount(run.stored.labels.numpy(), minlength=2).tolist()
    counts["test"] = dict(zip(run.classes, numbers, strict=True))
    patients["test"] = len({*run.stored.patients}) if all(run.stored.patients) else None
    return counts, patients


def _settings(run: RunFolder, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    note, made_by = run.note, run.stored.provenance
    training, network = note.get("training", {}), note.get("model", {}).get("network", {})
    if network:
        shape = ", ".join(f"{name} {value}" for name, value in network.get("settings", {}).items())
        yield "Network", f"{network.get('class')}, {network.get('parameters', 0):,} parameters ({shape})"
    if space := note.get("model", {}).get("latent_space"):
        yield "Encoder", f"{space.get('encoder', 'a latent space')}, {space.get('training', '')}".rstrip(", ")
    if schedule := note.get("model", {}).get("schedule"):
        yield "Noise process", f"{schedule.get('class')}, {schedule.get('prediction_type', '')}".rstrip(", ")
    plain = {k: v for k, v in training.items() if isinstance(v, int | float | str)}
    if plain:
        yield "Training", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in plain.items())
    if "value" in note:
        yield "Best validation", f"{note['metric']} {note['value']:.4f} after epoch {note['epoch']}"
    yield "Noise draws", f"{run.stored.errors.num_draws}, stopping rule {made_by.get('stopping', 'not recorded')}"
    yield "Weights", f"{Path(entry.get('weights', 'model.pt')).name}, hash {entry.get('weights_hash', 'not recorded')}"
    yield "Images judged", f"hash {entry.get('data_hash', 'not recorded')}"
    if entry.get("commit"):
        yield "Evaluated by", f"commit {entry['commit']}"
    trained = note.get("package")
    yield "Software", f"monai-diffclf {__version__}" + (f"; trained by {trained}" if trained else "")
