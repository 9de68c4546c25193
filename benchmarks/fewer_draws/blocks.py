"""How much the saving differs between small blocks of images: replayed on the stored test errors, no network.

    python -m benchmarks.fewer_draws.blocks [--block 8] [--blocks 10000]

Hard images take most draws, so that a factor measured on a few images depends on which they are. For the stopping rules
of ``docs/fewer-draws.md`` this writes to ``benchmarks/results/blocks.json`` how many times fewer evaluations
than with all draws are made: over all images, random blocks of them (5th, 50th and 95th percentile, range), and
single images. Models of the predictive rule are fitted to the validation errors.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.classification import (
    DifferenceModel,
    PredictiveCurtailment,
    SequentialTest,
    VoteModel,
    replay,
)
from monai_diffclf.storage import load_errors
from monai_diffclf.storage.atomic_file import replace_text

EVALUATION = BUNDLES / "pneumonia_xray_diffusion" / "docs" / "evaluation"
PERCENTILES = (5, 50, 95)
Array = np.ndarray[Any, Any]


def spread(factors: Array) -> dict[str, float]:
    """Percentiles and range of some factors."""
    found = np.percentile(factors, PERCENTILES)
    named = {f"percentile_{p}": float(value) for p, value in zip(PERCENTILES, found, strict=True)}
    return {"lowest": float(factors.min()), **named, "highest": float(factors.max())}


def saving(evaluations: Array, all_draws: int, block: int, blocks: int) -> dict[str, Any]:
    """How many times fewer evaluations: of all images, of random blocks, of each image."""
    rng = np.random.default_rng(0)
    chosen = np.stack([rng.choice(len(evaluations), block, replace=False) for _ in range(blocks)])
    return {
        "all_images": float(all_draws / evaluations.mean()),
        "blocks": spread(all_draws / evaluations[chosen].mean(1)),
        "images": spread(all_draws / evaluations),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--block", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=10_000)
    args = parser.parse_args()
    test, fit = (load_errors(EVALUATION / f"errors_{split}_draws_501.npz").errors for split in ("test", "validation"))
    vote, mean = VoteModel.fit(fit), DifferenceModel.fit(fit, "mean")
    alphas = json.loads((RESULTS / "choose_alpha.json").read_text())["chosen"]
    rules = {
        "sequential vote": ("vote", SequentialTest(0.01)),
        "sequential mean": ("mean", SequentialTest(0.01)),
        "predictive vote": ("vote", PredictiveCurtailment(0.01, vote)),
        "predictive mean": ("mean", PredictiveCurtailment(0.01, mean)),
        **{f"predictive mean for {s}": ("mean", PredictiveCurtailment(a, mean)) for s, a in alphas.items()},
    }
    content: dict[str, Any] = {"images": len(test), "draws": test.num_draws, "block": args.block, "rules": {}}
    for name, (rule, stopping) in rules.items():
        evaluations = replay(test, stopping, rule=rule).network_evaluations.double().numpy()
        made = saving(evaluations, test.num_draws * test.num_classes, args.block, args.blocks)
        content["rules"][name] = made
        print(name, json.dumps(made))
    replace_text(RESULTS / "blocks.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
