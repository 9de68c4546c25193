"""Explanations measured: our maps beside MONAI's on a ResNet-18, and counterfactuals, on phantoms with known lesions.

    python -m benchmarks.explanations.quality [--weights MODEL] [--resnet MODEL] [--images 300] [--output FILE]
        [--picture FILE]

Phantoms come from a seed of their own, which nothing was chosen on. Of all of them both classifiers' AUC and accuracy
are given; on those with a lesion every method explains the class "lesion": pointing game, average precision and IoU of
its maps against the mask, deletion and insertion under both classifiers, repeatability across seeds, and what random
weights leave of the map.
Counterfactuals make the lesion go. Error maps are also timed against classification alone. All values have 95 %
bootstrap intervals over images. Where a method has settings, those with the best average precision on phantoms of the
validation seed are taken; ours are as the inferer gives them, and ``map_settings`` says what other weightings and no
smoothing give. Writes ``benchmarks/results/explanations.json`` and ``docs/images/explanations.png``. What the bundle's
test seed gave while the method was developed is kept in ``benchmarks/results/explanations_development.json``.

The ResNet-18 is trained on the bundle's phantoms by ``benchmarks/explanations/phantom_resnet18.json`` over the
configuration of the bundle ``pneumonia_xray_resnet18``; its log is ``benchmarks/results/phantom_resnet18.log``.

The costly figures are of fewer images, in proportion to --images: --images 20 takes about a minute on one CPU core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import Scheduler

from benchmarks.bundles import BUNDLES, RESULTS, ROOT
from benchmarks.explanations.counterfactuals import measure_counterfactuals
from benchmarks.explanations.figure import draw_examples
from benchmarks.explanations.methods import MapMethod, make_methods, make_resnet
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.data import make_phantoms
from monai_diffclf.explain import (
    decision_map,
    deletion_insertion,
    map_average_precision,
    map_iou,
    map_rank_correlation,
    pointing_game,
    randomise_weights,
    smooth_map,
)
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.metrics import bootstrap_interval, roc_auc
from monai_diffclf.networks import load_weights
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import fit_calibration

BUNDLE = BUNDLES / "phantom_xray_diffusion"
TEST_SEED = 20261129  # of the phantoms of the tables; drawn after all settings of maps and counterfactuals were fixed
LESION = 1
Classify = Callable[[torch.Tensor], torch.Tensor]


def mean(values: Any, *, weights: Any) -> Any:
    """Mean of values [N] for each row of weights [R, N]."""
    return weights @ values / weights.sum(1)


def interval(values: Any) -> dict[str, float]:
    """Mean of one number an image, with its interval."""
    found = bootstrap_interval(mean, np.asarray(values, dtype=np.float64))
    return {name: float(getattr(found, name)) for name in ("value", "low", "high")}


def read_bundle(weights: Path) -> tuple[Bundle, torch.nn.Module]:
    """The phantom bundle's configuration, and its network with some weights."""
    config = open_bundle(BUNDLE, "train.json")
    return config, load_weights(config.get("denoiser"), weights)


def phantoms(count: int, seed: int, *, lesions_only: bool = False) -> dict[str, torch.Tensor]:
    """Images [n, 1, 32, 32] in [-1, 1], masks [n, 32, 32] and labels [n] of the first phantoms of a seed."""
    items = make_phantoms(count if not lesions_only else 3 * count + 20, seed=seed)
    items = [item for item in items if item["label"] == LESION or not lesions_only][:count]
    return {
        "images": torch.stack([torch.as_tensor(item["image"]) for item in items]) * 2 - 1,
        "masks": torch.stack([torch.as_tensor(item["mask"][0]) for item in items]).float(),
        "labels": torch.tensor([item["label"] for item in items]),
    }


def measure_classifier(scores: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """AUC and accuracy of probabilities [n, 2]."""
    right = (scores.argmax(1).cpu() == labels).double().numpy()
    auc = bootstrap_interval(roc_auc, labels.numpy(), scores[:, LESION].double().cpu().numpy(), strata=labels.numpy())
    return {
        "auc": {name: float(getattr(auc, name)) for name in ("value", "low", "high")},
        "accuracy": interval(right),
    }


def calibrated(
    scheduler: Scheduler, network: torch.nn.Module, data: dict[str, torch.Tensor], args: argparse.Namespace
) -> DiffusionClassifierInferer:
    """The classifier with few draws, and the temperature with which its probabilities say how sure it is."""
    settings = {"rule": "mean", "num_draws": args.few_draws, "weighting": args.weighting}
    images = data["images"].to(next(network.parameters()).device)
    probabilities = DiffusionClassifierInferer(scheduler, 2, **settings)(images, network).cpu()
    fitted = fit_calibration(probabilities, data["labels"], method="temperature") if len(images) >= 20 else None
    temperature = 1.0 if fitted is None else float(fitted.parameters["temperature"])
    return DiffusionClassifierInferer(scheduler, 2, temperature=temperature, **settings)


def measure_map_settings(
    network: torch.nn.Module, scheduler: Scheduler, images: torch.Tensor, masks: torch.Tensor, draws: int
) -> dict[str, Any]:
    """Maps of other weightings, smoothed as by default and not smoothed."""
    report, labels = {}, torch.full((len(images),), LESION, device=images.device)
    for weighting in ("min_snr", "uniform", "elbo"):
        settings = {"num_draws": draws, "map_weighting": weighting, "map_smoothing": 0}
        errors = DiffusionClassifierInferer(scheduler, 2, **settings).error_maps(images, network)
        maps = decision_map(errors, labels).cpu()
        for name, each in ((f"{weighting}, smoothed", smooth_map(maps)), (f"{weighting}, not smoothed", maps)):
            report[name] = {
                "pointing_game": interval(pointing_game(each, masks)),
                "average_precision": interval(map_average_precision(each, masks)),
            }
    return report


def measure_maps(
    method: MapMethod,
    images: torch.Tensor,
    masks: torch.Tensor,
    classifiers: dict[str, Classify],
    *,
    variant: dict[str, Any],
    few: int,
    steps: int,
) -> tuple[dict[str, Any], torch.Tensor]:
    """All figures of one method; the costly ones on the first ``few`` images. Also its maps."""
    maps = method.maps(images, LESION, **variant)
    values = {
        "pointing_game": pointing_game(maps, masks),
        "average_precision": map_average_precision(maps, masks),
        "iou_best_threshold": map_iou(maps, masks),
    }
    labels = torch.full((few,), LESION)
    for name, classify in classifiers.items():
        areas = deletion_insertion(images[:few], maps[:few], classify, classes=labels, steps=steps)
        values |= {f"deletion_{name}": areas.deletion, f"insertion_{name}": areas.insertion}
    if method.random:
        values["repeatability"] = map_rank_correlation(maps[:few], method.maps(images[:few], LESION, seed=1, **variant))
    random = randomise_weights(method.network, torch.Generator().manual_seed(0))
    of_random = method.maps(images[:few], LESION, network=random, **variant)
    values["correlation_with_random_weights"] = map_rank_correlation(maps[:few], of_random)
    report: dict[str, Any] = {name: interval(each) for name, each in values.items()}
    report["per_image"] = {"average_precision": values["average_precision"], "pointing_game": values["pointing_game"]}
    return {"settings": variant, **report}, maps


def time_ratio(
    network: torch.nn.Module, scheduler: Scheduler, images: torch.Tensor, *, draws: int, repeats: int
) -> dict[str, Any]:
    """Time of classification with error maps over that without, measured in turn."""
    inferer = DiffusionClassifierInferer(scheduler, 2, num_draws=draws)

    def seconds(error_maps: bool) -> float:
        # Time of the processor, where it is the processor that works: other work on the machine does not count.
        clock = time.perf_counter if images.is_cuda else time.process_time
        if images.is_cuda:
            torch.cuda.synchronize()
        start = clock()
        inferer.classify(images, network, error_maps=error_maps)
        if images.is_cuda:
            torch.cuda.synchronize()
        return clock() - start

    seconds(True)
    pairs = [(seconds(False), seconds(True)) for _ in range(repeats)]
    alone, mapped = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "images": len(images),
        "draws": draws,
        "device": images.device.type,
        "ratio": mapped / alone,
        "ratio_of_each_repeat": [b / a for a, b in pairs],
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=BUNDLE / "models" / "model.pt", help="of the diffusion model")
    parser.add_argument("--resnet", type=Path, help="weights of the ResNet-18; without them our maps alone")
    parser.add_argument("--resnet-stride", type=int, default=2, help="stride of its first convolution")
    parser.add_argument("--images", type=int, default=300, help="test phantoms, about half of them with a lesion")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="seed of the phantoms")
    parser.add_argument("--draws", type=int, default=51)
    parser.add_argument("--weighting", default="min_snr", help="of the noise levels in the decision")
    parser.add_argument("--few", type=int, help="lesions for deletion, insertion, repeatability, sanity (images / 15)")
    parser.add_argument("--few-draws", type=int, default=15, help="draws of the diffusion classifier on deleted images")
    parser.add_argument("--steps", type=int, default=8, help="steps of deletion and insertion")
    parser.add_argument("--tune-images", type=int, help="lesions of the validation seed for settings (images / 15)")
    parser.add_argument("--counterfactuals", type=int, help="lesions to make counterfactuals of (images / 7)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "explanations.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "explanations.png")
    args = parser.parse_args(arguments)
    for name, share in (("few", 15), ("tune_images", 15), ("counterfactuals", 7)):
        if getattr(args, name) is None:
            setattr(args, name, max(2, args.images // share))
    for name in ("images", "draws", "few", "few_draws", "tune_images", "counterfactuals", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(args, name)}")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, diffusion = read_bundle(args.weights)
    diffusion.to(device)
    scheduler, seeds = config.get("scheduler"), config.get("phantom_seeds")
    resnet = load_weights(make_resnet(args.resnet_stride), args.resnet).to(device) if args.resnet else None
    settings = {"num_draws": args.draws, "weighting": args.weighting}
    data = phantoms(args.images, args.seed)
    images = data["images"].to(device)
    report: dict[str, Any] = {
        "data": {"phantom_seed": args.seed, "images": len(images), "lesions": int(data["labels"].sum())},
        "diffusion": {**settings, "rule": "mean"},
        "classifiers": {},
    }

    inferer = DiffusionClassifierInferer(scheduler, 2, rule="mean", **settings)
    few_draws = calibrated(scheduler, diffusion, phantoms(2 * args.tune_images, seeds["validation"]), args)
    classifiers: dict[str, Classify] = {"diffusion": lambda x: few_draws(x, diffusion)}
    report["classifiers"]["diffusion"] = measure_classifier(inferer(images, diffusion), data["labels"])
    if resnet is not None:
        classifiers["resnet18"] = lambda x: torch.softmax(resnet(x).detach(), 1)
        report["classifiers"]["resnet18"] = measure_classifier(classifiers["resnet18"](images), data["labels"])

    lesion = data["labels"] == LESION
    clear, images, masks = images[~lesion.to(device)], images[lesion.to(device)], data["masks"][lesion]
    tune = phantoms(args.tune_images, seeds["validation"], lesions_only=True)
    report["map_settings"] = measure_map_settings(diffusion, scheduler, images, masks, args.draws)
    few, report["maps"], per_image, shown = min(args.few, len(images)), {}, {}, {}
    for method in make_methods(diffusion, scheduler, resnet, **settings):
        variant = method.best_variant(tune["images"].to(device), tune["masks"], LESION)
        report["maps"][method.name], shown[method.name] = measure_maps(
            method, images, masks, classifiers, variant=variant, few=few, steps=args.steps
        )
        per_image[method.name] = report["maps"][method.name].pop("per_image")
        print(method.name, json.dumps(report["maps"][method.name]))
    ours = per_image["error map"]
    report["gain_of_error_map"] = {
        name: {metric: interval(ours[metric] - other[metric]) for metric in ours}
        for name, other in per_image.items()
        if other is not ours
    }

    count = min(args.counterfactuals, len(images))
    report["counterfactuals"], edited = measure_counterfactuals(
        images[:count], masks[:count], clear, diffusion, scheduler, few_draws, resnet
    )
    report["cost"] = time_ratio(diffusion, scheduler, images[:8], draws=args.draws, repeats=5)
    print(json.dumps(report["counterfactuals"]), json.dumps(report["cost"]), sep="\n")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    replace_text(args.output, json.dumps(report, indent=1) + "\n")
    draw_examples(args.picture, images.cpu(), masks, shown, edited)


if __name__ == "__main__":
    main()
