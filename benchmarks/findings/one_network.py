"""One network that knows of unknown findings, a network for each finding, or a class for each combination?

    python -m benchmarks.findings.one_network [--steps 600] [--output benchmarks/results/one_network.json]

Phantoms with a nodule and an effusion (`make_findings_phantoms`, correlation .4): 4,000 to train on (seed 20), of whose
labels a tenth is unknown, and 800 to test on (seed 26). Nothing is chosen by the test images, and they are not drawn
before the last network is trained. Networks, loss with its contrastive term, optimiser, learning rate and average of
the weights are those of the bundle phantom_findings_diffusion, one training each (seed 0), for so many steps of 64
images:

- ``one``: one network, states of both findings, each hidden in three quarters of the images, ``steps`` steps; 2 L
  evaluations a draw.
- ``separate``: a network for each finding, absent or present, on the images of which it is known, ``steps`` steps each,
  so L times the training of ``one``; 2 L evaluations a draw.
- ``separate_equal``: the same with ``steps`` / L steps each: the training of ``one`` in all.
- ``combinations``: one network with a class for each of the 2^L combinations, on the images of which all is known,
  ``steps`` steps; 2^L evaluations a draw. A finding's odds are the sum over the combinations that have it.

Each classifies the test images by the mean error of 15 draws, weighting min_snr, at the bundle's temperature, .1. AUC
of each finding, with the 95 % interval of its difference to ``one`` from 2,000 paired resamples of the images; training
in seconds of CPU time.

What is in ``benchmarks/results/one_network_dropped_not_asked.json`` was found before, with each finding hidden in half
of the images, hidden ones not asked about, and test seed 23.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.optimizers import WarmupCosineSchedule
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.schedule import make_scheduler
from monai_diffclf.data import make_findings_phantoms
from monai_diffclf.data.phantom_findings import FINDINGS
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.handlers.moving_average import MovingAverage
from monai_diffclf.inferers import DiffusionClassifierInferer, MultiLabelClassifierInferer
from monai_diffclf.losses import ClassContrastiveLoss, parameter_groups
from monai_diffclf.metrics import bootstrap_interval, paired_difference_interval, roc_auc
from monai_diffclf.networks.nets import WaveletDiffusionUNet
from monai_diffclf.storage.atomic_file import replace_text

TRAIN, TEST, CORRELATION, UNKNOWN = (4000, 20), (800, 26), 0.4, 0.1
BATCH, WARMUP, LIMIT, DRAWS, TEMPERATURE = 64, 100, 0.995, 15, 0.1
CONTRAST: dict[str, Any] = {"weight": 3.0, "log_snr_range": [-1.0, 5.0]}
Images = tuple[torch.Tensor, torch.Tensor]


def load(count: int, seed: int, unknown: float) -> Images:
    """Images [n, 1, 32, 32] in [-1, 1] and labels [n, L]."""
    items = make_findings_phantoms(count, seed=seed, correlation=CORRELATION, unknown=unknown)
    images = torch.stack([torch.as_tensor(item["image"]) for item in items]) * 2 - 1
    return images, torch.stack([torch.as_tensor(item["label"]) for item in items])


def make_network(classes: int | None) -> WaveletDiffusionUNet:
    """The bundle's network, of so many classes; None for one of all findings."""
    embedding = {"num_findings": len(FINDINGS)} if classes is None else {"num_class_embeds": classes + 1}
    return WaveletDiffusionUNet(
        2, 1, levels=1, channels=[16, 32, 64], attention_levels=[False, False, True], num_res_blocks=1,
        num_head_channels=32, norm_num_groups=16, **embedding,
    )  # fmt: skip


def train(
    images: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    name: str,
    start: torch.nn.Module | None = None,
    seed: int = 0,
    **conditions: Any,
) -> tuple[Any, float]:
    """The average of a network's weights after so many steps, in eval mode, and the CPU time in seconds.

    Args:
        images: images [n, 1, 32, 32].
        labels: classes [n] or states [n, L].
        steps: steps of the optimiser.
        name: what the progress bar calls it.
        start: a trained network to go on with; None begins anew.
        seed: of first weights, order and noise.
        conditions: ``num_findings`` or ``num_classes``.
    """
    torch.manual_seed(seed)
    classes = conditions.get("num_classes")
    network = make_network(classes) if start is None else start
    average = MovingAverage(network, LIMIT, WARMUP)
    loss_function = ClassContrastiveLoss(
        make_scheduler(), classes or 2, **CONTRAST, denoising_weighting="min_snr", gamma=5.0
    )
    dropout = 0.75 if classes is None else 0.1
    prepare = DenoisingPrepareBatch(
        make_scheduler(), label_dropout=dropout, seed=seed, all_classes=True,
        log_snr_range=CONTRAST["log_snr_range"], **conditions,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        parameter_groups(network, loss_function), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01
    )
    rate = WarmupCosineSchedule(optimizer, warmup_steps=WARMUP, t_total=steps)
    begun = time.process_time()
    network.train()
    for _ in tqdm(range(steps), name, mininterval=5):
        chosen = torch.randint(len(images), (BATCH,))
        flip = torch.rand(BATCH) < 0.5
        batch = torch.where(flip[:, None, None, None], images[chosen].flip(3), images[chosen])
        noisy, targets, _, arguments = prepare({"image": batch, "label": labels[chosen]})
        loss = loss_function(network(noisy, **arguments), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update()
    return average.ema_model.eval(), time.process_time() - begun


def settings() -> dict[str, Any]:
    return {"num_draws": DRAWS, "rule": "mean", "weighting": "min_snr", "batch_size": 256}


def log_odds(errors: torch.Tensor) -> torch.Tensor:
    """Log p(x | k) of each class [n, K] up to a constant, from mean errors of images of 32 x 32 pixels."""
    return -0.5 * 32 * 32 * errors.double() / TEMPERATURE


def train_one(data: Images, steps: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], float, int]:
    network, seconds = train(*data, steps, "one", num_findings=len(FINDINGS))

    def score(images: torch.Tensor) -> torch.Tensor:
        inferer = MultiLabelClassifierInferer(make_scheduler(), num_findings=len(FINDINGS), **settings())
        each = log_odds(inferer.classify(images, network).mean_error)
        return each[..., 1] - each[..., 0]

    return score, seconds, 2 * len(FINDINGS)


def train_separate(data: Images, steps: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], float, int]:
    images, labels = data
    networks, total = [], 0.0
    for number, name in enumerate(FINDINGS):
        known = labels[:, number] != 2
        network, seconds = train(images[known], labels[known, number], steps, f"separate, {name}", num_classes=2)
        networks.append(network)
        total += seconds

    def score(images: torch.Tensor) -> torch.Tensor:
        inferer = DiffusionClassifierInferer(make_scheduler(), 2, **settings())
        each = torch.stack([log_odds(inferer.classify(images, network).mean_error) for network in networks], 1)
        return each[..., 1] - each[..., 0]

    return score, total, 2 * len(FINDINGS)


def train_combinations(data: Images, steps: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], float, int]:
    images, labels = data
    known = (labels != 2).all(1)
    digits = 2 ** torch.arange(len(FINDINGS))
    count = 2 ** len(FINDINGS)
    network, seconds = train(
        images[known], (labels[known] * digits).sum(1), steps, "combinations", num_classes=count
    )  # fmt: skip

    def score(images: torch.Tensor) -> torch.Tensor:
        inferer = DiffusionClassifierInferer(make_scheduler(), count, **settings())
        each = log_odds(inferer.classify(images, network).mean_error)
        has = (torch.arange(count)[:, None] // digits) % 2 == 1
        present, absent = (
            torch.stack([each[:, which[:, i]].logsumexp(1) for i in range(len(FINDINGS))], 1) for which in (has, ~has)
        )
        return present - absent

    return score, seconds, count


def judge(labels: NDArray[Any], scores: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """AUC of each way and finding, and its difference to ``one``, each with its interval."""
    found: dict[str, Any] = {}
    for way, given in scores.items():
        found[way] = {}
        for number, name in enumerate(FINDINGS):
            y = labels[:, number]
            auc = bootstrap_interval(roc_auc, y, given[:, number])
            entry = {"auc": auc._asdict()}
            if way != "one":
                gap = paired_difference_interval(roc_auc, y, given[:, number], scores["one"][:, number])
                entry["less_one"] = gap._asdict()
            found[way][name] = entry
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/one_network.json"))
    args = parser.parse_args()
    data = load(*TRAIN, UNKNOWN)
    half = args.steps // len(FINDINGS)
    ways = {
        "one": train_one(data, args.steps),
        "separate": train_separate(data, args.steps),
        "separate_equal": train_separate(data, half),
        "combinations": train_combinations(data, args.steps),
    }
    images, labels = load(*TEST, 0.0)
    scores = {}
    for way, (score, _, _) in ways.items():
        parts = [score(part) for part in tqdm(images.split(50), f"test, {way}", mininterval=5)]
        scores[way] = torch.cat(parts).numpy()
    result = judge(labels.numpy(), scores)
    for way, (_, seconds, evaluations) in ways.items():
        result[way] |= {"training_cpu_seconds": round(seconds, 1), "evaluations_a_draw": evaluations}
    about = {"steps": args.steps, "train": TRAIN, "test": TEST, "correlation": CORRELATION, "unknown": UNKNOWN}
    replace_text(args.output, json.dumps({"about": {**about, "draws": DRAWS, "seed": 0}, **result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
