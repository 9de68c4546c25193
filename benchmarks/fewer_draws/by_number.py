"""Accuracy against the number of draws: at the best levels, along the schedule, and with a stopping rule.

    python -m benchmarks.fewer_draws.by_number --fit VALIDATION.npz [--judge TEST.npz] [--output FILE]

Both are errors that an evaluation stores. Levels, temperature, stopping rule and its model are fitted to the first
file. Without ``--judge`` all numbers are of images that were held back in turn (nested cross-validation by patient);
with it they are of the second file, which is looked at once. ``--weighting`` names a weighting of the draws, or a JSON
file with ``edges`` and ``weights`` of learned ones. Macro AUC (a class against the others, mean over the classes) and
accuracy, for one draw the mean over the draws that stand for it; ``difference_from_all`` with 95 % intervals by
resampling patients. Writes or prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from monai_diffclf.classification import (
    DenoisingErrors,
    FewDraws,
    LevelWeights,
    classify_errors,
    draw_weights,
    few_draws_auc,
    fit_few_draws,
    fit_stopping,
    replay,
)
from monai_diffclf.classification.draw_weights import Weighting
from monai_diffclf.classification.few_draws import macro_auc, stand_ins
from monai_diffclf.storage import StoredErrors, load_errors

NUMBERS = (1, 2, 4)


def weighted_scores(errors: DenoisingErrors, weighting: Weighting) -> np.ndarray:
    """What each draw gives each class [n, K, N]."""
    weights = draw_weights(errors, weighting).cpu().numpy()
    return -errors.values.double().cpu().numpy() * weights


def patient_codes(stored: StoredErrors) -> np.ndarray:
    """A number for each patient, or image where they are unknown [n]."""
    names = stored.patients if all(stored.patients) else stored.keys
    return np.unique(names, return_inverse=True)[1]


def figures(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Macro AUC and accuracy of the mean over sets of draws, of scores [n, K, R], mean over the sets."""
    right = (scores.argmax(1) == labels[:, None]).mean()
    return {"auc": float(macro_auc(scores, labels).mean()), "accuracy": float(right)}


def along_schedule(scores: np.ndarray, labels: np.ndarray, log_snr: np.ndarray, bands: int = 12) -> list[dict]:
    """Figures of one draw in bands of the log-SNR, from the least noise to the most."""
    parts = np.array_split(np.argsort(-log_snr, kind="stable"), min(bands, len(log_snr)))
    return [
        {"log_snr": float(log_snr[part].mean()), "draws": len(part), **figures(scores[:, :, part], labels)}
        for part in parts
    ]


def first_draws(scores: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Figures of the first 1, 2, 4, ... draws of the whole schedule, as an evaluation of so few would make them."""
    numbers = [2**i for i in range(20) if 2**i < scores.shape[2]] + [scores.shape[2]]
    return {str(n): figures(scores[:, :, :n].mean(2, keepdims=True), labels) for n in numbers}


def difference(
    few: np.ndarray, all_draws: np.ndarray, labels: np.ndarray, patients: np.ndarray, resamples: int = 1000
) -> dict[str, float]:
    """AUC of few draws [n, K, R], mean over R, less that of all [n, K, 1], with its interval over patients."""
    rng, members = np.random.default_rng(0), [np.flatnonzero(patients == p) for p in np.unique(patients)]

    def gap(images: np.ndarray) -> float:
        own = labels[images]
        return float(macro_auc(few[images], own).mean() - macro_auc(all_draws[images], own)[0])

    drawn = []
    while len(drawn) < resamples:
        images = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        if len(np.unique(labels[images])) == few.shape[1]:
            drawn.append(gap(images))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": gap(np.arange(len(labels))), "low": float(low), "high": float(high)}


def at_levels(fit: StoredErrors, judged: StoredErrors, weighting: Weighting, resamples: int = 1000) -> dict[str, Any]:
    """One draw and a few at the levels that ``fit`` chooses, beside all draws, on ``judged``."""
    scores, labels = weighted_scores(judged.errors, weighting), judged.labels.numpy()
    log_snr, patients = judged.errors.log_snr.double().numpy(), patient_codes(judged)
    everything = scores.mean(2, keepdims=True)
    found: dict[str, Any] = {"all": figures(everything, labels)}
    for count in NUMBERS:
        few: FewDraws = fit_few_draws(fit.errors, fit.labels, count, weighting=weighting)
        sums = np.stack([scores[:, :, own].mean(2) for own in stand_ins(few.log_snr, log_snr)], 2)
        gap = difference(sums, everything, labels, patients, resamples)
        found[str(count)] = {**few.to_dict(), **figures(sums, labels), "difference_from_all": gap}
    return found


def stopped(
    fit: StoredErrors, judged: StoredErrors, weighting: Weighting, risks: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """The stopping rule that ``fit`` chooses for each risk, replayed on ``judged``."""
    found: dict[str, dict[str, Any]] = {}
    full = classify_errors(judged.errors, "mean", weighting=weighting)
    for risk in risks:
        try:
            chosen = fit_stopping(fit.errors, risk=risk, weighting=weighting, patients=fit.patients)
        except ValueError as error:
            found[f"{risk:g}"] = {"not_fitted": str(error)}
            continue
        settings = {"alpha": chosen.stopping.alpha, "spending": chosen.stopping.spending}
        held = {"disagreement": chosen.disagreement, "evaluations": chosen.evaluations, "at_once": chosen.first_draw}
        entry: dict[str, Any] = {**settings, "of_fit_cross_fitted": held}
        if judged is not fit:
            result = replay(judged.errors, chosen.stopping, rule="mean", weighting=weighting)
            differ, spent = int((result.predicted != full.predicted).sum()), result.network_evaluations.double()
            centred = -np.stack([result.mean_error.numpy(), full.mean_error.numpy()], 2)
            area = macro_auc(centred, judged.labels.numpy())
            entry |= {
                "images": len(full),
                "differ": differ,
                "agreement": 1 - differ / len(full),
                "differ_upper_limit": float(binomtest(differ, len(full)).proportion_ci(0.9, method="exact").high),
                "evaluations": float(spent.mean()),
                "evaluations_of_all": judged.errors.num_draws * judged.errors.num_classes,
                "at_once": float((spent <= judged.errors.num_classes + 1).double().mean()),
                "auc": float(area[0]),
                "auc_of_all": float(area[1]),
            }
        found[f"{risk:g}"] = entry
    return found


def report(
    fit: StoredErrors,
    judged: StoredErrors | None,
    weighting: Weighting,
    risks: Sequence[float],
    resamples: int = 1000,
) -> dict:
    """All of it."""
    shown = fit if judged is None else judged
    scores, labels = weighted_scores(shown.errors, weighting), shown.labels.numpy()
    nested = {
        str(count): few_draws_auc(fit.errors, fit.labels, count, weighting=weighting, patients=fit.patients)
        for count in NUMBERS
    }
    made = {
        "images": len(labels),
        "num_draws": shown.errors.num_draws,
        "num_classes": shown.errors.num_classes,
        "first_draws": first_draws(scores, labels),
        "one_draw_by_level": along_schedule(scores, labels, shown.errors.log_snr.double().numpy()),
        "nested_on_fit": nested,
        "stopping": stopped(fit, shown, weighting, risks),
    }
    return made if judged is None else {**made, "at_chosen_levels": at_levels(fit, judged, weighting, resamples)}


def read_weighting(text: str) -> Weighting:
    """A name, or learned weights from a file, by themselves or under ``level_weights``."""
    if not text.endswith(".json"):
        return text
    content = json.loads(Path(text).read_text(encoding="utf-8"))
    return LevelWeights.from_dict(content.get("level_weights", content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=Path, required=True, help="validation errors of all draws")
    parser.add_argument("--judge", type=Path, help="test errors of the same network and draws")
    parser.add_argument("--weighting", default="uniform", help="uniform, elbo, min_snr, or a file of learned weights")
    parser.add_argument("--risk", type=float, nargs="+", default=[0.01], help="share that may differ by stopping")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    fit = load_errors(args.fit)
    network = {"network": fit.provenance["network"]} if "network" in fit.provenance else None
    judged = None if args.judge is None else load_errors(args.judge, provenance=network)
    made = {"fit": str(args.fit.name), "judge": None if args.judge is None else str(args.judge.name)}
    made |= report(fit, judged, read_weighting(args.weighting), args.risk)
    text = json.dumps(made, indent=1) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        args.output.write_text(text, encoding="utf-8")
        print(args.output)


if __name__ == "__main__":
    main()
