"""What noise levels are worth, and how few draws keep the accuracy of 501: replayed on the bundle's stored errors.

    python -m benchmarks.fewer_draws.levels [--bundle bundles/pneumonia_xray_diffusion] [--dataset_dir DATA]

Writes ``benchmarks/results/fewer_draws.json``: the AUC of the draws in each eighth of the noise levels; what learned
weights gain; and ways to spend few draws, each with its evaluations over those of 501 draws, its agreement with the
class of 501 draws and the difference in accuracy from it, with 95 % intervals over patients. What was learned
(``configs/decision.json``) was learned on validation patients.

Errors under the learned sampling of levels are kept in ``docs/evaluation/errors_SPLIT_sampled_RULE.npz``; where they
are missing, the images of ``--dataset_dir`` are evaluated again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import (
    Classification,
    PredictiveCurtailment,
    classify_errors,
    draw_scores,
    replay,
)
from monai_diffclf.engines import compute_dataset_errors
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.metrics import bootstrap_interval, paired_difference_interval, roc_auc
from monai_diffclf.storage import LearnedDecision, StoredErrors, load_decision, load_errors, rows_of_images

MARGIN = 0.005


def margin_of(result: Classification, rule: str) -> np.ndarray:
    """Score of class 1 over class 0 [n]."""
    score = -result.mean_error if rule == "mean" else result.vote_share
    return (score[:, 1] - score[:, 0]).double().numpy()


def interval(values: Any) -> dict[str, float]:
    return {name: float(getattr(values, name)) for name in ("value", "low", "high")}


def auc_by_level(stored: StoredErrors, rule: str, parts: int = 8) -> list[dict[str, float]]:
    """AUC of the draws of each part of the noise levels alone, least noise first."""
    scores = draw_scores(stored.errors, rule)
    lead = scores[:, 1] - scores[:, 0]
    rows = []
    for draws in stored.errors.log_snr.argsort(descending=True).chunk(parts):
        snr = stored.errors.log_snr[draws]
        auc = bootstrap_interval(
            roc_auc, stored.labels.numpy(), lead[:, draws].mean(1).numpy(), groups=stored.patients, num_resamples=1000
        )
        rows.append(
            {"log_snr_from": round(float(snr.max()), 2), "log_snr_to": round(float(snr.min()), 2), **interval(auc)}
        )
    return rows


def weight_gain(stored: StoredErrors, rule: str, learned: LearnedDecision) -> dict[str, Any]:
    """AUC with equal and with learned weights."""
    equal = margin_of(classify_errors(stored.errors, rule), rule)
    weighted_rule = "mean" if rule == "mean" else "weighted_vote"
    weighted = margin_of(classify_errors(stored.errors, weighted_rule, weighting=learned.level_weights), weighted_rule)
    labels, settings = stored.labels.numpy(), {"groups": stored.patients, "num_resamples": 1000}
    return {
        "equal": interval(bootstrap_interval(roc_auc, labels, equal, **settings)),
        "learned": interval(bootstrap_interval(roc_auc, labels, weighted, **settings)),
        "gain": interval(paired_difference_interval(roc_auc, labels, weighted, equal, **settings)),
    }


def compare(stored: StoredErrors, result: Classification, full: Classification, name: str) -> dict[str, Any]:
    """One way to spend draws, beside the class of 501 draws."""
    right = (result.predicted == stored.labels).double().numpy()
    before = (full.predicted == stored.labels).double().numpy()
    gain = bootstrap_interval(lambda a: float(a.mean()), right - before, groups=stored.patients, num_resamples=2000)
    ratio = float(result.network_evaluations.double().mean() / full.network_evaluations.double().mean())
    return {
        "name": name,
        "evaluations": float(result.network_evaluations.double().mean()),
        "evaluations_ratio": ratio,
        "times_fewer": 1 / ratio,
        "agreement": float((result.predicted == full.predicted).double().mean()),
        "accuracy": float(right.mean()),
        "accuracy_difference": interval(gain),
        "not_worse_than_margin": bool(gain.low > -MARGIN),
    }


def ways(
    stored: StoredErrors, sampled: StoredErrors, rule: str, learned: LearnedDecision, weighted: LearnedDecision
) -> list[dict[str, Any]]:
    """Ways to spend few draws; ``weighted`` is what was learned for the rule with weights."""
    errors, full = stored.errors, classify_errors(stored.errors, rule)
    rows = [compare(stored, full, full, "all 501 draws")]
    for draws in (11, 33, 51):
        rows.append(compare(stored, classify_errors(errors.first(draws), rule), full, f"first {draws} draws"))
    for draws in (11, 33, 51):
        few = classify_errors(sampled.errors.first(draws), rule)
        rows.append(compare(stored, few, full, f"first {draws} draws, sampled levels"))
    weighted_rule = "mean" if rule == "mean" else "weighted_vote"
    weighing = {"rule": weighted_rule, "weighting": weighted.level_weights}
    for alpha in (0.01, 0.02, 0.05, 0.2):
        early = PredictiveCurtailment(alpha, learned.model)
        rows.append(compare(stored, replay(errors, early, rule=rule), full, f"predictive {alpha:g}"))
        few = replay(sampled.errors, early, rule=rule)
        rows.append(compare(stored, few, full, f"predictive {alpha:g}, sampled levels"))
        rows.append(
            compare(
                stored,
                replay(errors, PredictiveCurtailment(alpha, weighted.model), **weighing),
                full,
                f"predictive {alpha:g}, learned weights",
            )
        )
        rows.append(
            compare(
                stored,
                replay(sampled.errors, PredictiveCurtailment(alpha, weighted.model), **weighing),
                full,
                f"predictive {alpha:g}, sampled levels, learned weights",
            )
        )
    return rows


def sampled_errors(bundle: Path, split: str, rule: str, dataset_dir: str | None, num_draws: int = 51) -> StoredErrors:
    """Errors under the learned sampling of levels, computed where they are not kept."""
    path = bundle / "docs" / "evaluation" / f"errors_{split}_sampled_{rule}.npz"
    if path.is_file():
        return load_errors(path)
    if dataset_dir is None:
        raise SystemExit(f"levels: {path} is missing; name the data set with --dataset_dir to compute it")
    settings = {"checkpoint": str(bundle / "models" / "model.pt"), "dataset_dir": dataset_dir, "progress": False}
    config = open_bundle(bundle, "train.json", "evaluate.json", **settings)
    network = config.get("evaluate#network")
    dataset = config.get("test#dataset" if split == "test" else "validate#dataset")
    inferer = DiffusionClassifierInferer(
        config.get("scheduler"),
        config.get("num_classes"),
        num_draws=num_draws,
        noise_levels=load_decision(bundle / "configs" / "decision.json", rule).level_sampling,
        conditioning=config.get("conditioning"),
    )
    stored = compute_dataset_errors(dataset, network, inferer=inferer, description=f"{split}, sampled for the {rule}")
    stored.save(path)
    return stored


def in_order_of(stored: StoredErrors, reference: StoredErrors) -> StoredErrors:
    """The images of a file in the order of another one's."""
    labels = {"labels": reference.labels.numpy(), "table_labels": stored.labels.numpy()}
    index = torch.from_numpy(rows_of_images(reference.keys, stored.keys, **labels, what="sampled errors"))
    return replace(stored, errors=stored.errors[index], labels=reference.labels, keys=reference.keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=BUNDLES / "pneumonia_xray_diffusion")
    parser.add_argument("--dataset_dir", help="the bundle's data set, where sampled errors are missing")
    parser.add_argument("--output", type=Path, default=RESULTS / "fewer_draws.json")
    args = parser.parse_args()
    report: dict[str, Any] = {"margin": MARGIN}
    for split in ("validation", "test"):
        stored = load_errors(args.bundle / "docs" / "evaluation" / f"errors_{split}_draws_501.npz")
        for rule in ("vote", "mean"):
            learned, weighted = (
                load_decision(args.bundle / "configs" / "decision.json", name)
                for name in (rule, "mean" if rule == "mean" else "weighted_vote")
            )
            sampled = in_order_of(sampled_errors(args.bundle, split, rule, args.dataset_dir), stored)
            report.setdefault(split, {})[rule] = {
                "auc_by_level": auc_by_level(stored, rule),
                "weights": weight_gain(stored, rule, learned),
                "ways": ways(stored, sampled, rule, learned, weighted),
            }
            for row in report[split][rule]["ways"]:
                difference = row["accuracy_difference"]
                low, value, high = (f"{difference[bound]:+.4f}" for bound in ("low", "value", "high"))
                print(
                    f"{split:10s} {rule:4s} {row['name']:50s} 1/{row['times_fewer']:<6.2f} "
                    f"agrees {row['agreement']:.4f} accuracy {value} ({low} to {high})"
                )
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
