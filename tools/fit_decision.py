"""Learn from a bundle's validation errors how to spend draws: level sampling, level weights, model for early stopping.

    python -m tools.fit_decision --bundle bundles/pneumonia_xray_diffusion --errors ERRORS --dataset_dir DATA

What ``monai-diffclf fit --decision`` does for a run, for the weights that a bundle ships: writes
``configs/decision.json`` of the bundle. ERRORS are validation errors with all draws (``save_errors``); their
patients must be in neither training nor test set. DATA is the bundle's data set: mirrored noise is measured on its
validation images. Prints the gain of the weights in nested cross-validation: folds that choose them are never judged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from monai_diffclf.bundle import open_bundle
from monai_diffclf.fitting import fit_decision, measure_mirrored
from monai_diffclf.fitting.fitted_run import evaluated_bundle
from monai_diffclf.storage import load_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--errors", type=Path, required=True)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--parts", type=int, default=8, help="parts of the schedule")
    parser.add_argument("--mirrored-draws", type=int, default=64, help="draws an image to measure mirrored noise")
    args = parser.parse_args()
    where, stored = evaluated_bundle(args.bundle), load_errors(args.errors)
    settings = {**where.settings, "dataset_dir": args.dataset_dir, "progress": False}
    bundle = open_bundle(args.bundle, "train.json", "evaluate.json", **settings)
    mirrored = measure_mirrored(bundle, where.mirrored, num_parts=args.parts, num_draws=args.mirrored_draws)
    fit = fit_decision(bundle, stored, mirrored, source=args.errors, num_parts=args.parts)
    fit.save(where.decision)
    print(json.dumps(fit.notes, indent=1))


if __name__ == "__main__":
    main()
