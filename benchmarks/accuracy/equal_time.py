"""Training of a denoiser for a time of the processor, for comparisons at equal time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.schedule import make_scheduler
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.handlers import MovingAverage
from monai_diffclf.losses import DenoisingLoss

__all__ = ["DROPOUT", "WARMUP", "train_for"]

DROPOUT, WARMUP = 0.1, 0.05


def train_for(
    seconds: float,
    network: torch.nn.Module,
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    *,
    rate: float,
    seed: int,
    name: str,
    dtype: torch.dtype | None = None,
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Train a network of two classes for so many seconds of the processor, the learning rate a cosine over them.

    Args:
        seconds: time of the processor, of all threads; what makes the batches is in it.
        network: called with noisy images, timesteps and class labels.
        batch: images [B, C, H, W] in [-1, 1], or latents, and labels [B] of the next step.
        rate: the largest learning rate.
        seed: of noise, levels and dropped labels.
        name: what is printed beside the progress.
        dtype: reduced precision of the network's calls (autocast), None for none.

    Returns:
        the averaged network in eval mode, and what its training was.
    """
    scheduler = make_scheduler()
    average = MovingAverage(network, 0.995)
    prepare = DenoisingPrepareBatch(scheduler, 2, label_dropout=DROPOUT, seed=seed)
    loss_function = DenoisingLoss(scheduler, weighting="min_snr", gamma=5.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    start, steps, seen, recent = time.process_time(), 0, 0, 0.0
    network.train()
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, share / WARMUP) * (1 + math.cos(math.pi * share)) / 2
        images, labels = batch()
        noisy, targets, _, arguments = prepare({"image": images, "label": labels})
        with torch.autocast(noisy.device.type, dtype, enabled=dtype is not None):
            prediction = network(noisy, **arguments)
        loss = loss_function(prediction.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update()
        steps, seen, recent = steps + 1, seen + len(labels), 0.99 * recent + 0.01 * float(loss.detach())
        if steps % 100 == 0:
            print(name, f"{share:.0%}", steps, round(recent, 4), flush=True)
    details = {
        "seconds": time.process_time() - start,
        "steps": steps,
        "images_seen": seen,
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }
    return average.ema_model.eval(), details
