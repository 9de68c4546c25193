"""How well the likelihood of the score model notices images of another kind, and that by itself it does not.

    python -m benchmarks.likelihood.out_of_distribution --dataset_dir PNEUMONIAMNIST --dermoscopy DIR --ultrasound DIR

The kinds of images are those of ``out_of_distribution.py``. Three scores of each image: -log p(x); the typicality test,
|log p(x) - median of the validation images|; and the typicality of its denoising errors at all noise levels, from 51
draws. Written to ``benchmarks/results/likelihood_out_of_distribution.json``: the area under the ROC curve in which test
X-rays are to score lower than each kind, and the median bits per dimension. Needs the bundle's stored validation
likelihoods and errors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.uncertainty.out_of_distribution import CORRUPTIONS, FOREIGN, corrupted, foreign, separation
from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import bits_per_dimension, marginal_log_likelihood
from monai_diffclf.storage import load_errors, load_likelihoods
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import fit_likelihood_typicality, fit_typicality

BUNDLE = BUNDLES / "pneumonia_xray_score"
BATCH = 16


class Scorer:
    """The bundle's network and inferers, and what was fitted to its validation images."""

    def __init__(self) -> None:
        weights = str(BUNDLE / "models" / "model.pt")
        config = open_bundle(BUNDLE, "train.json", "evaluate.json", checkpoint=weights, resize=True)
        self.network = config.get("evaluate#network")
        self.inferer = config.get("evaluate#inferer")
        self.denoising = config.get("evaluate#denoising")
        self.read = config.get("validate#preprocessing")
        evaluation = BUNDLE / "docs" / "evaluation"
        likelihoods = load_likelihoods(evaluation / "likelihoods_validation_seed_0.npz")
        errors = load_errors(evaluation / "errors_validation_seed_0.npz")
        self.likelihood = fit_likelihood_typicality(marginal_log_likelihood(likelihoods.log_likelihood))
        self.errors = fit_typicality(errors.errors, groups=errors.patients)

    def __call__(self, items: list[dict[str, Any]], kind: str) -> dict[str, torch.Tensor]:
        """Scores of each image [n], larger for what looks less like an X-ray."""
        images = torch.stack([torch.as_tensor(np.asarray(self.read(item)["image"])).float() for item in items])
        log_likelihood, typicality = [], []
        for batch in tqdm(images.split(BATCH), desc=kind, unit="batch"):
            log_likelihood.append(marginal_log_likelihood(self.inferer.log_likelihood(batch, self.network)))
            typicality.append(self.errors.score(self.denoising.compute_errors(batch, self.network)))
        marginal = torch.cat(log_likelihood)
        return {
            "likelihood": -marginal,
            "likelihood_typicality": self.likelihood.score(marginal),
            "error_typicality": torch.cat(typicality),
            "bits_per_dimension": bits_per_dimension(marginal, images[0].numel()),
            "p_value": self.likelihood.p_value(marginal),
        }


def summarise(inside: dict[str, torch.Tensor], outside: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What is written of one kind."""
    scores = ("likelihood", "likelihood_typicality", "error_typicality")
    return {
        "num_images": len(outside["likelihood"]),
        "median_bits_per_dimension": float(outside["bits_per_dimension"].median()),
        "share_with_p_below_0.01": float((outside["p_value"] < 0.01).double().mean()),
        **{name: separation(inside[name], outside[name]) for name in scores},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--images", type=int, default=100, help="of each kind")
    for kind in FOREIGN:
        parser.add_argument(f"--{kind}", required=True, type=Path)
    args = parser.parse_args()
    score = Scorer()
    inside = score(corrupted(args.dataset_dir, "none", args.images), "test")
    content: dict[str, Any] = {
        "data": "PneumoniaMNIST, 28 px, score model, seed 0",
        "num_test": args.images,
        "test_median_bits_per_dimension": float(inside["bits_per_dimension"].median()),
        "share_of_test_with_p_below_0.01": float((inside["p_value"] < 0.01).double().mean()),
        "kinds": {},
    }
    for kind in (*FOREIGN, *(name for name in CORRUPTIONS if name != "none")):
        source = getattr(args, kind) if kind in FOREIGN else None
        items = foreign(source, kind, args.images) if source else corrupted(args.dataset_dir, kind, args.images)
        content["kinds"][kind] = entry = summarise(inside, score(items, kind))
        found = [
            f"{name} {entry[name]['value']:.3f} ({entry[name]['low']:.3f} to {entry[name]['high']:.3f})"
            for name in ("likelihood", "likelihood_typicality", "error_typicality")
        ]
        print(kind, *found, f"{entry['median_bits_per_dimension']:.2f} bits")
    replace_text(RESULTS / "likelihood_out_of_distribution.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
