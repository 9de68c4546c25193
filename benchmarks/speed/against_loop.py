"""How much faster the mean is decided early than by a loop of one call a draw and class, block by block of images.

    python -m benchmarks.speed.against_loop --data DATA [--images 24] [--block 4] [--output FILE]

Both use the pneumonia bundle's network, the loop as published and ours with `fast_inference` and the predictive rule at
the alphas that ``benchmarks/results/choose_alpha.json`` chose on validation images. Blocks of random test images go
through all methods in turns. Written are the factors of every block, their median and range, in time of the processor
on one thread, and how many images get the class of all 501 draws: what a block gains depends on its hardest image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.bundles import RESULTS
from benchmarks.speed.reference_methods import reference_loop
from benchmarks.speed.side_by_side import read_bundle, read_models, sample_images
from monai_diffclf.classification import PredictiveCurtailment
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import fast_inference
from monai_diffclf.networks.schedulers import NoiseProcess

DRAWS = 501


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pneumoniamnist.npz")
    for name, default in (("images", 24), ("block", 4), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, default=RESULTS / "against_loop.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, network = read_bundle()
    scheduler, fast = config.get("scheduler"), fast_inference(network)
    images, _ = sample_images(config, args.data, args.images, args.seed)
    model = read_models([])["mean"]
    chosen = json.loads((RESULTS / "choose_alpha.json").read_text())["chosen"]
    exact = DiffusionClassifierInferer(scheduler, num_draws=DRAWS, rule="mean")
    early = {
        share: DiffusionClassifierInferer(
            scheduler, num_draws=DRAWS, rule="mean", stopping=PredictiveCurtailment(alpha, model)
        )
        for share, alpha in chosen.items()
    }
    for inferer in early.values():
        inferer.classify(images[:1], fast)
    blocks: list[dict[str, Any]] = []
    for block in images.split(args.block):
        start = time.process_time()
        reference_loop(block, network, NoiseProcess(scheduler), num_draws=DRAWS)
        loop = time.process_time() - start
        all_draws = exact.classify(block, network).predicted
        row: dict[str, Any] = {"images": len(block), "loop_seconds": round(loop, 2)}
        for share, inferer in early.items():
            start = time.process_time()
            result = inferer.classify(block, fast)
            spent = time.process_time() - start
            row[share] = {
                "factor": round(loop / spent, 1),
                "evaluations": float(result.network_evaluations.double().mean()),
                "agree": int((result.predicted == all_draws).sum()),
            }
        blocks.append(row)
        print(json.dumps(row), flush=True)
    summary = {}
    for share, alpha in chosen.items():
        factors = [row[share]["factor"] for row in blocks]
        summary[share] = {
            "alpha": alpha,
            "median": statistics.median(factors),
            "lowest": min(factors),
            "highest": max(factors),
            "agree": sum(row[share]["agree"] for row in blocks),
            "images": len(images),
        }
    report = {
        "draws": DRAWS,
        "block": args.block,
        "torch": torch.__version__,
        "by_agreement": summary,
        "blocks": blocks,
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
