"""One draw beside all of them, and what a stopping rule spends to say the same: from result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.analysis import paired
from benchmarks.evidence.conditions import FEW_DRAWS, trained_as
from benchmarks.evidence.measures import MEASURES
from benchmarks.evidence.protocol import RESULTS
from benchmarks.evidence.results import read_images, results_of

__all__ = ["few_draws_of"]


def few_draws_of(data: str, method: str, condition: str = FEW_DRAWS, folder: Path = RESULTS) -> dict[str, Any] | None:
    """What one draw and a stopping rule reach on test images, means over the trainings; None where it was not run.

    Returns:
        ``one`` and ``all``, macro AUC by one draw and by all; the difference ``value`` with ``low`` and ``high``;
        ``agreement``, share of the images that the stopping rule gives the class of all draws; ``first``, share that
        spend no more than K + 1 network evaluations; ``evaluations``, their mean.
    """
    base, measure = trained_as(condition), MEASURES["macro_auc"]
    gap = paired((data, data), (method, method), folder=folder, conditions=(condition, base))
    if gap is None:
        return None
    few = {r.record["seed"]: r for r in results_of(data, method, condition, folder=folder)}
    everything = {r.record["seed"]: r for r in results_of(data, method, base, folder=folder)}
    seeds = sorted(set(few) & set(everything))
    labels = read_images(few[seeds[0]].record["test"], folder)["labels"]
    draws, classes = [few[seed].draws for seed in seeds], few[seeds[0]].probabilities.shape[1]
    return {
        "data": data,
        "method": method,
        "condition": condition,
        "seeds": seeds,
        "one": float(np.mean([measure(labels, few[seed].probabilities) for seed in seeds])),
        "all": float(np.mean([measure(labels, everything[seed].probabilities) for seed in seeds])),
        **gap._asdict(),
        "agreement": float(np.mean([np.mean(d["stopped"] == d["all"]) for d in draws])),
        "first": float(np.mean([np.mean(d["evaluations"] <= classes + 1) for d in draws])),
        "evaluations": float(np.mean([np.mean(d["evaluations"]) for d in draws])),
    }
