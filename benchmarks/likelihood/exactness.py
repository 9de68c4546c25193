"""How right the likelihood is where it is known, and how much one probe leaves open.

    python -m benchmarks.likelihood.exactness gaussian
    python -m benchmarks.likelihood.exactness probes --data DATA [--images 16] [--probes 8]

``gaussian``: largest error, in nats a dimension, of the likelihood of two Gaussian classes of 8 x 8 pixels under their
exact score, with rk4 at 32 steps and the exact divergence, for each SDE, with our end and with the published prior.
``probes``: the standard error of the log-ratio of an image from one probe, estimated from several, on validation
images of the bundle ``pneumonia_xray_score`` (DATA holds pneumoniamnist.npz), beside the spread of the log-ratio over
all validation images, from their stored likelihoods. Both write into ``benchmarks/results/likelihood_exactness.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf._spread import spread
from monai_diffclf.bundle import open_bundle
from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks import load_weights
from monai_diffclf.networks.schedulers import SDE, VESDE, VPSDE, SubVPSDE
from monai_diffclf.storage import load_likelihoods
from monai_diffclf.storage.atomic_file import replace_text

BUNDLE = BUNDLES / "pneumonia_xray_score"
OUTPUT = RESULTS / "likelihood_exactness.json"
SDES: dict[str, SDE] = {"VP": VPSDE(), "sub-VP": SubVPSDE(), "VE": VESDE()}
STD, SIDE = 0.5, 8


class ExactScore(torch.nn.Module):
    """The score of the noised Gaussian classes N(m_k, STD^2)."""

    def __init__(self, sde: SDE, means: torch.Tensor) -> None:
        super().__init__()
        self.sde, self.means = sde, means

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The score of noisy images under the given classes."""
        alpha, sigma = (factor.view(-1, 1, 1, 1) for factor in self.sde.alpha_sigma(timesteps))
        return (-(x - alpha * self.means[class_labels]) / (alpha**2 * STD**2 + sigma**2)).to(x)


def gaussian() -> dict[str, Any]:
    """The largest error of each SDE and end."""
    generator = torch.Generator().manual_seed(0)
    means = 0.2 * torch.randn(2, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    images = means.repeat_interleave(20, 0)
    images = images + STD * torch.randn(images.shape, generator=generator, dtype=torch.float64)
    exact = torch.distributions.Normal(means, STD).log_prob(images[:, None]).flatten(2).sum(2)
    found: dict[str, Any] = {}
    for name, sde in SDES.items():
        for terminal in ("corrected", "prior"):
            inferer = ScoreClassifierInferer(
                sde, 2, exact_divergence=True, solver="rk4", num_steps=32, terminal=terminal, batch_size=4096
            )
            off = inferer.log_likelihood(images, ExactScore(sde, means).eval()) - exact
            found.setdefault(name, {})[terminal] = float(off.abs().max() / SIDE**2)
    return {"images": len(images), "largest_error_in_nats_a_dimension": found}


def probes(data: Path, count: int, num_probes: int) -> dict[str, Any]:
    """Standard error of one probe's log-ratio, and the spread of the log-ratio over the images."""
    config = open_bundle(BUNDLE, "train.json", dataset_dir=str(data), progress=False)
    network = load_weights(config.get("score"), BUNDLE / "models" / "model.pt")
    items = list(config.get("validate#dataset"))
    images = torch.stack([torch.as_tensor(item["image"]).float() for item in spread(items, count)])
    inferer = ScoreClassifierInferer(
        config.get("sde"), 2, solver="multistep", num_steps=20, num_probes=num_probes, batch_size=256
    )
    each = inferer.classify(images, network).probe_log_likelihood
    errors = (each[:, 1] - each[:, 0]).std(1)
    stored = load_likelihoods(BUNDLE / "docs" / "evaluation" / "likelihoods_validation_seed_0.npz").log_likelihood
    scatter = float((stored[:, 1] - stored[:, 0]).std())
    return {
        "images": count,
        "probes": num_probes,
        "standard_error_of_one_probe": {
            "median": float(errors.median()),
            "root_mean_square": float(errors.square().mean().sqrt()),
            "largest": float(errors.max()),
        },
        "spread_over_validation_images": scatter,
        "num_validation_images": len(stored),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("gaussian", "probes"))
    parser.add_argument("--data", type=Path, help="folder of pneumoniamnist.npz")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--probes", type=int, default=8)
    args = parser.parse_args()
    if args.command == "probes" and args.data is None:
        parser.error("probes: expected --data DATA")
    made = gaussian() if args.command == "gaussian" else probes(args.data, args.images, args.probes)
    known = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    replace_text(OUTPUT, json.dumps({**known, args.command: made}, indent=1) + "\n")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
