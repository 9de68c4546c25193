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
  softmax and, where there is one, its MC dropout; differences are paired over images;
- prediction sets: coverage over random splits of the test images, beside the band that exact sets have.

Values are means over the seeds of the training; intervals are 95 %, over patients or images, or over the splits.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom

from benchmarks.bundles import RESULTS
from monai_diffclf.classification import Classification, classify_errors
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.metrics import (
    accuracy_at_coverage,
    aurc,
    bootstrap_interval,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
    paired_difference_interval,
    set_size,
)
from monai_diffclf.storage import StoredErrors, load_errors
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import fit_calibration, fit_conformal, fit_typicality, shift_test

METHODS = ("temperature", "beta", "isotonic")
RULES = ("mean", "vote")
Array = np.ndarray[Any, Any]


class Predictions:
    """One model's answers to one set of images, seed by seed.

    Args:
        labels: class of each image [n].
        groups: patient of each image [n], or its number.
        probabilities: a list of [n, K], one a seed.
        uncertainty: name to a list of [n], one a seed.
    """

    def __init__(
        self, labels: Array, groups: Array, probabilities: list[Array], uncertainty: dict[str, list[Array]]
    ) -> None:
        self.labels, self.groups, self.probabilities = labels, groups, probabilities
        self.uncertainty = {"probability": [1 - p.max(1) for p in probabilities], **uncertainty}

    def ranked(self, name: str) -> list[Array]:
        """For each seed whether an image is answered rightly, and how unsure the answer is [n, 2]."""
        pairs = zip(self.probabilities, self.uncertainty[name], strict=True)
        return [np.column_stack([p.argmax(1) == self.labels, u]) for p, u in pairs]


def group_names(patients: Any) -> Array:
    """Patients, or a number an image where they are unknown."""
    names = np.asarray(patients)
    return names if (names != "").all() else np.arange(len(names)).astype(str)


def of_errors(stored: list[StoredErrors], rule: str, weighting: str, temperature: float) -> Predictions:
    """What a rule makes of stored errors."""
    results: list[Classification] = [
        classify_errors(s.errors, rule, weighting=weighting, temperature=temperature) for s in stored
    ]
    return Predictions(
        stored[0].labels.numpy(),
        group_names(stored[0].patients),
        [r.probabilities.double().numpy() for r in results],
        {
            name: [r.uncertainty[name].double().numpy() for r in results]
            for name in ("vote_variance", "vote_entropy", "entropy_remaining")
        },
    )


def of_tables(paths: list[Path]) -> Predictions:
    """Predictions that the baseline's evaluation wrote."""
    tables = [read_predictions(path) for path in paths]
    return Predictions(
        tables[0]["labels"], group_names(tables[0]["patients"]), [t["probabilities"] for t in tables], {}
    )


def halves(labels: Array, groups: Array, seed: int) -> tuple[Array, Array]:
    """Two random halves of the images; those of one patient are in the same half."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(groups))
    first = np.isin(groups, names[: len(names) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def calibrated(fit: Array, labels: Array, apply: Array, method: str | None) -> Array:
    """Probabilities after a calibration; as they are without a method."""
    if method is None:
        return apply
    calibration = fit_calibration(torch.from_numpy(fit), torch.from_numpy(labels), method=method)
    return np.asarray(calibration(torch.from_numpy(apply)))


def calibrated_by_halves(predictions: Predictions, seed: int, method: str | None) -> tuple[Array, Array]:
    """Probabilities of all images, each random half calibrated by the other, and the images of the second half."""
    p = predictions.probabilities[seed % len(predictions.probabilities)]
    after, both = np.empty_like(p), halves(predictions.labels, predictions.groups, seed)
    for one, other in (both, both[::-1]):
        after[other] = calibrated(p[one], predictions.labels[one], p[other], method)
    return after, both[1]


def spread(values: list[float]) -> dict[str, float]:
    """Mean and the range that holds 95 % of the values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high)}


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
        _, other = halves(predictions.labels, predictions.groups, seed)
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


def coverage_table(test: Predictions, confidence: float, splits: int) -> dict[str, Any]:
    """Coverage and size of prediction sets over random splits of the test images, beside what exact sets have."""
    table: dict[str, Any] = {}
    for per_class in (False, True):
        rates: list[float] = []
        sizes: list[float] = []
        inside = 0
        for seed in range(splits):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(test.labels))
            one, other = order[: len(order) // 2], order[len(order) // 2 :]
            p = torch.from_numpy(test.probabilities[seed % len(test.probabilities)])
            labels = torch.from_numpy(test.labels)
            fitted = fit_conformal(p[one], labels[one], confidence=confidence, per_class=per_class)
            sets = fitted.sets(p[other], allow_empty=True).numpy()
            hits = int(sets[np.arange(len(other)), test.labels[other]].sum())
            held = fitted.sets(p[other]).numpy()
            rates.append(hits / len(other))
            sizes.append(float(set_size(held)))
            if not per_class:
                # Exchangeable images without ties: the hits are beta-binomial (Vovk 2012).
                rank = int(np.ceil((len(one) + 1) * confidence - 1e-9))
                law = betabinom(len(other), rank, len(one) + 1 - rank)
                inside += int(law.ppf(0.025) <= hits <= law.ppf(0.975))
        entry: dict[str, Any] = {"coverage": spread(rates), "mean_size": spread(sizes)}
        if not per_class:
            entry["splits_inside_95_percent_band"] = inside
            n = len(test.labels) - len(test.labels) // 2
            rank = int(np.ceil((len(test.labels) // 2 + 1) * confidence - 1e-9))
            law = betabinom(n, rank, len(test.labels) // 2 + 1 - rank)
            entry["band"] = [float(law.ppf(0.025) / n), float(law.ppf(0.975) / n)]
        table["per_class" if per_class else "marginal"] = entry
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
    models: dict[str, dict[str, Predictions]] = {}
    for rule in RULES:
        models[f"diffusion_{rule}"] = {s: of_errors(stored[s], rule, args.weighting, args.temperature) for s in stored}
    models["resnet18"] = {s: of_tables([tables / f"{s}_seed_{seed}.csv" for seed in args.seeds]) for s in stored}
    dropout = [tables / f"{split}_mc_dropout_seed_0.csv" for split in stored]
    if all(path.is_file() for path in dropout):
        models["mc_dropout"] = {s: of_tables([path]) for s, path in zip(stored, dropout, strict=True)}

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
        content["conformal"][name] = coverage_table(sets["test"], args.confidence, args.splits)
    tests = []
    for fit, new in zip(stored["validation"], stored["test"], strict=True):
        typicality = fit_typicality(fit.errors, groups=fit.patients)
        result = shift_test(typicality, new.errors, groups=new.patients)
        tests.append({"statistic": result.statistic, "p_value": result.p_value, "message": result.message})
    content["shift_of_test_from_validation"] = tests
    baselines = [name for name in ("resnet18", "mc_dropout") if name in models]
    content["rejection"] = rejection_table({name: sets["test"] for name, sets in models.items()}, baselines)
    path = RESULTS / f"uncertainty_{args.bundle.name}.json"
    replace_text(path, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
