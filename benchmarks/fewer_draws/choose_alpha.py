"""Choose alpha of the predictive rule for the mean on validation errors, and judge the choice once on test errors.

    python -m benchmarks.fewer_draws.choose_alpha --fit VALIDATION.npz [--judge TEST.npz] [--alpha 0.2 0.02]

For each agreement that is asked for (0.99 and 0.999) alpha is the largest of some round numbers under which, on the
validation images, at most four fifths of what is allowed differ. Validation images are judged by a model of other
patients (cross-validation), and the draws are shuffled among neighbouring levels, many times: so the choice hangs
neither on the images of the fit nor on single draws, of which the order would always take the same. With ``--judge``
the model of all validation images and these alphas are replayed on that file; ``--alpha`` judges given ones instead.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import stdtr
from scipy.stats import binomtest
from sklearn.model_selection import GroupKFold

from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    PredictiveCurtailment,
    classify_errors,
    draw_scores,
    replay,
)
from monai_diffclf.storage import StoredErrors, load_errors

ALPHAS = (0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
AGREEMENTS = (0.99, 0.999)
SHARE = 0.8
NEIGHBOURS = (8, 20)


def shuffled(errors: DenoisingErrors, neighbours: int, rng: np.random.Generator) -> DenoisingErrors:
    """Draws exchanged among groups of neighbouring levels."""
    by_level = errors.log_snr.argsort().numpy()
    group = (np.arange(errors.num_draws) + rng.integers(neighbours)) // neighbours
    source = np.empty(errors.num_draws, dtype=int)
    source[by_level] = by_level[np.lexsort((rng.random(errors.num_draws), group))]
    return replace(errors, values=errors.values[:, :, source])


def curve(errors: DenoisingErrors, model: DifferenceModel, alphas: Sequence[float] = ALPHAS) -> np.ndarray:
    """For each alpha the evaluations spent, over those of all draws, and images that differ, summed: [A, 2].

    The rule at all alphas and looks at once, for two classes.
    """
    weights = torch.ones(errors.num_draws, dtype=torch.float64)
    forecast, rule = model.forecast(weights, errors.log_snr, choose=True), PredictiveCurtailment()
    scores = draw_scores(errors.select(forecast.order), "mean")
    x = scores[:, 0] - scores[:, 1]
    looks = np.array(rule.looks(errors.num_draws))
    totals = (x @ forecast.share.T).numpy()[:, looks - 1]
    squares = (x @ forecast.whiten.T).square().cumsum(1).numpy()[:, looks - 1]
    degrees = forecast.degrees + looks
    scale = np.sqrt(np.asarray(forecast.spread)[looks - 1] * (forecast.degrees + squares) / degrees)
    with np.errstate(divide="ignore"):
        chance = np.where(looks == errors.num_draws, 0.0, stdtr(degrees, -np.abs(totals) / scale))
    chance /= np.sqrt(looks / errors.num_draws)
    at = np.stack([(chance < alpha).argmax(1) for alpha in alphas])
    differ = np.sign(np.take_along_axis(totals, at.T, 1)) != np.sign(totals[:, -1:])
    return np.stack([looks[at].sum(1) / errors.num_draws, differ.sum(0)], 1)


def on_validation(stored: StoredErrors, repeats: int, folds: int, shuffles: int) -> dict[str, list[float]]:
    """Evaluations ratio and disagreement at each alpha, mean over folds, shuffles and repeats."""
    patients = np.unique([p or f"image {i}" for i, p in enumerate(stored.patients)], return_inverse=True)[1]
    total, images = np.zeros((len(ALPHAS), 2)), 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        for fit, held in GroupKFold(folds, shuffle=True, random_state=seed).split(patients, groups=patients):
            model = DifferenceModel.fit(stored.errors[torch.from_numpy(fit)], "mean")
            judged = stored.errors[torch.from_numpy(held)]
            for number in range(shuffles):
                total += curve(shuffled(judged, NEIGHBOURS[number % len(NEIGHBOURS)], rng), model)
                images += len(judged)
    ratio, differ = (total / images).T
    return {"alpha": list(ALPHAS), "evaluations_ratio": ratio.tolist(), "disagreement": differ.tolist()}


def choose(found: dict[str, list[float]], agreement: float) -> float:
    """The largest alpha under which few enough images differ."""
    allowed = SHARE * (1 - agreement)
    good = [a for a, differ in zip(found["alpha"], found["disagreement"], strict=True) if differ <= allowed]
    if not good:
        raise SystemExit(f"choose_alpha: no alpha of {ALPHAS} keeps the disagreement below {allowed:.2g}")
    return max(good)


def judge(stored: StoredErrors, model: DifferenceModel, alpha: float, shuffles: int) -> dict[str, Any]:
    """The rule replayed as it is used, and with the draws shuffled among neighbouring levels many times."""
    full = classify_errors(stored.errors, "mean")
    result = replay(stored.errors, PredictiveCurtailment(alpha, model), rule="mean")
    differ = int((result.predicted != full.predicted).sum())
    ratio = float(result.network_evaluations.double().mean() / full.network_evaluations.double().mean())
    rng = np.random.default_rng(0)
    orders = [shuffled(stored.errors, NEIGHBOURS[i % len(NEIGHBOURS)], rng) for i in range(shuffles)]
    other = np.mean([curve(errors, model, [alpha])[0] for errors in orders], axis=0) / len(full)
    return {
        "alpha": alpha,
        "images": len(full),
        "differ": differ,
        "agreement": 1 - differ / len(full),
        "differ_upper_limit": float(binomtest(differ, len(full)).proportion_ci(0.9, method="exact").high),
        "evaluations_ratio": ratio,
        "times_fewer": 1 / ratio,
        "shuffled": {"orders": shuffles, "agreement": 1 - other[1], "times_fewer": 1 / other[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=Path, required=True, help="validation errors of all draws, two classes")
    parser.add_argument("--judge", type=Path, help="test errors of all draws")
    parser.add_argument("--alpha", type=float, nargs="+", help="judge these instead of choosing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--shuffles", type=int, default=16)
    args = parser.parse_args()
    stored, report = load_errors(args.fit), dict[str, Any]()
    if args.alpha is None:
        report["validation"] = on_validation(stored, args.repeats, args.folds, args.shuffles)
        report["chosen"] = {str(agreement): choose(report["validation"], agreement) for agreement in AGREEMENTS}
    if args.judge is not None:
        test, model = load_errors(args.judge), DifferenceModel.fit(stored.errors, "mean")
        alphas = args.alpha or report["chosen"].values()
        report["judged"] = [judge(test, model, alpha, args.shuffles) for alpha in alphas]
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
