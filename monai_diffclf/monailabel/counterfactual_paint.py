# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The counterfactual of one image in its own size, by the generator of the bundle's `counterfactuals.json`."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor

from ..explain import CounterfactualGenerator
from .bundle_model import BundleModel, Outcome
from .inference_queue import Job, stoppable

__all__ = ["Painting", "can_paint", "paint"]


@dataclass(frozen=True)
class Painting:
    """What would be different if an image were of another class.

    Args:
        target: the other class.
        difference: what is added to the image's values in [0, 1], in its own size [C, *spatial].
        flipped: whether the classifier takes the painting for the target.
        drift: how much the editing changes the image by itself, in the network's units (range 2).
        drifted: whether that is more than the generator allows.
    """

    target: str
    difference: torch.Tensor
    flipped: bool | None
    drift: float
    drifted: bool


def can_paint(model: BundleModel) -> bool:
    """Whether the bundle says how counterfactuals are made."""
    return (model.folder / "configs" / "counterfactuals.json").is_file()


def paint(model: BundleModel, image: MetaTensor, outcome: Outcome, job: Job) -> Painting:
    """Paint an image as the rival of its class.

    Args:
        model: the classifier.
        image: the image from `BundleModel.read`.
        outcome: what it was found to be.
        job: what may stop the work.

    Raises:
        ValueError: when the bundle has no counterfactuals.
        JobStopped: when the job was stopped.
    """
    if not can_paint(model):
        raise ValueError(
            f"counterfactual: expected configs/counterfactuals.json in {model.folder.name}, which has none"
        )
    generator, network = _generator(model), model.network(model.device)
    source, target = torch.tensor([outcome.predicted]), torch.tensor([outcome.rival])
    with stoppable(network, job), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the drift, which the result says too
        made = generator(
            image.as_tensor()[None].to(model.device),
            network,
            source=source.to(model.device),
            target=target.to(model.device),
            inferer=model.inferer(),
        )
    low, high = generator.settings.clip or (-1.0, 1.0)
    channels = [model.to_image_size(each, image) for each in made.difference[0].cpu() / (high - low)]
    return Painting(
        target=model.classes[outcome.rival],
        difference=torch.stack(channels),
        flipped=None if made.flipped is None else bool(made.flipped[0]),
        drift=float(made.drift[0]),
        drifted=bool(made.drifted[0]),
    )


def _generator(model: BundleModel) -> CounterfactualGenerator:
    parser = model.parser()
    config: dict[str, Any] = json.loads((model.folder / "configs" / "counterfactuals.json").read_text())
    for name, value in config.items():
        parser[name] = value
    parser["progress"] = False
    made = parser.get_parsed_content("counterfactuals")
    if not isinstance(made, CounterfactualGenerator):
        raise TypeError(f"counterfactual: expected a CounterfactualGenerator in {model.folder.name}, got {type(made)}")
    return made
