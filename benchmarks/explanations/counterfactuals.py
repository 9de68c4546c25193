"""Counterfactuals without lesion, made in three ways and measured in the same way."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from monai_diffclf.explain import CounterfactualGenerator, counterfactual_quality, frechet_distance
from monai_diffclf.inferers import DiffusionClassifierInferer

CLEAR, LESION = 0, 1
WAYS: dict[str, dict[str, Any]] = {
    # Favero et al. (2025): noise to the middle of the schedule, ancestral sampling, classifier-free guidance.
    "sampled": {"method": "sample", "start": 0.5, "num_steps": 50, "guidance": 4.5, "guide_away": "null"},
    "inverted": {"method": "invert", "guidance": (1.0, 2.0, 4.0, 8.0)},
    "inverted, masked": {"method": "invert", "guidance": (1.0, 2.0, 4.0, 8.0), "edit_fraction": 0.04},
}


def measure_counterfactuals(
    images: torch.Tensor,
    masks: torch.Tensor,
    clear: torch.Tensor,
    network: torch.nn.Module,
    scheduler: Scheduler,
    inferer: DiffusionClassifierInferer,
    resnet: torch.nn.Module | None,
) -> tuple[dict[str, Any], torch.Tensor]:
    """Quality of every way, and the counterfactuals of the last one [n, 1, H, W].

    Args:
        images: images with a lesion [n, 1, H, W].
        masks: their lesions [n, H, W].
        clear: images without a lesion: what counterfactuals should look like [m, 1, H, W].
        network: the diffusion model.
        scheduler: its scheduler.
        inferer: the diffusion classifier that judges.
        resnet: the baseline that judges too, and whose features say how real images look; or None.
    """
    report: dict[str, Any] = {"images": len(images)}
    baseline = None if resnet is None else lambda batch: resnet(batch).detach()
    source = torch.full((len(images),), LESION, device=images.device)
    features = None if resnet is None else make_features(resnet)
    if features is not None:
        # The scale: how far images with a lesion are from those without.
        report["frechet_of_the_images_themselves"] = frechet_distance(features(images), features(clear))
    for name, settings in WAYS.items():
        generator = CounterfactualGenerator(scheduler, 2, label_dropout=0.1, **settings)
        with warnings.catch_warnings():  # drift is in the report
            warnings.simplefilter("ignore", UserWarning)
            pairs = generator(
                images, network, source=source, target=CLEAR + 0 * source, inferer=inferer, baseline=baseline
            )
        quality = counterfactual_quality(pairs, masks=masks[:, None].to(images.device))
        row: dict[str, Any] = {
            metric: {bound: float(getattr(each, bound)) for bound in ("value", "low", "high")}
            for metric, each in quality.items()
        }
        if features is not None:
            row["frechet"] = frechet_distance(features(pairs.counterfactual), features(clear))
        report[name] = {"settings": settings, **row}
    return report, pairs.counterfactual.cpu()


def make_features(resnet: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """The baseline's features before its last layer [n, D]."""
    trunk = copy.deepcopy(resnet)
    trunk.fc = torch.nn.Identity()

    @torch.no_grad()
    def features(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = trunk.eval()(images)
        return found

    return features
