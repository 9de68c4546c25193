"""Does it pay to choose which images to label? Labels are given by a table, in rounds, by several strategies.

    python -m benchmarks.active_learning.simulate --data ../shared/data [--sets NAME ...] [--output FILE]

The protocol, committed before it is run, is `PROTOCOL` and this text.

- Pool: for each seed 1,000 images drawn at random from the training images of the step ``development`` of
  docs/protocol.md. Judged on: the images of its selection part (PneumoniaMNIST: the tenth of the patients held out;
  ISIC 2017: the official validation images and a held-out fifth of the training images). **No test image is read**, so
  that no opening is counted. What was chosen by looking (size of the network, length of training) was chosen on the
  training images of ISIC 2017 alone, 100 or 400 of them against others of them, and so that the whole takes minutes;
  it was taken over to the X-rays.
- Features: the mean over the cells of EfficientNet-Lite0's last maps, the encoder as published (bfloat16), reduced to
  64 principal components of the whole pool, which needs no labels. ISIC 2017 is read at 224 px; the X-rays of 28 px
  are enlarged to 112 px.
- Classifier: class-conditional diffusion on that vector (a `DiT` on one token), denoising and class-contrastive loss,
  classes drawn equally often, trained anew in every round for the same number of steps. Classified by the mean of 25
  draws; the levels weighted as the training learned; the same draws
  give the votes.
- A run begins with 100 images of the pool drawn at random, at least two of each class (the draw is repeated until
  that holds), then adds 50 a round until 350. All strategies of a seed begin with the same pool, images and weights; a
  seed sets these, the noise of the training and what ``random`` chooses. Seeds 0, 1, 2.
- Strategies: those of `monai_diffclf.uncertainty.select_images`. Typicality is fitted on the errors and components of
  the labelled images of the round; diversity sees the components.
- Primary: the area under the learning curve, the macro AUC on the judged images averaged over the rounds after the
  first (150 to 350 labels), strategy less ``random``, paired by seed and image: 2,000 resamples crossed over patients
  and seeds (`metrics.crossed`). A strategy is better than random on a set when the lower bound of the 95 % interval is
  above 0, and *beyond chance* when its p value passes Holm's correction over the eight comparisons (four strategies,
  two sets) at 0.05. Beside it: macro AUC at each number of labels with intervals, and the share of the rarest class
  among the labels.

Stopped, the same command goes on: each training that ended is kept in ``runs/active_learning``. A set that is run alone
joins those that stand in the output under the same protocol.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import DDPMScheduler
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from benchmarks.evidence.data import Images, load
from benchmarks.evidence.features import pooled_features
from benchmarks.evidence.protocol import ROOT, content_hash
from monai_diffclf.classification import DenoisingClassification, LevelWeights
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.losses import ClassContrastiveLoss, parameter_groups
from monai_diffclf.metrics import roc_auc
from monai_diffclf.metrics.crossed import CrossedResamples, crossed_resamples, difference
from monai_diffclf.networks.moving_average import averaged_model
from monai_diffclf.networks.nets import DiT
from monai_diffclf.storage.atomic_file import replace_text, replaced
from monai_diffclf.uncertainty import STRATEGIES, fit_typicality, select_images

PROTOCOL: dict[str, Any] = {
    "sets": {"isic2017_224": {"enlarge": 1}, "pneumoniamnist_28": {"enlarge": 4}},
    "step": "development",
    "encoder": "efficientnet_lite0",
    "components": 64,
    "first": 100,
    "round": 50,
    "last": 350,
    "pool": 1000,
    "seeds": [0, 1, 2],
    "strategies": list(STRATEGIES),
    "network": {"hidden_size": 96, "num_layers": 1, "num_heads": 2, "mlp_ratio": 3.0},
    "schedule": {"schedule": "linear_log_snr", "log_snr_min": -6.0, "log_snr_max": 5.0},
    "training": {"steps": 150, "batch": 64, "rate": 1e-3, "warm_up": 20, "contrastive": 100.0, "average": 0.98},
    "inference": {"num_draws": 25, "rule": "mean", "batch_size": 1024},
    "analysis": {"resamples": 2000, "seed": 0},
}
CACHE = ROOT / "runs" / "active_learning"
RESULT = ROOT / "benchmarks" / "results" / "active_learning.json"


def macro_auc(labels: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
    """Mean over the classes of the AUC of one against the rest, for one weighting or several [R, N] at once."""
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    each = [roc_auc(truth == k, scores[:, k], weights=weights) for k in range(scores.shape[1])]
    return np.mean(each, axis=0)


def scheduler() -> DDPMScheduler:
    """The noise schedule."""
    return DDPMScheduler(1000, prediction_type="v_prediction", clip_sample=False, **PROTOCOL["schedule"])


def enlarged(images: Images, times: int) -> Images:
    """Images whose pixels are repeated, smoothed between them."""
    if times == 1:
        return images
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float()
    larger = torch.nn.functional.interpolate(pixels, scale_factor=times, mode="bilinear", align_corners=False)
    return images.with_pixels(larger.round().byte().permute(0, 2, 3, 1).numpy())


def read_set(name: str, root: Path) -> tuple[Images, Images, torch.Tensor, torch.Tensor]:
    """Pool and judged images, and the components [N, D, 1, 1] of both, of unit variance over all of the pool."""
    pool, judged = load(name, PROTOCOL["step"], root)
    times = PROTOCOL["sets"][name]["enlarge"]
    features = [pooled_features(enlarged(part, times), PROTOCOL["encoder"]) for part in (pool, judged)]
    centre = features[0].mean(0)
    _, _, axes = np.linalg.svd(features[0] - centre, full_matrices=False)
    found = [(each - centre) @ axes[: PROTOCOL["components"]].T for each in features]
    scale = float(np.sqrt(found[0].var(0).mean()))
    first, second = (torch.from_numpy(each / scale).float()[..., None, None] for each in found)
    return pool, judged, first, second


@dataclass(frozen=True)
class Trained:
    """A trained classifier of components: the average of the last weights, and what classifies by them."""

    network: torch.nn.Module
    inferer: DiffusionClassifierInferer

    def classify(self, latents: torch.Tensor) -> DenoisingClassification:
        """The classification of components [n, D, 1, 1]."""
        with torch.inference_mode():
            return self.inferer.classify(latents, self.network)


def train(latents: torch.Tensor, labels: torch.Tensor, num_classes: int, seed: int) -> Trained:
    """A diffusion classifier of components [n, D, 1, 1], as the protocol says."""
    how = PROTOCOL["training"]
    torch.manual_seed(seed)
    network = DiT(2, latents.shape[1], 1, num_class_embeds=num_classes + 1, **PROTOCOL["network"])
    loss = ClassContrastiveLoss(scheduler(), num_classes, weight=how["contrastive"], denoising_weighting="min_snr")
    optimizer = torch.optim.AdamW(
        parameter_groups(network, loss), how["rate"], betas=(0.9, 0.99), weight_decay=0.05, fused=True
    )
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, step / how["warm_up"]) * (0.5 + 0.5 * math.cos(math.pi * step / how["steps"]))
    )
    prepare = DenoisingPrepareBatch(scheduler(), num_classes, all_classes=True, seed=seed)
    average = averaged_model(network, how["average"], how["warm_up"])
    weights = 1.0 / torch.bincount(labels, minlength=num_classes).double()[labels]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(how["steps"]):
        rows = torch.multinomial(weights, how["batch"], replacement=True, generator=generator)
        noisy, targets, _, arguments = prepare({"image": latents[rows], "label": labels[rows]})
        optimizer.zero_grad()
        loss(network.train()(x=noisy, **arguments), targets).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update_parameters(network)
    learned = loss.learned()
    if learned is None:
        raise RuntimeError("the contrastive loss learned no weights of the levels")
    settings = {"weighting": LevelWeights.from_dict(learned["level_weights"]), "temperature": learned["temperature"]}
    inferer = DiffusionClassifierInferer(scheduler(), num_classes, **PROTOCOL["inference"], **settings)
    return Trained(average.module.eval(), inferer)


def first_images(labels: NDArray[np.int64], number: int, seed: int) -> NDArray[np.int64]:
    """Images drawn at random, at least two of each class."""
    generator = np.random.default_rng(seed)
    while True:
        rows = np.sort(generator.permutation(len(labels))[:number]).astype(np.int64)
        if np.bincount(labels[rows], minlength=labels.max() + 1).min() >= 2:
            return rows


def next_images(
    strategy: str, train_it: Callable[[], Trained], pool: torch.Tensor, labelled: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Rows of the pool that a strategy wants next."""
    others = np.setdiff1d(np.arange(len(pool)), labelled)
    if strategy == "random":
        chosen = select_images("random", PROTOCOL["round"], features=pool[others, :, 0, 0].numpy(), seed=seed)
        return others[chosen].astype(np.int64)
    trained = train_it()
    unknown = trained.classify(pool[others])
    ood = None
    if strategy == "typicality":
        errors = trained.classify(pool[labelled]).errors
        typicality = fit_typicality(errors, latents=pool[labelled])
        ood = typicality.score(unknown.errors, latents=pool[others]).numpy()
    chosen = select_images(
        strategy,
        PROTOCOL["round"],
        uncertainty={name: value.numpy() for name, value in unknown.uncertainty.items()},
        ood_score=ood,
        features=pool[others, :, 0, 0].numpy(),
        known=pool[labelled, :, 0, 0].numpy(),
    )
    return others[chosen].astype(np.int64)


def one_run(
    name: str,
    data: tuple[Images, Images, torch.Tensor, torch.Tensor],
    strategy: str,
    seed: int,
    bar: Any,
    firsts: dict[int, Callable[[], Trained]],
) -> dict[str, Any]:
    """Labelled rows and the probabilities of the judged images, round by round; goes on where it was stopped."""
    everything, _, latents, judged_latents = data
    part = np.sort(np.random.default_rng([seed, 1]).permutation(len(everything))[: PROTOCOL["pool"]])
    pool, pool_latents = everything.take(part), latents[part]
    classes, labels = int(pool.labels.max()) + 1, torch.from_numpy(pool.labels)
    folder = CACHE / content_hash({**PROTOCOL, "analysis": None})[:16] / name
    folder.mkdir(parents=True, exist_ok=True)
    labelled = first_images(pool.labels, PROTOCOL["first"], seed)
    rows, probabilities = [], []
    while True:
        fit: Callable[[], Trained] = lru_cache(partial(train, pool_latents[labelled], labels[labelled], classes, seed))
        if len(labelled) == PROTOCOL["first"]:
            known = f"{seed}_first"
            fit = firsts.setdefault(seed, fit)  # the same for all strategies
        else:
            known = f"{seed}_{len(labelled)}_{strategy}"
        if not (folder / f"{known}.npz").is_file():
            found = fit().classify(judged_latents).probabilities.numpy()
            with replaced(folder / f"{known}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, labelled=labelled, probabilities=found)
        with np.load(folder / f"{known}.npz") as content:
            if not np.array_equal(content["labelled"], labelled):
                raise ValueError(f"{folder / known}.npz: expected the labels of this run; remove {folder}")
            probabilities.append(content["probabilities"].astype(np.float64))
        rows.append(part[labelled])
        bar.update()
        if len(labelled) >= PROTOCOL["last"]:
            return {"rows": rows, "probabilities": probabilities}
        chosen = folder / f"{seed}_{len(labelled)}_{strategy}_next.npy"
        if not chosen.is_file():
            new = next_images(strategy, fit, pool_latents, labelled, 1000 * seed + len(labelled))
            with replaced(chosen) as temporary, temporary.open("wb") as file:
                np.save(file, new)
        labelled = np.sort(np.concatenate([labelled, np.load(chosen)])).astype(np.int64)


def analyse(runs: dict[str, dict[int, dict[str, Any]]], pool: Images, judged: Images) -> dict[str, Any]:
    """Curves, areas and differences from random."""
    how = PROTOCOL["analysis"]
    counts = [len(rows) for rows in runs["random"][PROTOCOL["seeds"][0]]["rows"]]
    rare = int(np.bincount(pool.labels).argmin())

    def resampled(chosen: Sequence[int]) -> dict[str, CrossedResamples]:
        scores = {
            strategy: {seed: [run["probabilities"][i] for i in chosen] for seed, run in seeds.items()}
            for strategy, seeds in runs.items()
        }
        return crossed_resamples(
            macro_auc, judged.labels, scores, groups=judged.groups, num_resamples=how["resamples"], seed=how["seed"]
        )

    points = [resampled([i]) for i in range(len(counts))]
    areas = resampled(range(1, len(counts)))
    found: dict[str, Any] = {"labels": counts, "pool": len(pool), "judged": len(judged), "strategies": {}}
    for strategy, seeds in runs.items():
        share = [float(np.mean([(pool.labels[run["rows"][i]] == rare).mean() for run in seeds.values()]))
                 for i in range(len(counts))]  # fmt: skip
        entry = {
            "auc": [_interval(each[strategy]) for each in points],
            "area": _interval(areas[strategy]),
            "share_of_rarest_class": share,
            "auc_of_seeds": {
                str(seed): [float(macro_auc(judged.labels, p)) for p in run["probabilities"]]
                for seed, run in seeds.items()
            },
        }
        if strategy != "random":
            entry["less_random"] = difference(areas[strategy], areas["random"])._asdict()
            entry["less_random_at"] = [difference(each[strategy], each["random"])._asdict() for each in points[1:]]
        found["strategies"][strategy] = entry
    found["rarest_class_in_pool"] = float((pool.labels == rare).mean())
    return found


def _interval(found: CrossedResamples) -> dict[str, float]:
    low, high = np.percentile(found.resampled, [2.5, 97.5])
    return {"value": found.value, "low": float(low), "high": float(high)}


def beyond_chance(sets: dict[str, Any]) -> None:
    """Holm's correction over all strategies and sets, written beside each difference."""
    each = [
        entry["less_random"]
        for content in sets.values()
        for name, entry in content["strategies"].items()
        if name != "random"
    ]
    largest = 0.0
    for place, found in enumerate(sorted(each, key=lambda one: float(one["p_value"]))):
        largest = max(largest, min(1.0, (len(each) - place) * found["p_value"]))
        found["p_holm"] = largest
        found["beyond_chance"] = largest < 0.05


def main(arguments: list[str] | None = None) -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--sets", nargs="+", default=list(PROTOCOL["sets"]), choices=list(PROTOCOL["sets"]))
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--no-progress", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rounds = 1 + math.ceil((PROTOCOL["last"] - PROTOCOL["first"]) / PROTOCOL["round"])
    known = json.loads(args.output.read_text()) if args.output.is_file() else {}
    sets = known["sets"] if known.get("protocol_hash") == content_hash(PROTOCOL) else {}
    for name in args.sets:
        data = read_set(name, args.data)
        runs: dict[str, dict[int, dict[str, Any]]] = {strategy: {} for strategy in PROTOCOL["strategies"]}
        firsts: dict[int, Callable[[], Trained]] = {}
        total = rounds * len(PROTOCOL["seeds"]) * len(runs)
        with tqdm(total=total, desc=name, unit="training", disable=args.no_progress) as bar:
            for seed in PROTOCOL["seeds"]:
                for strategy in PROTOCOL["strategies"]:
                    runs[strategy][seed] = one_run(name, data, strategy, seed, bar, firsts)
        sets[name] = analyse(runs, data[0], data[1])
        beyond_chance(sets)
        content = {"protocol": PROTOCOL, "protocol_hash": content_hash(PROTOCOL), "sets": sets}
        replace_text(args.output, json.dumps(content, indent=1) + "\n")
    print(args.output)


if __name__ == "__main__":
    main()
