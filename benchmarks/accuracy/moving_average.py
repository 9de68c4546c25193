"""Is the moving average of the weights as good as the weights themselves, after few steps and after many?

    python -m benchmarks.accuracy.moving_average [--seeds 0 1 2] [--output benchmarks/results/moving_average.json]

Six easy classes of 16 x 16 pixels (disc, square, ring, cross, stripes across and down; position, size, brightness and
noise vary), a small network, and the pneumonia bundle's training: AdamW, warm-up and cosine, clipped gradients, min-SNR
loss, dropped labels. For each length a training of its own, as `--max_epochs` makes it; and one of 1,500 steps looked
at on its way. AUC (one against the rest, mean of the classes) and accuracy on images made apart, of the raw weights and
of their averages under:

- ``constant``: decay .995 from the first step, the average starting at the network's first weights (the former way),
- ``debiased``: decay .995 from zero, divided by 1 - .995^n as Adam does,
- ``ramp``: min(.995, (1 + n) / (10 + n)) from the first step,
- ``after_warmup``: the same from when the learning rate has warmed up, the weights themselves before (the bundles).

``within`` says for each rule by how much its AUC is below and above that of the raw weights at most.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.optimizers import WarmupCosineSchedule
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.schedule import make_scheduler
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.handlers.moving_average import MovingAverage
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks.nets import WaveletDiffusionUNet
from monai_diffclf.storage.atomic_file import replace_text

LENGTHS = (50, 144, 500, 1500)
CLASSES = ("disc", "square", "ring", "cross", "across", "down")
SIZE, BATCH, LIMIT, WARMUP = 16, 64, 0.995, 100


def draw(kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """One image [SIZE, SIZE] in [-1, 1]."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2 - rng.uniform(-1, 1, (2, 1, 1))
    radius, distance = rng.uniform(4.5, 5.5), np.hypot(x, y)
    shape = {
        "disc": distance < radius,
        "square": np.maximum(abs(x), abs(y)) < radius,
        "ring": abs(distance - radius) < 1.2,
        "cross": (np.minimum(abs(x), abs(y)) < 1.2) & (np.maximum(abs(x), abs(y)) < radius),
        "across": np.sin(y * np.pi / 2) > 0,
        "down": np.sin(x * np.pi / 2) > 0,
    }[kind]
    image = rng.uniform(-0.9, -0.7) + rng.uniform(1.1, 1.5) * shape + rng.normal(0, 0.1, shape.shape)
    return np.clip(image, -1, 1).astype(np.float32)


def images_of(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [6 count, 1, SIZE, SIZE] and labels."""
    rng = np.random.default_rng(seed)
    labels = torch.arange(len(CLASSES)).repeat(count)
    return torch.from_numpy(np.stack([draw(CLASSES[k], rng) for k in labels.tolist()]))[:, None], labels


class Constant:
    """Decay LIMIT from the first step."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.ema_model, self.steps = network, copy.deepcopy(network).eval(), 0

    def momentum(self) -> float:
        """Share of the weights in the next average."""
        return 1 - LIMIT

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights in."""
        self.steps += 1
        for average, weight in zip(self.ema_model.parameters(), self.network.parameters(), strict=True):
            average.lerp_(weight, self.momentum())


class Debiased(Constant):
    """From zero, divided by what is missing: a momentum of (1 - d) / (1 - d^n) from the first weights."""

    def momentum(self) -> float:
        """Share of the weights in the next average."""
        return (1 - LIMIT) / (1 - LIMIT**self.steps)


RULES: dict[str, Callable[[torch.nn.Module], Any]] = {
    "constant": Constant,
    "debiased": Debiased,
    "ramp": lambda network: MovingAverage(network, LIMIT),
    "after_warmup": lambda network: MovingAverage(network, LIMIT, WARMUP),
}


def make_network() -> torch.nn.Module:
    return WaveletDiffusionUNet(
        spatial_dims=2,
        in_channels=1,
        levels=1,
        channels=[16, 32],
        attention_levels=[False, True],
        num_res_blocks=1,
        num_head_channels=16,
        norm_num_groups=8,
        num_class_embeds=len(CLASSES) + 1,
    )


def measure(network: torch.nn.Module, test: tuple[torch.Tensor, torch.Tensor]) -> dict[str, float]:
    """AUC and accuracy of the classifier by the mean error of 9 draws."""
    inferer = DiffusionClassifierInferer(make_scheduler(), len(CLASSES), num_draws=9, rule="mean", batch_size=512)
    probabilities = inferer.classify(test[0], network.eval()).probabilities.double().numpy()
    probabilities = probabilities / probabilities.sum(1, keepdims=True)
    auc = roc_auc_score(test[1].numpy(), probabilities, multi_class="ovr")
    return {"auc": float(auc), "accuracy": float((probabilities.argmax(1) == test[1].numpy()).mean())}


def train(length: int, looks: tuple[int, ...], seed: int, test: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
    """Train for so many steps; the figures of all weights after each step in ``looks``."""
    torch.manual_seed(seed)
    network = make_network()
    averages = {name: rule(network) for name, rule in RULES.items()}
    images, labels = images_of(200, 1000 + seed)
    scheduler = make_scheduler()
    loss_function = DenoisingLoss(scheduler, weighting="min_snr", gamma=5.0)
    prepare = DenoisingPrepareBatch(scheduler, len(CLASSES), label_dropout=0.1, seed=seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    rate = WarmupCosineSchedule(optimizer, warmup_steps=WARMUP, t_total=length)
    found: dict[str, Any] = {}
    for step in range(1, length + 1):
        network.train()
        chosen = torch.randint(len(images), (BATCH,))
        noisy, targets, _, arguments = prepare({"image": images[chosen], "label": labels[chosen]})
        loss = loss_function(network(noisy, **arguments), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        for average in averages.values():
            average.update()
        if step in looks:
            networks = {"raw": network, **{name: average.ema_model for name, average in averages.items()}}
            found[str(step)] = {name: measure(one, test) for name, one in networks.items()}
            print(f"seed {seed}, {step} of {length}:", found[str(step)], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/moving_average.json"))
    args = parser.parse_args()
    start, test = time.perf_counter(), images_of(30, 1)
    trainings: dict[str, dict[str, Any]] = {"of_their_own": {}, "on_the_way": {}}
    for seed in args.seeds:
        whole = train(max(LENGTHS), LENGTHS, seed, test)
        own = {str(max(LENGTHS)): whole[str(max(LENGTHS))]}
        for length in LENGTHS[:-1]:
            own |= train(length, (length,), seed, test)
        trainings["on_the_way"][str(seed)], trainings["of_their_own"][str(seed)] = whole, own
        within = {rule: gaps(trainings, rule) for rule in RULES}
        result = {"within": within, "seconds": round(time.perf_counter() - start), "trainings": trainings}
        replace_text(args.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(within, indent=1))


def gaps(trainings: dict[str, dict[str, Any]], rule: str) -> dict[str, dict[str, float]]:
    """For each length, how far the AUC of a rule is below and above that of the raw weights at most."""
    found = {}
    for length in map(str, LENGTHS):
        seeds = [seed[length] for kind in trainings.values() for seed in kind.values()]
        differences = [seed[rule]["auc"] - seed["raw"]["auc"] for seed in seeds]
        found[length] = {"below": max(0.0, -min(differences)), "above": max(0.0, max(differences))}
    return found


if __name__ == "__main__":
    main()
