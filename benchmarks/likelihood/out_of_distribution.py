"""How well the likelihood of the score model notices images of another kind, and that by itself it does not.

    python -m benchmarks.likelihood.out_of_distribution DATA [--images 100]

The kinds of images are those that typicality was developed on (``benchmarks/uncertainty/kinds.py``). Three scores of
each image: -log p(x); the typicality test, |log p(x) - median of the validation images|; and the typicality of its
denoising errors at all noise levels, from 51 draws. The area under the ROC curve in which test X-rays are to score
lower than each kind, and the median bits per dimension, are written to
``benchmarks/results/likelihood_out_of_distribution.json``. Needs the bundle's stored validation
likelihoods and errors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.uncertainty.kinds import DEVELOPMENT
from benchmarks.uncertainty.out_of_distribution import Kinds, separation
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
        evaluation = BUNDLE / "docs" / "evaluation"
        likelihoods = load_likelihoods(evaluation / "likelihoods_validation_seed_0.npz")
        errors = load_errors(evaluation / "errors_validation_seed_0.npz")
        self.likelihood = fit_likelihood_typicality(marginal_log_likelihood(likelihoods.log_likelihood))
        self.errors = fit_typicality(errors.errors, groups=errors.patients)

    def __call__(self, images: torch.Tensor, kind: str) -> dict[str, torch.Tensor]:
        """Scores of each image [n], larger for what looks less like an X-ray."""
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
        **{name: separation(inside[name].numpy(), outside[name].numpy()) for name in scores},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of pneumoniamnist_28, isic2017_256 and busi_256")
    parser.add_argument("--images", type=int, default=100, help="of each kind")
    args = parser.parse_args()
    kinds = Kinds(BUNDLE.name, args.data, args.images)
    score = Scorer()
    inside = score(kinds.images("none"), "test")
    content: dict[str, Any] = {
        "data": "PneumoniaMNIST, 28 px, score model, seed 0",
        "num_test": args.images,
        "test_median_bits_per_dimension": float(inside["bits_per_dimension"].median()),
        "share_of_test_with_p_below_0.01": float((inside["p_value"] < 0.01).double().mean()),
        "kinds": {},
    }
    for kind in DEVELOPMENT["chest X-rays"]:
        content["kinds"][kind] = entry = summarise(inside, score(kinds.images(kind), kind))
        found = [
            f"{name} {entry[name]['value']:.3f} ({entry[name]['low']:.3f} to {entry[name]['high']:.3f})"
            for name in ("likelihood", "likelihood_typicality", "error_typicality")
        ]
        print(kind, *found, f"{entry['median_bits_per_dimension']:.2f} bits")
    replace_text(RESULTS / "likelihood_out_of_distribution.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
