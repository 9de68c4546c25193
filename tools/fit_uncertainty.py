"""Learn from a bundle's validation errors how sure it may be: calibration, prediction sets, typicality.

    python -m tools.fit_uncertainty bundles/pneumonia_xray_diffusion [--dataset_dir DATA] [--run RUN]

What ``monai-diffclf fit`` does for a run, also for the weights that a bundle ships: writes ``configs/uncertainty.json``
of the bundle, for the rules mean and vote, from the validation errors that are published in ``docs/evaluation`` and the
settings of its ``evaluate.json``. The method of calibration is the one with the smallest cross-fitted negative
log-likelihood: every patient is judged by fits without them. Prints these.
With DATA, the bundle's data set, typicality also knows what training and validation images look like, and the mean
image of the latter is stored, by which inverted images are found.
With RUN, the folder of a training that was evaluated, it is all about that run's weights, classes and errors, and goes
to ``RUN/uncertainty.json``, which inference takes as ``--uncertainty``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from monai_diffclf.bundle import open_bundle
from monai_diffclf.fitting.choose_calibration import METHODS
from monai_diffclf.fitting.fit_uncertainty import fit_uncertainty, mean_image_note
from monai_diffclf.fitting.fitted_run import evaluated_bundle, evaluated_run
from monai_diffclf.fitting.image_description import describe_images, describe_training
from monai_diffclf.fitting.same_images import OtherNoiseError, check_images
from monai_diffclf.storage import load_errors


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--dataset_dir", help="the data set, for what its validation images look like")
    parser.add_argument(
        "--errors", type=Path, help="validation errors of the shipped weights; default: those of --seed"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training whose weights the bundle ships")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the prediction sets")
    parser.add_argument("--method", choices=METHODS, help="of the calibration; default: the best in cross-fitting")
    parser.add_argument("--run", type=Path, help="folder of an evaluated training, to fit to its weights instead")
    return parser, parser.parse_args()


def main() -> None:
    parser, args = parse()
    try:
        fit_bundle(args)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def fit_bundle(args: argparse.Namespace) -> None:
    """Fit and write, as the arguments say."""
    where = evaluated_run(args.run) if args.run else evaluated_bundle(args.bundle, args.seed)
    path = args.errors or where.errors
    stored = load_errors(path)
    settings = {} if args.dataset_dir is None else {"dataset_dir": args.dataset_dir}
    bundle = open_bundle(args.bundle, "train.json", "evaluate.json", progress=False, **{**where.settings, **settings})
    described = training = None
    if args.dataset_dir:
        try:
            check_images(bundle, stored, path)
        except OtherNoiseError as error:  # published before the noise of today: same images by their names
            print(f"images are told by their names alone: {error}", file=sys.stderr)
        described, training = describe_images(bundle, stored), describe_training(bundle, stored)
    mean = mean_image_note(bundle, where.uncertainty, with_images=args.dataset_dir is not None)
    fit = fit_uncertainty(
        bundle,
        stored,
        source=path,
        confidence=args.confidence,
        method=args.method,
        mean_image=mean,
        described=described,
        training=training,
    )
    fit.save(where.uncertainty)
    notes = {"images": len(stored.keys), "cross_fitted_loss": fit.losses}
    print(json.dumps({**notes, "methods": fit.methods}, indent=1))


if __name__ == "__main__":
    main()
