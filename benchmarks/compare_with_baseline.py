"""Diffusion classifier and ResNet-18 side by side, from what their evaluations wrote; needs no network and no images.

    python benchmarks/compare_with_baseline.py

Reads ``docs/results.json`` and the tables of predictions of both pneumonia bundles and prints the tables of the README.
Writes to ``bundles/pneumonia_xray_diffusion/docs/comparison.json`` the gaps in AUC with their intervals, and what a
decision threshold chosen on validation changes. A gap's interval draws patients (paired: the same for both models) and
averages over the seeds: it covers the choice of patients, not that of the seeds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from monai_diffclf.handlers.predictions import read_predictions
from monai_diffclf.handlers.results import replace_text
from monai_diffclf.metrics import choose_threshold, classification_metrics, paired_difference_interval, roc_auc

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
OURS, BASELINE = BUNDLES / "pneumonia_xray_diffusion" / "docs", BUNDLES / "pneumonia_xray_resnet18" / "docs"
MODELS = {
    "diffusion_mean": (OURS, "evaluation/{}_diffusion_mean_seed_{}.csv", "diffusion, mean error"),
    "diffusion_vote": (OURS, "evaluation/{}_diffusion_vote_seed_{}.csv", "diffusion, majority vote"),
    "resnet18": (BASELINE, "predictions/{}_seed_{}.csv", "ResNet-18"),
}
COLUMNS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
DECIDED = ("balanced_accuracy", "sensitivity", "specificity")


def entry(model: str) -> dict[str, Any]:
    """The test results of a model over its seeds."""
    folder = MODELS[model][0]
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["test"][model]
    return found


def tables(model: str, split: str = "test") -> list[dict[str, Any]]:
    """The predictions of each seed of a model."""
    folder, name, _ = MODELS[model]
    return [read_predictions(folder / name.format(split, seed)) for seed in sorted(entry(model)["seeds"], key=int)]


def tuned(model: str) -> dict[str, Any]:
    """Test metrics with a decision threshold chosen on the validation patients instead of the most probable class."""
    test = tables(model)
    scores = [table["probabilities"][:, 1] for table in test]
    thresholds = [
        choose_threshold(table["labels"], table["probabilities"][:, 1]) for table in tables(model, "validation")
    ]
    metrics = classification_metrics(test[0]["labels"], scores, threshold=thresholds, groups=test[0]["patients"])
    return {name: metrics[name] for name in DECIDED}


def gap(model: str) -> dict[str, Any]:
    """AUC of a model less that of the ResNet-18."""
    ours, theirs = tables(model), tables("resnet18")
    first = ours[0]
    if any((table["keys"] != first["keys"]).any() for table in ours + theirs):
        raise ValueError("predictions: expected the same images for both models; evaluate both on the same test set")
    interval = paired_difference_interval(
        roc_auc,
        first["labels"],
        [table["probabilities"][:, 1] for table in ours],
        [table["probabilities"][:, 1] for table in theirs],
        groups=first["patients"],
    )
    return {**interval._asdict(), "seeds": [len(ours), len(theirs)], "num_images": len(first["labels"])}


def cell(metric: dict[str, float]) -> str:
    """A number with its interval."""
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def main() -> None:
    print("| PneumoniaMNIST test, 624 images | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    for model, (_, _, label) in MODELS.items():
        print(f"| {label} | " + " | ".join(cell(entry(model)[name]) for name in COLUMNS) + " |")
    print()
    for model, (_, _, label) in MODELS.items():
        aucs = [seed["auc"]["value"] for _, seed in sorted(entry(model)["seeds"].items())]
        balanced = [seed["balanced_accuracy"]["value"] for _, seed in sorted(entry(model)["seeds"].items())]
        print(f"{label}: AUC of each seed {np.round(aucs, 3).tolist()}, balanced {np.round(balanced, 3).tolist()}")
    thresholded = {model: tuned(model) for model in MODELS}
    for model, metrics in thresholded.items():
        found = ", ".join(f"{name} {cell(value)}" for name, value in metrics.items())
        print(f"{MODELS[model][2]}, threshold chosen on validation: {found}")
    gaps = {model: gap(model) for model in ("diffusion_mean", "diffusion_vote")}
    for model, found in gaps.items():
        print(f"AUC of {MODELS[model][2]} less ResNet-18: {cell(found)}")
    content = {"data": entry("resnet18")["data"], "auc_minus_resnet18": gaps, "threshold_of_validation": thresholded}
    text = json.dumps(content, indent=2) + "\n"
    replace_text(OURS / "comparison.json", text)


if __name__ == "__main__":
    main()
