# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers that show how a training goes: a progress bar, a line an epoch, sampled images of each class."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence, Sized
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.networks.schedulers import Scheduler
from tqdm.auto import tqdm

from ..engines import DiffusionClassifierEvaluator
from ..keys import OutputKeys
from ..networks.conditioning import Conditioning
from ..sampling import sample_classes

__all__ = ["EpochLog", "ProgressBar", "SampleGrid"]

_WARM, _MEASURED = 2, 8  # steps before the time of a step is measured, and those that are


class ProgressBar:
    """One bar for a whole run of an engine, with the time left.

    It counts images, or batches where their sizes are not known, and shows how many a second: for a trainer with the
    running loss, for a `DiffusionClassifierEvaluator` with the mean network evaluations an image. Images found in the
    evaluator's journal count as done, but not for the speed. With several processes the bar is that of the first, with
    its share of the images.

    Args:
        enabled: False shows nothing.
        description: text before the bar.
    """

    def __init__(self, enabled: bool = True, description: str = "") -> None:
        self.enabled, self.description = enabled, description
        self._bar: Any = None
        self._batch = 1.0
        self._images = self._evaluations = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator."""
        if self.enabled and idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
            for event in (Events.COMPLETED, Events.TERMINATE, Events.EXCEPTION_RAISED):
                engine.add_event_handler(event, self._close)

    def _start(self, engine: Engine) -> None:
        if self._bar is not None:
            return
        length, epochs = engine.state.epoch_length or 0, engine.state.max_epochs or 1
        images = _images_a_batch(engine, length)
        self._batch = images or 1.0
        options: dict[str, Any] = {"total": round(length * epochs * self._batch)}
        options["unit"] = " batches" if images is None else " images"
        options["initial"] = round(engine.state.iteration * self._batch)
        if isinstance(engine, DiffusionClassifierEvaluator):
            options.update(total=_count_images(engine.state.dataloader), initial=0, unit=" images")
            self._images = self._evaluations = 0
        self._bar = tqdm(desc=self.description, mininterval=1, **options)

    def _step(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if isinstance(engine, DiffusionClassifierEvaluator) and isinstance(output, list):
            self._count(output)
            self._bar.update(len(engine.unreadable))
            return
        if isinstance(output, dict) and "loss" in output:
            loss = float(torch.as_tensor(output["loss"]).detach().float().mean())
            self._bar.set_postfix(epoch=engine.state.epoch, loss=f"{loss:.4f}", refresh=False)
        self._bar.update(round(engine.state.iteration * self._batch) - self._bar.n)

    def _count(self, output: list[dict[str, Any]]) -> None:
        """Move on by the images of a batch."""
        self._images += len(output)
        self._evaluations += sum(int(item[OutputKeys.NETWORK_EVALUATIONS]) for item in output)
        found = sum(bool(item.get(OutputKeys.RECORDED, False)) for item in output)
        # As if they had been done before the bar began.
        self._bar.initial += found
        self._bar.n += found
        self._bar.last_print_n += found
        if self._images:
            self._bar.set_postfix_str(f"{self._evaluations / self._images:.1f} evaluations/image", refresh=False)
        self._bar.update(len(output) - found)

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if error is not None:  # ignite hands the exception to the handlers and raises it no further
            raise error


class EpochLog:
    """Log a line at the end of every epoch of a training: epoch, mean loss, latest validation metric, time left.

    The time left is that of the mean epoch so far, validations included. After the first steps a line says how long all
    will take without the validations. With several processes the first one logs.

    Args:
        best: the validation's `BestModelSaver`, for the best value so far; None leaves it out.
    """

    def __init__(self, best: Any = None) -> None:
        self.best = best
        self._losses: list[float] = []
        self._start = self._warm = 0.0
        self._first = self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its validation."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._started)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _started(self, engine: Engine) -> None:
        self._losses = []
        if not self._start:
            self._start, self._first = time.monotonic(), engine.state.epoch

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if isinstance(output, dict) and "loss" in output:
            self._losses.append(float(torch.as_tensor(output["loss"]).detach().float().mean()))
        self._steps += 1
        if self._steps == _WARM:
            self._warm = time.monotonic()
        if self._steps == _WARM + _MEASURED:
            self._estimate(engine)

    def _estimate(self, engine: Engine) -> None:
        a_step = (time.monotonic() - self._warm) / _MEASURED
        left = (engine.state.epoch_length or 0) * (engine.state.max_epochs or 1) - engine.state.iteration
        logging.getLogger(__name__).info(
            "%.2g s a step: about %s for the %d steps left, without validations", a_step, _duration(a_step * left), left
        )  # fmt: skip

    def _log(self, engine: Engine) -> None:
        epoch, last = engine.state.epoch, engine.state.max_epochs or engine.state.epoch
        parts = [f"Epoch {epoch}/{last}"]
        if self._losses:
            parts.append(f"loss {sum(self._losses) / len(self._losses):.4f}")
        if self.best is not None and self.best.best is not None:
            parts.append(f"best {self.best.metric} {self.best.best:.4f} (epoch {self.best.epoch})")
        spent = time.monotonic() - self._start
        left = spent / (epoch - self._first + 1) * (last - epoch)
        parts.append(f"{_duration(left)} left" if epoch < last else f"done in {_duration(spent)}")
        logging.getLogger(__name__).info(", ".join(parts))


def _duration(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> _duration(7.4), _duration(754), _duration(9000)
        ('7 s', '13 min', '2 h 30 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _count_images(loader: Any) -> int | None:
    """How many images a process gets of a data loader, None where that is not known."""
    for source in (getattr(loader, "sampler", None), getattr(loader, "dataset", None)):
        if isinstance(source, Sized):
            return len(source)
    return None


def _images_a_batch(engine: Engine, num_batches: int) -> float | None:
    """Images of a mean batch in an epoch, None where that is not known."""
    loader = engine.state.dataloader
    images, size = _count_images(loader), getattr(loader, "batch_size", None)
    if not images or not size or not num_batches:
        return None
    return float(min(images, size * num_batches) / num_batches)


class SampleGrid:
    """Write a grid of sampled images to TensorBoard: one row a class; images in a column share their noise.

    Columns that differ down the rows show what the model believes a class changes in an image.

    Args:
        summary_writer: a `SummaryWriter`.
        network: the denoiser, usually the EMA's.
        scheduler: the scheduler it is trained with.
        shape: shape of one image [C, H, W], scaled to [-1, 1]; of volumes [C, H, W, D] the middle slice is shown.
        num_classes: number of classes.
        conditioning: how a class reaches the network.
        num_images: columns.
        num_steps: sampling steps.
        interval: epochs between two grids.
    """

    def __init__(
        self,
        summary_writer: Any,
        network: torch.nn.Module,
        scheduler: Scheduler,
        shape: Sequence[int],
        *,
        num_classes: int,
        conditioning: str | Conditioning = "class_labels",
        num_images: int = 8,
        num_steps: int = 25,
        interval: int = 5,
    ) -> None:
        self.summary_writer, self.network, self.scheduler = summary_writer, network, scheduler
        self.shape, self.num_classes, self.conditioning = list(shape), num_classes, conditioning
        self.num_images, self.num_steps, self.interval = num_images, num_steps, interval

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        """Sample and write the grid."""
        self.summary_writer.add_image("samples_by_class", self.grid(), engine.state.epoch)

    def grid(self) -> torch.Tensor:
        """The grid [C, K H, num_images W], values in [0, 1]."""
        device = next(self.network.parameters()).device
        rows = []
        for label in range(self.num_classes):
            images = sample_classes(
                self.network,
                self.scheduler,
                torch.full((self.num_images,), label),
                self.shape,
                num_classes=self.num_classes,
                conditioning=self.conditioning,
                num_steps=self.num_steps,
                device=device,
            )
            images = images[..., images.shape[-1] // 2] if images.ndim == 5 else images
            rows.append(torch.cat(list(images), dim=-1))
        return ((torch.cat(rows, dim=-2) + 1) / 2).clamp(0, 1).cpu()
