"""Folders of evaluated runs, as an evaluation leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from monai_diffclf._class_names import classes_of_finding
from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.handlers import EvaluationSaver
from monai_diffclf.storage import FittedUncertainty, save_errors, save_uncertainty
from monai_diffclf.uncertainty import fit_calibration, fit_conformal

NETWORK = "0123456789abcdef"


def make_run(
    folder: Path,
    classes: list[str],
    *,
    draws: int = 15,
    each: int = 12,
    audit: bool = True,
    floor: float | None = 0.6,
    strength: float = 0.06,
    network: str = NETWORK,
    name: str = "image",
) -> Path:
    """An evaluated run: errors in which the true class is better by up to ``strength``, tables and results."""
    rng = np.random.default_rng(0)
    count, num_classes = each * len(classes), len(classes)
    labels = np.arange(count) % num_classes
    values = 0.3 + 0.02 * rng.standard_normal((count, num_classes, draws))
    values[np.arange(count), labels] -= np.linspace(0, strength, count)[:, None]
    errors = DenoisingErrors(
        torch.tensor(values, dtype=torch.float32), torch.arange(draws), torch.linspace(6, -6, draws), num_elements=256
    )
    keys = [f"{classes[k]}/{name} {i:04d}.png" for i, k in enumerate(labels)]
    order = np.argsort(keys)
    errors, labels, keys = errors[torch.from_numpy(order)], labels[order], [keys[i] for i in order]
    patients = [f"P{i // 2:03d}" for i in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    save_errors(
        folder / "evaluation" / "errors_test_seed_0.npz",
        errors,
        labels=torch.from_numpy(labels),
        keys=keys,
        patients=patients,
        provenance={"network": network, "stopping": "None"},
    )
    counts = np.bincount(labels).tolist()
    facts = {"weights": "model.pt", "weights_hash": network, "data_hash": "fedcba"}
    for rule in ("vote", "mean"):
        EvaluationSaver(
            folder / "evaluation" / f"test_diffusion_{rule}_seed_{{seed}}.csv",
            folder / "results.json",
            split="test",
            model=f"diffusion_{rule}",
            data="own images in x, 16 px",
            seed=0,
            num_draws=draws,
            num_resamples=20,
            commit="0" * 40,
            classes=classes,
            facts=facts | {"classes": dict(zip(classes, counts, strict=True))},
        ).save(keys, patients, labels, classify_errors(errors, rule, temperature=0.3).probabilities.double().numpy())
    training = {"seed": 0, "learning_rate": 0.001, "data": {"train": {"images": 5, "classes": {classes[0]: 5}}}}
    note = {"metric": "val_auc", "value": 0.9, "epoch": 7, "weights": network, "training": training}
    (folder / "model.json").write_text(json.dumps(note))
    if audit:
        split = {"images": count, "images_of_class": dict(zip(classes, counts, strict=True)), "patients": 9}
        content = {
            "splits": {"train": split, "test": split},
            "shared_patients": {"train and test": ["P1", "P2", "P3"]},
            "data_hash": {"test": "fedcba"},
        }
        (folder / "audit.json").write_text(json.dumps(content))
    if floor is not None:
        of = {"macro_auc": floor, "accuracy": 0.5, "balanced_accuracy": 0.4}
        content = {"test": {"logistic_regression": of, "extra_trees": of | {"macro_auc": floor / 2}, "pixels": 16}}
        (folder / "floor.json").write_text(json.dumps(content))
    return folder


def make_findings_run(folder: Path, findings: list[str], *, count: int = 42, network: str = NETWORK) -> Path:
    """An evaluated and fitted run of several findings; finding i is not known of every seventh image from i on."""
    rng, draws = np.random.default_rng(0), 9
    keys = np.array([f"film {i:03d}.png" for i in range(count)])
    for number, name in enumerate(findings):
        known = np.flatnonzero(np.arange(count) % 7 != number)
        labels = rng.permutation(len(known)) % 2
        values = 0.3 + 0.02 * rng.standard_normal((len(known), 2, draws))
        values[np.arange(len(known)), labels] -= rng.uniform(0, 0.04, len(known))[:, None]
        errors = DenoisingErrors(
            torch.tensor(values, dtype=torch.float32),
            torch.arange(draws),
            torch.linspace(6, -6, draws),
            num_elements=64,
        )
        evaluation, classes = folder / "evaluation" / f"finding_{number}", classes_of_finding(name)
        own = keys[known].tolist()
        save_errors(
            evaluation / "errors_test_seed_0.npz",
            errors,
            labels=torch.from_numpy(labels),
            keys=own,
            patients=[f"P{i // 2:03d}" for i in known],
            provenance={"network": network, "stopping": "None"},
        )
        fitted = {}
        for rule in ("vote", "mean"):
            values = classify_errors(errors, rule, temperature=0.3).probabilities.double()
            EvaluationSaver(
                evaluation / f"test_diffusion_{rule}_seed_{{seed}}.csv",
                folder / "results.json",
                split="test",
                model=f"diffusion_{rule}, {name}",
                data="own images in x, 8 px",
                seed=0,
                num_draws=draws,
                num_resamples=20,
                commit="0" * 40,
                classes=classes,
                facts={"weights": "model.pt", "weights_hash": network, "data_hash": "fedcba", "classes": findings},
            ).save(own, [f"P{i // 2:03d}" for i in known], labels, values.numpy())
            truth = torch.from_numpy(labels)
            fitted[rule] = FittedUncertainty(
                rule,
                fit_calibration(values, truth, method="temperature"),
                fit_conformal(values, truth, confidence=0.8),
                None,
                {"network": network, "num_draws": draws, "finding": number},
            )
        (folder / "findings").mkdir(exist_ok=True)
        save_uncertainty(folder / "findings" / f"finding_{number}.json", fitted)
    of = {"macro_auc": 0.6, "accuracy": 0.5, "balanced_accuracy": 0.4}
    each = {name: {"logistic_regression": of, "pixels": 16} for name in findings}
    (folder / "floor.json").write_text(json.dumps({"test": each}))
    return folder
