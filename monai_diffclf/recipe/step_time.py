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
from monai.data import CacheDataset, DataLoader, Dataset
from monai.engines import default_prepare_batch

from .._checks import plain_tensor
from ..bundle import Bundle, open_bundle
from ..data import class_balanced_weights
from ..networks.precondition import precondition_network

__all__ = ["StepTime", "encoder_precision", "measure_steps", "seconds_per_step"]

_ENCODED = 16  # images that an encoder is timed with
_STEPS, _SECONDS = 8, 6.0  # at most so many steps, and none begun after so many seconds


@dataclass(frozen=True)
class StepTime:
    """What was measured on this machine.

    Args:
        step: seconds of a training step, augmentation included.
        evaluation: seconds of one evaluation of the network, of one image under one class and noise.
        encoding: seconds in which an image is read, augmented and encoded; 0 for a model in pixels.
        adaptation: seconds in which an encoder is fine-tuned by one image; 0 where it is not.
    """

    step: float
    evaluation: float
    encoding: float = 0.0
    adaptation: float = 0.0


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
    items = [datalist[i] for i in chosen]
    encoding = adaptation = 0.0
    if "encoder" in opened.parser:
        encoding, adaptation = _time_encoder(opened, items[:_ENCODED])
        dataset = Dataset(_latent_items(opened, items))
    else:
        dataset = CacheDataset(items, opened.get("train#preprocessing"), progress=False)
    if "denoiser" in opened.parser:
        precondition_network(
            opened.get("denoiser"), opened.get("scheduler"), items, opened.get("validate#preprocessing")
        )
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
    evaluation = _seconds_per_evaluation(network.eval(), noisy, arguments)
    return StepTime(median_high(seconds[1:]), evaluation, encoding, adaptation)


def _latent_items(opened: Bundle, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Noise in the place of latents: a step takes as long, and the space needs not be fitted."""
    generator = torch.Generator().manual_seed(0)
    shape = [int(opened.get("num_components")), *map(int, opened.get("denoiser").input_size)]
    return [{"image": torch.randn(shape, generator=generator), "label": item["label"]} for item in items]


def encoder_precision(bundle: Bundle) -> str | None:
    """``"bfloat16"`` where a bundle's encoder is at least half as fast again in it on this machine, else None.

    Processors with matrix units for it (AMX), and GPUs, are two to five times as fast; on others it is slower.
    """
    # Made outside of inference mode: its weights may be trained afterwards.
    encoder, device = bundle.get("encoder").to(bundle.device).eval(), bundle.device
    images = torch.zeros(8, bundle.channels, *bundle.image_size, device=device)
    best = []
    for reduced in (False, True):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced):
                encoder(images)
            _wait(device)
            seconds.append(time.perf_counter() - start)
        best.append(min(seconds))
    return "bfloat16" if best[1] * 1.5 < best[0] else None


def _time_encoder(opened: Bundle, items: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Seconds in which an image is read, augmented and encoded, and in which it fine-tunes the encoder."""
    encoder, device, preprocessing = opened.get("encoder"), opened.device, opened.get("train#preprocessing")
    encoder = encoder.to(device).eval()
    name = opened.get("encoder_amp")
    precision = None if name is None else getattr(torch, name)
    seconds: list[float] = []
    for _ in range(2):  # in the first one memory is laid out
        start = time.perf_counter()
        batch = torch.stack([plain_tensor(torch.as_tensor(preprocessing(item)["image"])).float() for item in items])
        batch = batch.to(device)
        with torch.inference_mode(), torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            encoder(batch)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    encoding = seconds[-1] / len(items)
    if opened.get("adaptation") is None:
        return encoding, 0.0
    encoder.requires_grad_(True).train()
    for _ in range(2):
        start = time.perf_counter()
        encoder(batch).square().mean().backward()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    # Beside it an image is read and augmented, which the time of encoding holds too.
    return encoding, seconds[-1] / len(items) + encoding


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
