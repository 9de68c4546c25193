r"""How good the uncertainty is: calibration, shift, rejection, prediction sets. Needs no network and no images.

    python -m benchmarks.uncertainty.quality --bundle bundles/pneumonia_xray_diffusion \
        --baseline bundles/pneumonia_xray_resnet18

Reads the errors and predictions that the evaluations of both bundles left and writes
``benchmarks/results/uncertainty_BUNDLE.json``:

- calibration: error before and after, fitted on validation images, and on random halves of the test images and judged
  on the other halves (patients are never in both halves where they are known); ``pooled`` calibrates each half by the
  other and judges all images together, as the error of few images is too large even for perfect probabilities;
- shift: the two-sample test between validation and test images;
- rejection: AURC and the gain in accuracy when the 20 % most uncertain images are left out, beside the baseline's
  softmax; differences are paired over images, by their keys;
- prediction sets: coverage over random halves of the patients, how many are empty, and the band that exact sets have.

Values are means over the seeds of the training; intervals are 95 %, over patients or images, or over the splits. Where
there are several trainings, ``_ensemble`` is all of them as one model, the mean of their probabilities.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bundles import RESULTS
from benchmarks.uncertainty.coverage import coverage_table, fitted_elsewhere, spread
from benchmarks.uncertainty.predictions import Array, Predictions, halves, of_errors, of_tables
from monai_diffclf.inferers import learned_levels
from monai_diffclf.metrics import (
    accuracy_at_coverage,
    aurc,
    bootstrap_interval,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
    paired_difference_interval,
)
from monai_diffclf.storage import load_errors
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import fit_calibration, fit_typicality, shift_test

METHODS = ("temperature", "beta", "isotonic")
RULES = ("mean", "vote")


def calibrated(fit: Array, labels: Array, apply: Array, method: str | None) -> Array:
    """Probabilities after a calibration; as they are without a method."""
    if method is None:
        return apply
    calibration = fit_calibration(torch.from_numpy(fit), torch.from_numpy(labels), method=method)
    return np.asarray(calibration(torch.from_numpy(apply)))


def calibrated_by_halves(predictions: Predictions, seed: int, method: str | None) -> tuple[Array, Array]:
    """Probabilities of all images, each random half calibrated by the other, and the images of the second half."""
    p = predictions.probabilities[seed % len(predictions.probabilities)]
    after, both = np.empty_like(p), halves(predictions.groups, seed)
    for one, other in (both, both[::-1]):
        after[other] = calibrated(p[one], predictions.labels[one], p[other], method)
    return after, both[1]


SCORES = {
    "ece": expected_calibration_error,
    "classwise_ece": classwise_calibration_error,
    "nll": negative_log_likelihood,
}


def calibration_table(validation: Predictions, test: Predictions, splits: int) -> dict[str, Any]:
    """Calibration errors on test images, calibrated on validation images and on halves of the test images."""
    table: dict[str, Any] = {}
    for method in (None, *METHODS):
        pairs = list(zip(validation.probabilities, test.probabilities, strict=True))
        made = [calibrated(v, validation.labels, t, method) for v, t in pairs]
        row: dict[str, Any] = {}
        for name, score in SCORES.items():
            each = [bootstrap_interval(score, test.labels, p, strata=test.labels, groups=test.groups) for p in made]
            row[f"{name}_fitted_on_validation"] = {
                bound: float(np.mean([getattr(i, bound) for i in each])) for bound in ("value", "low", "high")
            }
        row["accuracy_fitted_on_validation"] = float(np.mean([p.argmax(1) == test.labels for p in made]))
        found: dict[str, list[float]] = {f"{name}_{how}": [] for name in SCORES for how in ("half", "pooled")}
        for seed in range(splits):
            after, half = calibrated_by_halves(test, seed, method)
            for name, score in SCORES.items():
                found[f"{name}_half"].append(float(score(test.labels[half], after[half])))
                found[f"{name}_pooled"].append(float(score(test.labels, after)))
        row.update({f"{name}_of_test": spread(values) for name, values in found.items()})
        table[method or "none"] = row
    return table


def ideal_calibration_error(predictions: Predictions, splits: int) -> dict[str, Any]:
    """What the calibration error of perfect probabilities would be on as many images: labels drawn from them."""
    rng, found = np.random.default_rng(0), {"half": [], "pooled": []}
    for seed in range(splits):
        p = predictions.probabilities[seed % len(predictions.probabilities)]
        drawn = (rng.uniform(size=(len(p), 1)) > p.cumsum(1)[:, :-1]).sum(1)
        _, other = halves(predictions.groups, seed)
        found["half"].append(float(expected_calibration_error(drawn[other], p[other])))
        found["pooled"].append(float(expected_calibration_error(drawn, p)))
    return {f"ece_{name}_of_test": spread(values) for name, values in found.items()}


def gain(correct_and_uncertainty: Array, *, weights: Array | None = None) -> Any:
    """Accuracy without the 20 % most uncertain images, less that of all."""
    correct, uncertainty = correct_and_uncertainty.T
    rows = np.ones((1, len(correct))) if weights is None else np.asarray(weights)
    all_images = rows @ correct / rows.sum(1)
    kept = accuracy_at_coverage(correct, uncertainty, coverage=0.8, weights=rows) - all_images
    return kept[0] if weights is None else kept


def area(labels: Array, correct_and_uncertainty: Array, *, weights: Array | None = None) -> Any:
    """AURC, in the form that paired differences take."""
    return aurc(correct_and_uncertainty[:, 0], correct_and_uncertainty[:, 1], weights=weights)


def over_seeds(predictions: Predictions, name: str, statistic: Any) -> dict[str, float]:
    """Mean over the seeds of a statistic and of the bounds of its interval."""
    each = [
        bootstrap_interval(statistic, ranked, groups=predictions.groups, strata=predictions.labels)
        for ranked in predictions.ranked(name)
    ]
    return {bound: float(np.mean([getattr(i, bound) for i in each])) for bound in ("value", "low", "high")}


def rejection_table(models: dict[str, Predictions], baselines: list[str]) -> dict[str, Any]:
    """AURC and the gain from leaving the most uncertain images out, for every model and uncertainty."""
    table: dict[str, Any] = {}
    for model, predictions in models.items():
        for name in predictions.uncertainty:
            entry: dict[str, Any] = {
                "accuracy": float(np.mean([r[:, 0].mean() for r in predictions.ranked(name)])),
                "aurc": over_seeds(predictions, name, lambda r, *, weights=None: area(r, r, weights=weights)),
                "gain_without_20_percent": over_seeds(predictions, name, gain),
            }
            for baseline in baselines:
                if model not in baselines:
                    difference = paired_difference_interval(
                        area,
                        predictions.labels,
                        predictions.ranked(name),
                        models[baseline].ranked("probability"),
                        groups=predictions.groups,
                    )
                    entry[f"aurc_less_{baseline}"] = difference._asdict()
            table[f"{model}, {name}"] = entry
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--temperature", type=float, default=0.27, help="of the bundle's evaluate.json")
    parser.add_argument("--weighting", default="uniform", help="of the bundle's evaluate.json")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=100)
    args = parser.parse_args()
    evaluation, tables = args.bundle / "docs" / "evaluation", args.baseline / "docs" / "predictions"
    stored = {
        split: [load_errors(evaluation / f"errors_{split}_seed_{seed}.npz") for seed in args.seeds]
        for split in ("validation", "test")
    }
    levels = learned_levels(args.weighting, args.temperature, args.bundle / "models" / "model.pt")
    models: dict[str, dict[str, Predictions]] = {}
    for rule in RULES:
        models[f"diffusion_{rule}"] = {s: of_errors(stored[s], rule, *levels) for s in stored}
    tables_of = {s: of_tables([tables / f"{s}_seed_{seed}.csv" for seed in args.seeds]) for s in stored}
    models["resnet18"] = {
        s: found.in_order_of(models["diffusion_mean"][s], f"resnet18, {s}") for s, found in tables_of.items()
    }
    if len(args.seeds) > 1:
        for name in ("diffusion_mean", "resnet18"):
            models[f"{name}_ensemble"] = {s: each.ensemble() for s, each in models[name].items()}

    content: dict[str, Any] = {
        "num_images": {split: len(each[0].keys) for split, each in stored.items()},
        "seeds": args.seeds,
        "splits": args.splits,
        "calibration": {},
        "conformal": {},
    }
    for name, sets in models.items():
        content["calibration"][name] = calibration_table(sets["validation"], sets["test"], args.splits)
        content["calibration"][name]["perfect"] = ideal_calibration_error(sets["test"], args.splits)
        content["conformal"][name] = {
            **coverage_table(sets["test"], args.confidence, args.splits),
            "fitted_on_validation": fitted_elsewhere(sets["validation"], sets["test"], args.confidence),
        }
    tests = []
    for fit, new in zip(stored["validation"], stored["test"], strict=True):
        typicality = fit_typicality(fit.errors, groups=fit.patients)
        result = shift_test(typicality, new.errors, groups=new.patients)
        tests.append({"statistic": result.statistic, "p_value": result.p_value, "message": result.message})
    content["shift_of_test_from_validation"] = tests
    baselines = [name for name in ("resnet18", "resnet18_ensemble") if name in models]
    content["rejection"] = rejection_table({name: sets["test"] for name, sets in models.items()}, baselines)
    path = RESULTS / f"uncertainty_{args.bundle.name}.json"
    replace_text(path, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
