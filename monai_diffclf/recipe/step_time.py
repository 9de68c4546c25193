# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How long a training step and a network evaluation take on this machine, measured on the first real ones."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader
from monai.engines import default_prepare_batch

from ..bundle import Bundle, open_bundle
from ..data import class_balanced_weights

__all__ = ["StepTime", "measure_steps", "seconds_per_step"]

_STEPS, _SECONDS = 8, 6.0  # at most so many steps, and none begun after so many seconds


@dataclass(frozen=True)
class StepTime:
    """What was measured on this machine.

    Args:
        step: seconds of a training step, augmentation included.
        evaluation: seconds of one evaluation of the network, of one image under one class and noise.
    """

    step: float
    evaluation: float


def seconds_per_step(bundle: Bundle | str | os.PathLike[str]) -> float:
    """Seconds of a training step of a bundle on this machine; see `measure_steps`."""
    return measure_steps(bundle).step


def measure_steps(bundle: Bundle | str | os.PathLike[str], items: Sequence[dict[str, Any]] | None = None) -> StepTime:
    """Make the first steps of a training on real images, and throw away what was learned.

    One batch is read; the first step and the first evaluation, in which memory is laid out, do not count.

    Args:
        bundle: a bundle, opened with ``train.json``, or its folder. One that is opened serves for no training
            afterwards: its network has made some steps.
        items: images to take the batch from; None for the bundle's training images.

    Raises:
        ValueError: when an image cannot be read.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, "train.json", progress=False)
    datalist = opened.get("train#datalist") if items is None else list(items)
    batch, device = int(opened.get("batch_size")), opened.device
    # As the training draws them: all classes alike, with augmentation.
    chosen = torch.multinomial(
        class_balanced_weights(datalist), batch, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    dataset = CacheDataset([datalist[i] for i in chosen], opened.get("train#preprocessing"), progress=False)
    network, optimizer, loss = opened.get("network"), opened.get("optimizer"), opened.get("loss")
    prepare = opened.get("train#prepare_batch") if "train#prepare_batch" in opened.parser else _prepare_classifier
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= _STEPS and sum(seconds[1:]) < _SECONDS):
        start = time.perf_counter()
        noisy, targets, _, arguments = prepare(next(iter(DataLoader(dataset, batch_size=batch))), device)
        network.train()
        optimizer.zero_grad()
        loss(network(noisy, **arguments), targets).backward()
        optimizer.step()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return StepTime(median_high(seconds[1:]), _seconds_per_evaluation(network.eval(), noisy, arguments))


def _prepare_classifier(
    batch: Any, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, tuple[()], dict[str, Any]]:
    """Images and labels of a network that classifies, in the form of `DenoisingPrepareBatch`."""
    images, labels = default_prepare_batch(batch, device)
    return torch.as_tensor(images), torch.as_tensor(labels), (), {}


@torch.inference_mode()
def _seconds_per_evaluation(network: torch.nn.Module, noisy: torch.Tensor, arguments: dict[str, Any]) -> float:
    """Of calls of at least 128 evaluations, as classifiers make them."""
    repeats = -(-128 // len(noisy))
    images = noisy.repeat(repeats, *[1] * (noisy.ndim - 1))
    conditions = {name: value.repeat(repeats, *[1] * (value.ndim - 1)) for name, value in arguments.items()}
    seconds: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        network(images, **conditions)
        _wait(noisy.device)
        seconds.append(time.perf_counter() - start)
    return median_high(seconds[1:]) / len(images)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
