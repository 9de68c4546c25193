"""What the contrastive term does to a model, on phantoms with known lesions: draws needed, maps, and the rest.

    python -m benchmarks.accuracy.contrastive [--steps 300] [--weights 3] [--images 300] [--output FILE]

Compares the shipped weights of ``phantom_xray_diffusion``, the same trained on for some steps without the term (which
says what the steps alone do), and with it at each weight. Training phantoms are the bundle's; all figures are of
phantoms of a seed of its own, none of which was used elsewhere. Denoising loss over the whole schedule (min-SNR
weighted, and plain on v), AUC by the mean of all draws, by the first n and by single draws in bands of the log-SNR,
calibration error as the model says it, pointing game and average precision of the maps of the decision, and how many
counterfactuals change the decision. Writes the file that --output names.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.explanations.quality import LESION, interval, phantoms
from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import DenoisingErrors, LevelWeights, classify_errors
from monai_diffclf.classification.draw_weights import Weighting, check_levels_count
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.explain import (
    CounterfactualGenerator,
    counterfactual_quality,
    decision_map,
    map_average_precision,
    pointing_game,
)
from monai_diffclf.handlers import MovingAverage
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.losses import ClassContrastiveLoss, parameter_groups
from monai_diffclf.metrics import expected_calibration_error, roc_auc
from monai_diffclf.networks import load_weights
from monai_diffclf.storage.atomic_file import replace_text

BUNDLE = BUNDLES / "phantom_xray_diffusion"
SEED = 7151  # of the phantoms that are judged: neither the bundle's training, validation nor test
BATCH, RATE, WARM_UP = 64, 4e-4, 20
RANGE = (-1.0, 6.0)  # log-SNR at which lesions can be told
BANDS = ((-2, 0), (0, 2), (2, 4), (4, 6), (6, 8))
COUNTS = (1, 3, 9, 25, 51)


def batches(count: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of training phantoms, mirrored at random."""
    data = phantoms(2000, seed)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        index = torch.randint(len(data["labels"]), (BATCH,), generator=generator)
        flip = torch.rand(BATCH, generator=generator) < 0.5
        images = torch.where(flip.view(-1, 1, 1, 1), data["images"][index].flip(3), data["images"][index])
        yield {"image": images, "label": data["labels"][index]}


def train(config: Any, network: torch.nn.Module, weight: float, steps: int, seed: int) -> tuple[Any, Any, float]:
    """Train on; the averaged network, what was learned of the levels, and the seconds it took."""
    torch.manual_seed(0)
    scheduler = config.get("scheduler")
    loss = ClassContrastiveLoss(scheduler, 2, weight=weight, log_snr_range=RANGE)
    optimizer = torch.optim.AdamW(parameter_groups(network, loss), RATE, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / WARM_UP, 0.5 + 0.5 * np.cos(np.pi * step / steps))
    )
    prepare = DenoisingPrepareBatch(scheduler, 2, all_classes=weight > 0, log_snr_range=RANGE)
    average = MovingAverage(network, limit=0.98, start=WARM_UP)
    start = time.process_time()
    for batch in batches(steps, seed):
        network.train()
        noisy, targets, _, arguments = prepare(batch)
        optimizer.zero_grad()
        loss(network(x=noisy, **arguments), targets).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update()
    return average.ema_model.eval(), loss.learned(), time.process_time() - start


def losses(errors: DenoisingErrors, labels: torch.Tensor) -> dict[str, Any]:
    """Denoising losses under the right class, mean over the schedule."""
    own = errors.values[torch.arange(len(labels)), labels].double()
    snr = errors.log_snr.double().exp()
    weights = {"min_snr": snr.clamp(max=5) / snr, "v": (snr + 1) / snr}
    return {name: interval((own * weight).mean(1)) for name, weight in weights.items()}


def auc(errors: DenoisingErrors, labels: torch.Tensor, weighting: Weighting, temperature: float) -> dict[str, float]:
    """AUC by the mean of some draws, and the calibration error."""
    p = classify_errors(errors, "mean", weighting=weighting, temperature=temperature).probabilities.double().numpy()
    return {
        "auc": float(roc_auc(labels.numpy(), p[:, LESION])),
        "ece": float(expected_calibration_error(labels.numpy(), p)),
    }


def few(errors: DenoisingErrors, labels: torch.Tensor, weighting: Weighting, temperature: float) -> float | None:
    """AUC by the mean of a few draws; None where learned weights count none of their levels."""
    try:
        check_levels_count(weighting, errors.log_snr)
    except ValueError:
        return None
    return auc(errors, labels, weighting, temperature)["auc"]


def chosen(errors: DenoisingErrors, index: torch.Tensor) -> DenoisingErrors:
    """Some of the draws."""
    rate = errors.log_snr_rate
    return DenoisingErrors(
        errors.values[:, :, index],
        errors.timesteps[index],
        errors.log_snr[index],
        num_elements=errors.num_elements,
        log_snr_rate=None if rate is None else rate[index],
    )


def measure(config: Any, network: torch.nn.Module, learned: Any, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one network."""
    scheduler, data = config.get("scheduler"), phantoms(args.images, SEED)
    weighting: Weighting = "min_snr" if learned is None else LevelWeights.from_dict(learned["level_weights"])
    temperature = float(config.get("temperature")) if "temperature" in config.parser else 0.043
    temperature = temperature if learned is None else learned["temperature"]
    settings: dict[str, Any] = {"rule": "mean", "weighting": weighting, "temperature": temperature}
    inferer = DiffusionClassifierInferer(scheduler, 2, num_draws=51, **settings)
    lesions = data["labels"] == LESION
    labels = data["labels"]
    parts = [inferer.classify(data["images"][i : i + 50], network, error_maps=True) for i in range(0, len(labels), 50)]
    errors = inferer.errors_from_values(torch.cat([part.errors.values for part in parts]), parts[0].errors.num_elements)
    spread = torch.tensor(np.random.default_rng(0).permutation(51))
    report: dict[str, Any] = {
        "temperature": temperature,
        "denoising_loss": losses(errors, labels),
        "all_draws": auc(errors, labels, weighting, temperature),
        "draws": {str(n): few(chosen(errors, spread[:n]), labels, weighting, temperature) for n in COUNTS},
    }
    single = {}
    for low, high in BANDS:
        index = ((errors.log_snr >= low) & (errors.log_snr < high)).nonzero().flatten()
        found = [auc(chosen(errors, one[None]), labels, "uniform", temperature)["auc"] for one in index]
        single[f"{low} to {high}"] = float(np.mean(found))
    report["single_draw_at_log_snr"] = single
    maps = torch.cat([part.error_maps for part in parts])[lesions].cpu()
    found = decision_map(maps, torch.ones(len(maps), dtype=torch.int64))  # smoothed by the inferer
    report["maps"] = {
        "pointing_game": interval(pointing_game(found, data["masks"][lesions])),
        "average_precision": interval(map_average_precision(found, data["masks"][lesions])),
    }
    report["counterfactuals"] = counterfactuals(scheduler, network, inferer, data, args.counterfactuals)
    return report


def counterfactuals(
    scheduler: Any, network: torch.nn.Module, inferer: Any, data: dict[str, torch.Tensor], count: int
) -> dict[str, Any]:
    """How often the lesion goes, by the classifier itself; inverted, with the default guidance."""
    lesions = data["labels"] == LESION
    images, masks = data["images"][lesions][:count], data["masks"][lesions][:count]
    generator = CounterfactualGenerator(
        scheduler, 2, label_dropout=0.1, method="invert", guidance=(1.0, 2.0, 4.0, 8.0), edit_fraction=0.04
    )
    source = torch.ones(len(images), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pairs = generator(images, network, source=source, target=0 * source, inferer=inferer)
    quality = counterfactual_quality(pairs, masks=masks[:, None])
    return {
        name: {bound: float(getattr(each, bound)) for bound in ("value", "low", "high")}
        for name, each in quality.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--weights", type=float, nargs="+", default=[3.0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--counterfactuals", type=int, default=24)
    parser.add_argument("--output", type=Path, default=RESULTS / "contrastive.json")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = open_bundle(BUNDLE, "train.json")
    report: dict[str, Any] = {
        "data": {"phantom_seed": SEED, "images": args.images},
        "training": {"steps": args.steps, "batch": BATCH, "learning_rate": RATE, "log_snr": RANGE},
    }
    for name, weight in (("shipped", None), ("trained on", 0.0), *((f"weight {w:g}", w) for w in args.weights)):
        network = load_weights(open_bundle(BUNDLE, "train.json").get("denoiser"), BUNDLE / "models" / "model.pt")
        learned, seconds = None, 0.0
        if weight is not None:
            seed = config.get("phantom_seeds#train")
            network, learned, seconds = train(config, network, weight, args.steps, seed)
        row = measure(config, network, learned, args)
        report[name] = {"weight": weight, "seconds_of_training": seconds, "learned": learned, **row}
        replace_text(args.output, json.dumps(report, indent=1) + "\n")
        print(name, json.dumps({k: v for k, v in report[name].items() if k != "learned"}), flush=True)
    print(args.output)


if __name__ == "__main__":
    main()
