"""Learn from a bundle's validation errors how to spend draws: level sampling, level weights, model for early stopping.

    python -m tools.fit_decision --bundle bundles/pneumonia_xray_diffusion --errors ERRORS --dataset_dir DATA

Writes ``configs/decision.json`` of the bundle. ERRORS are validation errors with all draws (``save_errors``); their
patients must be in neither training nor test set. DATA is the bundle's data set: mirrored noise is measured on its
validation images. Prints the gain of the weights in nested cross-validation: folds that choose them are never judged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.bundles import read_config
from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    LevelSampling,
    VoteModel,
    classify_errors,
    fit_level_sampling,
    fit_level_weights,
)
from monai_diffclf.engines import compute_dataset_errors
from monai_diffclf.inferers import DiffusionClassifierInferer, provenance
from monai_diffclf.networks import network_hash
from monai_diffclf.storage import LearnedDecision, StoredErrors, load_errors, save_decision

RULES = ("mean", "vote", "weighted_vote")


def auc(errors: DenoisingErrors, labels: torch.Tensor, rule: str, weighting: Any) -> float:
    """Area under the ROC curve, by the mean over classes of one against the rest."""
    result = classify_errors(errors, rule, weighting=weighting)
    score = -result.mean_error if rule == "mean" else result.vote_share
    if score.shape[1] == 2:
        return float(roc_auc_score(labels, score[:, 1] - score[:, 0]))
    return float(np.mean([roc_auc_score(labels == k, score[:, k]) for k in range(score.shape[1])]))


def nested_gain(stored: StoredErrors, rule: str, repeats: int = 5) -> dict[str, float]:
    """AUC of equal and of learned weights, the latter learned without the fold that they are judged on."""
    labels, patients = stored.labels.numpy(), np.asarray(stored.patients)
    groups = np.unique(patients, return_inverse=True)[1] if all(stored.patients) else np.arange(len(labels))
    scored = "vote" if rule == "weighted_vote" else rule
    equal, learned = [], []
    for seed in range(repeats):
        for fit, held in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups):
            inner, outer = torch.from_numpy(fit), torch.from_numpy(held)
            names = [str(group) for group in groups[fit]]
            weights = fit_level_weights(stored.errors[inner], stored.labels[inner], scored, patients=names)
            equal.append(auc(stored.errors[outer], stored.labels[outer], rule, "uniform"))
            learned.append(auc(stored.errors[outer], stored.labels[outer], rule, weights))
    return {"equal": float(np.mean(equal)), "learned": float(np.mean(learned)), "folds": len(equal)}


def measure(bundle: Path, dataset_dir: str, num_parts: int, num_draws: int) -> tuple[DenoisingErrors, str]:
    """Errors of the bundle's validation images with mirrored noise at all levels, and the network's hash.

    They are kept in ``docs/evaluation`` and made again only for another network or other draws.
    """
    settings = {"checkpoint": str(bundle / "models" / "model.pt"), "dataset_dir": dataset_dir, "progress": False}
    config = read_config(bundle, "train.json", "evaluate.json", **settings)
    network = config.get_parsed_content("evaluate#network")
    dataset = config.get_parsed_content("validate#dataset")
    inferer = DiffusionClassifierInferer(
        config.get_parsed_content("scheduler"),
        config.get_parsed_content("num_classes"),
        num_draws=num_draws,
        conditioning=config.get_parsed_content("conditioning"),
        noise_levels=LevelSampling([1.0] * num_parts, [True] * num_parts),
    )
    path, made_by = bundle / "docs" / "evaluation" / "errors_validation_mirrored.npz", provenance(inferer, network)
    if path.is_file() and load_errors(path).provenance == made_by:
        return load_errors(path).errors, network_hash(network)
    stored = compute_dataset_errors(dataset, network, inferer=inferer, description="mirrored noise")
    stored.save(path)
    return stored.errors, network_hash(network)


def learn(stored: StoredErrors, rule: str, mirrored: DenoisingErrors, network: str, num_parts: int) -> LearnedDecision:
    """Model, sampling and weights for one rule."""
    scored = "vote" if rule == "weighted_vote" else rule
    weights = fit_level_weights(stored.errors, stored.labels, scored, patients=stored.patients)
    weighting = weights if rule == "weighted_vote" else "uniform"
    return LearnedDecision(
        VoteModel.fit(stored.errors) if rule == "vote" else DifferenceModel.fit(stored.errors, scored),
        fit_level_sampling(stored.errors, scored, weighting=weighting, mirrored=mirrored, num_parts=num_parts),
        weights,
        network,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--errors", type=Path, required=True)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--parts", type=int, default=8, help="parts of the schedule")
    parser.add_argument("--mirrored-draws", type=int, default=64, help="draws an image to measure mirrored noise")
    args = parser.parse_args()
    stored = load_errors(args.errors)
    mirrored, network = measure(args.bundle, args.dataset_dir, args.parts, args.mirrored_draws)
    decisions = {rule: learn(stored, rule, mirrored, network, args.parts) for rule in RULES}
    nested = {rule: nested_gain(stored, rule) for rule in RULES}
    notes = {"images": len(stored.keys), "num_draws": stored.errors.num_draws, "nested_auc": nested}
    save_decision(args.bundle / "configs" / "decision.json", decisions, notes)
    print(json.dumps(notes, indent=1))


if __name__ == "__main__":
    main()
