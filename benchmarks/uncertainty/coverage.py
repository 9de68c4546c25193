"""How often prediction sets hold the class, over random halves of the patients of a test set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom

from benchmarks.uncertainty.predictions import Array, Predictions, halves
from monai_diffclf.metrics import class_set_coverage, set_coverage, set_size
from monai_diffclf.uncertainty import fit_conformal


def spread(values: list[float]) -> dict[str, float]:
    """Mean over random splits, and the range that 95 % of them lie in."""
    low, high = np.percentile(values, [2.5, 97.5])
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high)}


def one_a_patient(groups: Array, images: Array, seed: int) -> Array:
    """One random image of each patient among some images."""
    order = np.random.default_rng(seed).permutation(images)
    _, first = np.unique(groups[order], return_index=True)
    return np.asarray(order[first])


def law_of_hits(fit: int, judged: int, confidence: float) -> Any:
    """How many of exchangeable images without ties have their class in a set that may be empty (Vovk 2012)."""
    rank = int(np.ceil((fit + 1) * confidence - 1e-9))
    return betabinom(judged, rank, fit + 1 - rank)


def split_of(test: Predictions, seed: int, confidence: float, per_class: bool) -> dict[str, float]:
    """One random split: sets fitted on half of the patients, judged on the others.

    ``coverage`` is of the sets as they are given out, which hold the most probable class at least; ``may_be_empty`` of
    those that the promise is about, where an empty set is a miss, and ``empty`` the share of these that are. Images of
    one patient are alike, so that the law holds for one image a patient: ``inside`` says whether its hits lie in the
    band of 95 %.
    """
    p, labels = torch.from_numpy(test.probabilities[seed % len(test.probabilities)]), torch.from_numpy(test.labels)
    one, other = halves(test.groups, seed)
    fitted = fit_conformal(p[one], labels[one], confidence=confidence, per_class=per_class)
    exact, given = fitted.sets(p[other], allow_empty=True).numpy(), fitted.sets(p[other]).numpy()
    rows = np.arange(len(other)), test.labels[other]
    found = {
        "coverage": float(given[rows].mean()),
        "coverage_may_be_empty": float(exact[rows].mean()),
        "empty": float((~exact.any(1)).mean()),
        "mean_size": float(set_size(given)),
    }
    if not per_class:
        one, other = (one_a_patient(test.groups, half, seed) for half in (one, other))
        fitted = fit_conformal(p[one], labels[one], confidence=confidence, per_class=False)
        hits = fitted.sets(p[other], allow_empty=True).numpy()[np.arange(len(other)), test.labels[other]].sum()
        law = law_of_hits(len(one), len(other), confidence)
        found["one_a_patient"] = float(hits / len(other))
        found["inside"] = float(law.ppf(0.025) <= hits <= law.ppf(0.975))
    return found


def fitted_elsewhere(validation: Predictions, test: Predictions, confidence: float) -> dict[str, Any]:
    """Coverage on test images, and in each class, of sets per class fitted on validation images; mean of the seeds."""
    held = []
    for fit, new in zip(validation.probabilities, test.probabilities, strict=True):
        fitted = fit_conformal(torch.from_numpy(fit), torch.from_numpy(validation.labels), confidence=confidence)
        held.append(fitted.sets(torch.from_numpy(new)).numpy())
    return {
        "coverage": float(np.mean([set_coverage(test.labels, sets) for sets in held])),
        "of_each_class": np.mean([class_set_coverage(test.labels, sets) for sets in held], axis=0).tolist(),
    }


def coverage_table(test: Predictions, confidence: float, splits: int) -> dict[str, Any]:
    """Coverage, size and empty sets over random splits by patient, beside what exact sets have."""
    table: dict[str, Any] = {}
    for per_class in (False, True):
        found = [split_of(test, seed, confidence, per_class) for seed in range(splits)]
        entry: dict[str, Any] = {
            name: spread([each[name] for each in found])
            for name in ("coverage", "coverage_may_be_empty", "empty", "mean_size")
        }
        if not per_class:
            patients = len(np.unique(test.groups))
            law = law_of_hits(patients // 2, patients - patients // 2, confidence)
            entry["one_image_a_patient"] = {
                "patients": patients,
                "coverage_may_be_empty": spread([each["one_a_patient"] for each in found]),
                "splits_inside_95_percent_band": int(sum(each["inside"] for each in found)),
                "band": [float(bound / (patients - patients // 2)) for bound in law.ppf([0.025, 0.975])],
            }
        table["per_class" if per_class else "marginal"] = entry
    return table
