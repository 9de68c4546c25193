"""How often the sequential test of the mean decides a tie wrongly: ties made of the differences of real images.

    python -m benchmarks.fewer_draws.tied_populations --errors FILE [--alpha 0.01] [--orders 20]

The paired differences of two classes in all draws of an image, less their mean, are a set of draws whose total is 0:
the hardest case of the hypothesis that the test must not reject, with the skew and the tails of real differences.
Every set is drawn in many random orders, each image in an order of its own. Whichever of the two classes is taken for
the one that all draws would give, it is eliminated wrongly with probability at most alpha if the test keeps its word.

Prints one JSON object: the rate of wrong eliminations over images, orders and both classes, with its exact 95 % upper
limit (Clopper and Pearson 1934; rates differ between images, which makes the sum less variable than a binomial one);
the images with the highest rates, judged in fresh orders; and skew and kurtosis of the sets.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, kurtosis, skew

from monai_diffclf.classification import DenoisingErrors, SequentialTest, draw_scores, replay
from monai_diffclf.storage import load_errors

WORST = 10


def ties(errors: DenoisingErrors) -> np.ndarray:
    """Differences of each pair of classes of each image, less their mean [M, N]."""
    scores = draw_scores(errors, "mean").numpy()
    pairs = [scores[:, a] - scores[:, b] for a, b in combinations(range(errors.num_classes), 2)]
    x = np.concatenate(pairs)
    return x - x.mean(1, keepdims=True)


def eliminations(x: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """Whether the first and the second class were eliminated before all draws were made [M, 2], each in one order."""
    draws = x.shape[1]
    values = torch.from_numpy(np.stack([-rng.permuted(x, axis=1), np.zeros_like(x)], 1))
    errors = DenoisingErrors(values, torch.arange(draws), torch.zeros(draws))
    result = replay(errors, SequentialTest(alpha), rule="mean")
    early = result.network_evaluations < 2 * draws
    return np.stack([(early & (result.predicted == other)).numpy() for other in (1, 0)], 1)


def rate(count: int, trials: int) -> dict[str, float]:
    """A rate with its exact 95 % interval, and the upper limit of the one-sided one."""
    both, one = (binomtest(count, trials).proportion_ci(level, method="exact") for level in (0.95, 0.9))
    return {
        "wrong": count,
        "trials": trials,
        "rate": count / trials,
        "low": float(both.low),
        "high": float(both.high),
        "upper_limit": float(one.high),
    }


def measure(errors: DenoisingErrors, alpha: float, orders: int, seed: int = 0) -> dict[str, Any]:
    """All of it."""
    rng, x = np.random.default_rng(seed), ties(errors)
    found = sum(eliminations(x, alpha, rng).astype(int) for _ in range(orders))
    highest = found.max(1).argsort()[::-1][:WORST]
    again = np.repeat(x[highest], 10 * orders, axis=0)
    fresh = eliminations(again, alpha, rng).reshape(len(highest), -1, 2).sum(1)
    worst = sorted((rate(int(counts.max()), 10 * orders) for counts in fresh), key=lambda r: -r["rate"])
    return {
        "alpha": alpha,
        "images": len(x),
        "orders": orders,
        "all": rate(int(found.sum()), found.size * orders),
        "by_class": [rate(int(count), len(x) * orders) for count in found.sum(0)],
        "images_ever_wrong": int(found.any(1).sum()),
        "worst_images": worst,
        "skew": np.quantile(np.abs(skew(x, axis=1)), [0.5, 1.0]).tolist(),
        "kurtosis": np.quantile(kurtosis(x, axis=1, fisher=False), [0.5, 1.0]).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", type=Path, required=True, help="errors of all draws, as save_errors writes them")
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--orders", type=int, default=20, help="random orders of each set of draws")
    args = parser.parse_args()
    print(json.dumps(measure(load_errors(args.errors).errors, args.alpha, args.orders), indent=1))


if __name__ == "__main__":
    main()
