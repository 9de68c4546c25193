"""How well volumes are classified and explained: diffusion, ResNet-18 in 3D and a linear model, on fresh phantoms.

    python -m benchmarks.volumes.compare --resnet FOLDER [FOLDER ...] [--weights MODEL] [--test NUMBER] [--output FILE]

**Protocol**, written before a test volume was drawn. The test set is the first `TEST_COUNT` volume phantoms of the seed
`TEST_SEED`, which nothing was chosen or tried on; it is classified once. Chosen on the validation phantoms of the
bundle (seed 11) alone: the weighting of the mean among `WEIGHTINGS`, the learning rate of the ResNet-18 among the
trainings that are named (by the AUC of their best epoch), the strength C of the linear model among `STRENGTHS`, and,
for the bundle's probabilities, which no figure here rests on, the temperature with the least log-loss. The
diffusion classifier decides by the mean error of `NUM_DRAWS` draws, as in the bundle, seed 0; its score is the
difference of the two classes' mean errors. The linear model is logistic regression with an L2 penalty on all voxels of
the bundle's training phantoms, solved in the space that these span, which is the same. The pointing game counts the
test volumes with a lesion in which the highest voxel of the map of "lesion", as the inferer gives it by default, lies
in the mask. Intervals are of 95 % by resampling volumes within their class. To reach: AUC `AUC_TO_REACH`, not below the
ResNet-18's by more than `BELOW_RESNET`, pointing game `POINTING_TO_REACH`, the linear model below `LINEAR_LIMIT`.

Volumes of seed 20261201 were opened before, for weights that had seen two slices of a volume at a time
(``volumes_two_slices.json``). As their figures led to the training on whole volumes, it is judged on others. With a
result file the program refuses to run.

The ResNet-18 (MONAI's, half as wide: at full resolution of its first layers it fits the same minutes) is trained on the
same phantoms with moving average, the same augmentation and bfloat16 by ``phantom_volume_resnet18.json`` over the
configuration of the bundle ``pneumonia_xray_resnet18``. Writes ``benchmarks/results/volumes.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import resnet18
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import classify_errors
from monai_diffclf.data import make_volume_phantoms
from monai_diffclf.explain import decision_map, pointing_game
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.inferers.learned_levels import Levels, learned_levels
from monai_diffclf.metrics import bootstrap_interval, paired_difference_interval, roc_auc
from monai_diffclf.networks import load_weights, network_hash
from monai_diffclf.storage.atomic_file import replace_text

BUNDLE = BUNDLES / "phantom_volume_diffusion"
TEST_SEED, TEST_COUNT, NUM_DRAWS = 20261202, 300, 25
WEIGHTINGS = ("learned", "min_snr", "uniform")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
TEMPERATURES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8, 1.1, 1.6)
AUC_TO_REACH, BELOW_RESNET, POINTING_TO_REACH, LINEAR_LIMIT = 0.93, 0.02, 0.9, 0.85
Phantoms = dict[str, torch.Tensor]


def phantoms(count: int, seed: int) -> Phantoms:
    """Volumes [n, 1, 32, 32, 32] in [-1, 1], labels [n] and masks [n, 32, 32, 32]."""
    items = make_volume_phantoms(count, seed=seed, progress=True)
    return {
        "images": torch.stack([torch.as_tensor(item["image"]) for item in items]) * 2 - 1,
        "labels": torch.tensor([item["label"] for item in items]),
        "masks": torch.stack([torch.as_tensor(item["mask"][0]) for item in items]),
    }


def interval(found: Any) -> dict[str, float]:
    """An interval as plain numbers."""
    return {name: float(getattr(found, name)) for name in ("value", "low", "high")}


def auc(data: Phantoms, scores: NDArray[np.float64]) -> dict[str, float]:
    """AUC with its interval."""
    labels = data["labels"].numpy()
    return interval(bootstrap_interval(roc_auc, labels, scores, strata=labels))


def margins(errors: Any, weighting: Any) -> NDArray[np.float64]:
    """Scores [n] of "lesion" from stored errors: how much smaller its mean error is."""
    means = classify_errors(errors, "mean", weighting=weighting).mean_error
    return np.asarray((means[:, 0] - means[:, 1]).cpu().double())


def log_losses(errors: Any, levels: Levels, labels: NDArray[np.int64]) -> dict[float, float]:
    """Log-loss of the probabilities under each of `TEMPERATURES`."""
    found = {}
    for factor in TEMPERATURES:
        temperature = factor * levels.temperature
        result = classify_errors(errors, "mean", weighting=levels.weighting, temperature=temperature)
        found[factor] = float(log_loss(labels, result.probabilities.double().cpu()))
    return found


def resnet_scores(run: Path, data: Phantoms, device: torch.device) -> NDArray[np.float64]:
    """Logits of "lesion" less those of "clear" [n]."""
    network = resnet18(
        spatial_dims=3,
        n_input_channels=1,
        num_classes=2,
        conv1_t_size=3,
        conv1_t_stride=2,
        no_max_pool=True,
        widen_factor=0.5,
    )
    network = load_weights(network, run / "model.pt").to(device).eval()
    with torch.inference_mode():
        logits = torch.cat([network(part.to(device)).cpu() for part in data["images"].split(32)])
    return np.asarray((logits[:, 1] - logits[:, 0]).double())


def linear_scores(train: Phantoms, *others: Phantoms) -> dict[float, list[NDArray[np.float64]]]:
    """Scores of each of the other sets under each strength C."""
    mean = train["images"].flatten(1).mean(0)
    voxels = train["images"].flatten(1) - mean
    # With an L2 penalty the weights lie in the span of the training volumes: its coordinates are enough.
    values, vectors = torch.linalg.eigh((voxels @ voxels.T).double())
    kept = values > 1e-8 * values.max()
    project = vectors[:, kept] / values[kept].sqrt()
    inside = [(((d["images"].flatten(1) - mean) @ voxels.T).double() @ project).numpy() for d in (train, *others)]
    found = {}
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=500).fit(inside[0], train["labels"].numpy())
        found[strength] = [np.asarray(model.decision_function(each)) for each in inside[1:]]
    return found


def best(aucs: dict[Any, float]) -> Any:
    """The name with the highest AUC on validation."""
    return max(aucs, key=lambda name: aucs[name])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=BUNDLE / "models" / "model.pt", help="of the diffusion model")
    parser.add_argument("--resnet", type=Path, nargs="+", required=True, help="folders of trainings of the ResNet-18")
    parser.add_argument("--test", type=int, default=TEST_COUNT, help="test volumes; fewer for a trial with --seed")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="seed of the test volumes")
    parser.add_argument("--output", type=Path, default=RESULTS / "volumes.json")
    args = parser.parse_args(arguments)
    if args.output.exists():
        raise SystemExit(f"{args.output} is there: the test volumes were opened already; give another file")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bundle = open_bundle(BUNDLE, "train.json", progress=False)
    counts, seeds = bundle.get("num_images"), bundle.get("phantom_seeds")
    network = load_weights(bundle.get("denoiser"), args.weights).to(device).eval()
    inferer = DiffusionClassifierInferer(
        bundle.get("scheduler"), 2, num_draws=NUM_DRAWS, rule="mean", weighting="min_snr", batch_size=32
    )
    levels = {name: learned_levels(name, 1.0, args.weights) for name in WEIGHTINGS}

    validation = phantoms(counts["validation"], seeds["validation"])
    labels = validation["labels"].numpy()
    errors = inferer.compute_errors(validation["images"].to(device), network).to("cpu")
    by_weighting = {name: float(roc_auc(labels, margins(errors, each.weighting))) for name, each in levels.items()}
    by_training = {
        run.name: float(roc_auc(labels, resnet_scores(run, validation, device))) for run in sorted(args.resnet)
    }

    test = phantoms(args.test, args.seed)
    linear = linear_scores(phantoms(counts["train"], seeds["train"]), validation, test)
    by_strength = {strength: float(roc_auc(labels, scores[0])) for strength, scores in linear.items()}
    chosen = {"weighting": best(by_weighting), "resnet18": best(by_training), "linear": best(by_strength)}
    result = inferer.classify(test["images"].to(device), network, error_maps=True)
    scores = {
        "diffusion": margins(result.errors.to("cpu"), levels[chosen["weighting"]].weighting),
        "resnet18": resnet_scores(next(run for run in args.resnet if run.name == chosen["resnet18"]), test, device),
        "linear": linear[chosen["linear"]][1],
    }
    votes = np.asarray(classify_errors(result.errors.to("cpu"), "vote").vote_share[:, 1].double())
    lesion = test["labels"] == 1
    maps = decision_map(result.error_maps.cpu()[lesion], torch.ones(int(lesion.sum()), dtype=torch.long))
    hits = pointing_game(maps, test["masks"][lesion])
    found = {name: auc(test, each) for name, each in scores.items()}
    gap = paired_difference_interval(roc_auc, test["labels"].numpy(), scores["diffusion"], scores["resnet18"])
    pointing = interval(bootstrap_interval(np.mean, hits))
    report = {
        "data": {"phantom_seed": args.seed, "volumes": args.test, "lesions": int(lesion.sum()), "training": counts},
        "network": network_hash(network),
        "draws": NUM_DRAWS,
        "chosen_on_validation": {
            "weighting": by_weighting,
            "log_loss_by_temperature": log_losses(errors, levels[chosen["weighting"]], labels),
            "resnet18": by_training,
            "linear": {str(strength): value for strength, value in by_strength.items()},
            "chosen": {name: str(value) for name, value in chosen.items()},
        },
        "auc": {**found, "diffusion, vote": auc(test, votes)},
        "diffusion_less_resnet18": interval(gap),
        "pointing_game": pointing,
        "reached": {
            "auc": found["diffusion"]["value"] >= AUC_TO_REACH,
            "resnet18": interval(gap)["value"] >= -BELOW_RESNET,
            "pointing_game": pointing["value"] >= POINTING_TO_REACH,
            "linear": found["linear"]["value"] < LINEAR_LIMIT,
        },
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    replace_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
