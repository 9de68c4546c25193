"""Our classifiers and ResNet-18 side by side, from what their evaluations wrote; needs no network and no images.

    python -m benchmarks.accuracy.compare_with_baseline [pneumonia_xray_diffusion | pneumonia_xray_score]

Reads ``docs/results.json`` and the tables of predictions of the pneumonia bundles and prints the tables of the README.
Writes to the bundle's ``docs/comparison.json`` the gaps in AUC with their intervals, and the figures under the decision
rule that had been set before: a threshold chosen on validation. A gap's interval draws patients (paired: the same for
both models) and averages over the seeds: it covers the choice of patients, not that of the seeds.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bundles import BUNDLES
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.handlers.results import replace_text
from monai_diffclf.metrics import choose_threshold, classification_metrics, paired_difference_interval, roc_auc
from monai_diffclf.storage import rows_of_images


class Model(NamedTuple):
    """A model's bundle, its name in the results, its tables of predictions and what to call it."""

    bundle: str
    name: str
    tables: str
    label: str


def ours(bundle: str, name: str, label: str) -> Model:
    return Model(bundle, name, f"evaluation/{{}}_{name}_seed_{{}}.csv", label)


DIFFUSION, SCORE = "pneumonia_xray_diffusion", "pneumonia_xray_score"
BASELINE = Model("pneumonia_xray_resnet18", "resnet18", "predictions/{}_seed_{}.csv", "ResNet-18")
COMPARED = {
    DIFFUSION: [
        ours(DIFFUSION, "diffusion_mean", "diffusion, mean error"),
        ours(DIFFUSION, "diffusion_vote", "diffusion, majority vote"),
    ],
    SCORE: [
        ours(SCORE, "score_likelihood", "score model, likelihood"),
        ours(SCORE, "score_likelihood_weighting", "the same, trained by the likelihood weighting"),
        ours(SCORE, "diffusion_mean", "score model, mean denoising error"),
        ours(SCORE, "diffusion_vote", "score model, majority vote"),
    ],
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


def entry(model: Model) -> dict[str, Any]:
    """The test results of a model over its seeds."""
    results = json.loads((BUNDLES / model.bundle / "docs" / "results.json").read_text())
    found: dict[str, Any] = results["test"][model.name]
    return found


def tables(model: Model, split: str = "test") -> list[dict[str, Any]]:
    """The predictions of each seed of a model."""
    folder, seeds = BUNDLES / model.bundle / "docs", sorted(entry(model)["seeds"], key=int)
    return [read_predictions(folder / model.tables.format(split, seed)) for seed in seeds]


def thresholds_of_validation(model: Model) -> list[float]:
    """The preset decision rule: for each seed the threshold of the best balanced accuracy on validation patients."""
    return [choose_threshold(table["labels"], table["probabilities"][:, 1]) for table in tables(model, "validation")]


def tuned(model: Model, split: str = "test") -> dict[str, Any]:
    """Metrics under the preset rule instead of the most probable class."""
    found = tables(model, split)
    scores = [table["probabilities"][:, 1] for table in found]
    metrics = classification_metrics(
        found[0]["labels"], scores, threshold=thresholds_of_validation(model), groups=found[0]["patients"]
    )
    return {name: metrics[name] for name in DECIDED}


def seen_first() -> dict[str, Any]:
    """What had been seen of the test set when the preset rule was given up: the ResNet-18, seed 0."""
    table, threshold = tables(BASELINE)[0], thresholds_of_validation(BASELINE)[0]
    pair = table["labels"], table["probabilities"][:, 1]
    metrics = classification_metrics(*pair, threshold=threshold, groups=table["patients"])
    return {"threshold": threshold, **{name: metrics[name] for name in ("auc", *DECIDED)}}


def scores_in_order(first: dict[str, Any], table: dict[str, Any], what: str) -> Any:
    """Probabilities of class 1, the images in the order of another table; other images are refused."""
    labels = {"labels": first["labels"], "table_labels": table["labels"]}
    return table["probabilities"][rows_of_images(first["keys"], table["keys"], **labels, what=what), 1]


def gap(model: Model) -> dict[str, Any]:
    """AUC of a model less that of the ResNet-18."""
    own, theirs = tables(model), tables(BASELINE)
    first = own[0]
    interval = paired_difference_interval(
        roc_auc,
        first["labels"],
        [scores_in_order(first, table, model.name) for table in own],
        [scores_in_order(first, table, BASELINE.name) for table in theirs],
        groups=first["patients"],
    )
    return {**interval._asdict(), "seeds": [len(own), len(theirs)], "num_images": len(first["labels"])}


def cell(metric: dict[str, float]) -> str:
    """A number with its interval."""
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def compare(bundle: str) -> None:
    """Print the tables of one bundle and write its comparison."""
    own = COMPARED[bundle]
    models = [*own, BASELINE]
    print("| PneumoniaMNIST test, 624 images | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    for model in models:
        print(f"| {model.label} | " + " | ".join(cell(entry(model)[name]) for name in COLUMNS) + " |")
    print()
    for model in models:
        seeds = [seed for _, seed in sorted(entry(model)["seeds"].items())]
        aucs, balanced = (np.round([s[n]["value"] for s in seeds], 3).tolist() for n in ("auc", "balanced_accuracy"))
        bits = f", {cell(entry(model)['bits_per_dimension'])} bits" if "bits_per_dimension" in entry(model) else ""
        print(f"{model.label}: AUC of each seed {aucs}, balanced {balanced}{bits}")
    thresholded = {model.name: tuned(model) for model in models}
    for model in models:
        found = ", ".join(f"{name} {cell(value)}" for name, value in thresholded[model.name].items())
        print(f"{model.label}, threshold chosen on validation: {found}")
    gaps = {model.name: gap(model) for model in own}
    for model in own:
        print(f"AUC of {model.label} less ResNet-18: {cell(gaps[model.name])}")
    content = {
        "data": entry(BASELINE)["data"],
        "auc_minus_resnet18": gaps,
        "threshold_of_validation": thresholded,
        "threshold_of_validation_on_validation": {model.name: tuned(model, "validation") for model in models},
        "seen_before_the_rule_was_changed": {BASELINE.name: seen_first()},
    }
    replace_text(BUNDLES / bundle / "docs" / "comparison.json", json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", choices=list(COMPARED), default=DIFFUSION)
    compare(parser.parse_args().bundle)


if __name__ == "__main__":
    main()
