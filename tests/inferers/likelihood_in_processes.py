"""Classify images by likelihood in one process and in two; helper of test_score_classifier.py, run as a script.

python tests/inferers/likelihood_in_processes.py OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import ignite.distributed as idist
import torch

from monai_diffclf.classification import UniformDequantization
from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks.schedulers import VPSDE
from tests.closed_form import ExactDenoiser, make_classes, make_images


def classify(rank: int, folder: str) -> None:
    """Write the likelihoods of this process's share of six images."""
    classes = make_classes("mixture")
    images = make_images(classes, 3)
    inferer = ScoreClassifierInferer(
        VPSDE(), num_steps=4, num_probes=3, probe="gaussian", dequantization=UniformDequantization()
    )
    size = idist.get_world_size()
    share = images[idist.get_rank() :: size]
    result = inferer.log_likelihood(share, ExactDenoiser(inferer.process, classes))
    torch.save(result, Path(folder) / f"{size}-{idist.get_rank()}.pt")


def main() -> None:
    folder = sys.argv[1]
    classify(0, folder)
    with idist.Parallel(backend="gloo", nproc_per_node=2, start_method="fork") as parallel:
        parallel.run(classify, folder)


if __name__ == "__main__":
    main()
