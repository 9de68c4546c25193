"""What reduced precision changes: votes and classes that differ from float32, before and after near ties are redone.

    python -m benchmarks.speed.mixed_precision --data DATA [--images 32] [--draws 51] [--dtype bfloat16]

DATA is the folder of pneumoniamnist.npz. Writes ``benchmarks/results/mixed_precision.json`` and prints it. Says nothing
about speed: few CPUs compute in bfloat16.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bundles import RESULTS
from benchmarks.speed.side_by_side import read_bundle, sample_images
from monai_diffclf.classification import classify_errors, draw_scores
from monai_diffclf.inferers import DiffusionClassifierInferer

OUTPUT = RESULTS / "mixed_precision.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--draws", type=int, default=51)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    args = parser.parse_args()
    config, network = read_bundle()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, images = network.to(device), sample_images(config, args.data, args.images, seed=0)[0].to(device)
    scheduler = config.get("scheduler")
    report: dict[str, Any] = {"images": args.images, "draws": args.draws, "dtype": args.dtype, "device": device.type}
    for rule in ("vote", "mean"):
        full = DiffusionClassifierInferer(scheduler, num_draws=args.draws, rule=rule)
        reduced = DiffusionClassifierInferer(
            scheduler, num_draws=args.draws, rule=rule, amp_dtype=getattr(torch, args.dtype)
        )
        expected = full.classify(images, network)
        rough = replace(expected, errors=reduced.compute_errors(images, network))
        result = reduced.classify(images, network)
        votes = [draw_scores(errors, "vote").argmax(1) for errors in (expected.errors, rough.errors)]
        report[rule] = {
            "draws_that_vote_otherwise": float((votes[0] != votes[1]).double().mean()),
            "classes_that_differ": int((classify_errors(rough.errors, rule).predicted != expected.predicted).sum()),
            "classes_that_differ_after_near_ties": int((result.predicted != expected.predicted).sum()),
            "evaluations_redone": float((result.network_evaluations / expected.network_evaluations).double().mean())
            - 1,
            "largest_error_difference": float((rough.errors.values - expected.errors.values).abs().max()),
        }
    text = json.dumps(report, indent=1)
    OUTPUT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
