"""What leading noisy wavelet coefficients past the U-Net does to a training.

    python -m benchmarks.accuracy.preconditioning [--epochs 25] [--pictures DIR]

Trains ``skin_lesion_diffusion`` (64 px, colour) twice on the development part of ISIC 2017, with and without the
preconditioning, all else alike: seed, steps, widths. Judged on the selection images, of which no test image is one:
macro AUC by epoch as the training validates (15 draws, mean); the error of the noise in bands of the log-SNR; how far
drawn images are from training images (`contrastive_samples`). A training that was stopped goes on. Writes
``benchmarks/results/preconditioning.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.contrastive_samples import Reference, draw, features_of, picture
from benchmarks.bundles import RESULTS
from benchmarks.evidence.data import as_tensor, load
from benchmarks.evidence.methods.bundles import write_images
from benchmarks.evidence.run import WORK
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.report.training_curve import read_training_curve
from monai_diffclf.run import run_bundle
from monai_diffclf.storage.atomic_file import replace_text

DATA, NAME = "isic2017_64", "skin_lesion_diffusion"
FOLDER = WORK / "preconditioning"
BANDS = (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
IMAGES, DRAWS, OF_A_CLASS, STEPS = 100, 51, 60, 50


def train(precondition: bool, epochs: int) -> tuple[Bundle, dict[str, Any]]:
    """One training, and the macro AUC and loss by epoch."""
    run = FOLDER / ("with" if precondition else "without")
    given: dict[str, Any] = {"denoiser#precondition": precondition}
    steps = {"max_epochs": epochs, "val_interval": 5, "seed": 0}
    run_bundle(NAME, ["train.json"], {"dataset_dir": FOLDER / "data", "output_dir": run, **steps, **given})
    curve = read_training_curve(run)
    if curve is None:
        raise ValueError(f"{run}: expected the events of a training, there are none; train it anew in an empty folder")
    auc = {str(e): round(v, 4) for e, v in zip(curve.validated.tolist(), curve.quality.tolist(), strict=True)}
    loss = {str(e): round(v, 5) for e, v in zip(curve.epochs.tolist(), curve.loss.tolist(), strict=True)}
    bundle = open_bundle(NAME, run=run, device="cpu", num_draws=DRAWS, weighting="uniform", **given)
    return bundle, {"auc": auc, "loss": loss}


def errors_by_level(bundle: Bundle, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Mean squared error of the noise under the right class, in bands of the log-SNR."""
    errors = DenoisingErrors.concatenate([bundle.classify(part).errors for part in images.split(25)])
    levels = errors.log_snr.numpy()
    own = errors.values[torch.arange(len(labels)), labels].mean(0).numpy()
    found = {}
    for low, high in itertools.pairwise(BANDS):
        inside = (levels >= low) & (levels < high)
        found[f"{low:g} to {high:g}"] = round(float(own[inside].mean()), 5)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    training, selection = load(DATA, "development")
    classes = open_bundle(NAME, "train.json").classes
    for split, images in (("train", training), ("validation", selection)):
        write_images(images, FOLDER / "data" / split, classes)
    some = selection.take(np.sort(np.random.default_rng(0).permutation(len(selection))[:IMAGES]))
    reference = Reference(DATA)
    content: dict[str, Any] = {
        "data": DATA, "training": len(training), "selection": len(selection), "epochs": args.epochs,
        "real": reference.measure(reference.validation),
    }  # fmt: skip
    for name, precondition in (("with", True), ("without", False)):
        bundle, found = train(precondition, args.epochs)
        found["error"] = errors_by_level(bundle, as_tensor(some), torch.from_numpy(some.labels))
        drawn = draw(bundle, OF_A_CLASS, STEPS, reference.shape)
        found["drawn"] = reference.measure([features_of(images) for images in drawn])
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            picture(drawn, args.pictures / f"preconditioning {name}.png")
        content[name] = found
        replace_text(RESULTS / "preconditioning.json", json.dumps(content, indent=1) + "\n")
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
