"""Predictions of the ResNet-18 by MC dropout (Gal and Ghahramani, 2016), the baseline of the uncertainty figures.

    python -m benchmarks.uncertainty.mc_dropout --dataset_dir DATA --checkpoint MODEL [--passes 50]

MODEL is what the bundle ``pneumonia_xray_resnet18`` trains with ``"['configs/train.json','configs/dropout.json']"``.
Each image passes through the network with dropout in force, ``--passes`` times; the mean of the softmax goes to
``docs/predictions/{validation,test}_mc_dropout_seed_0.csv``. Dropout stands before the last layer only, so that the
layers before it are evaluated once.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from benchmarks.bundles import BUNDLES
from monai_diffclf.bundle import open_bundle
from monai_diffclf.handlers.evaluation_saver import write_predictions
from monai_diffclf.networks import load_weights

BUNDLE = BUNDLES / "pneumonia_xray_resnet18"


@torch.no_grad()
def mean_softmax(network: torch.nn.Sequential, images: torch.Tensor, passes: int) -> torch.Tensor:
    """Mean probabilities [B, K] over passes with dropout; batch normalisation stays in eval mode."""
    backbone, dropout, head = network.eval()
    features = backbone(images)
    dropout.train()
    return torch.stack([head(dropout(features)).softmax(1) for _ in range(passes)]).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--passes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    names = ("train.json", "dropout.json", "evaluate.json")
    config = open_bundle(BUNDLE, *names, dataset_dir=args.dataset_dir, progress=False)
    network = load_weights(config.get("network"), args.checkpoint)
    for split, name in (("validation", "validate"), ("test", "test")):
        items = list(config.get(f"{name}#dataset"))
        images = torch.stack([torch.as_tensor(item["image"]) for item in items])
        probabilities = torch.cat([mean_softmax(network, part, args.passes) for part in images.split(64)])
        write_predictions(
            BUNDLE / "docs" / "predictions" / f"{split}_mc_dropout_seed_{args.seed}.csv",
            keys=[str(item["key"]) for item in items],
            patients=[str(item["patient"]) for item in items],
            labels=np.asarray([int(item["label"]) for item in items]),
            probabilities=probabilities.numpy(),
        )


if __name__ == "__main__":
    main()
