# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers for training: seeds, gradient clipping, resuming, the best model."""

from __future__ import annotations

import json
import logging
import math
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from monai.engines.utils import IterationEvents

from ..storage.atomic_file import replace_text, replaced

__all__ = ["BestModelSaver", "EpochSeed", "GradientClipping", "ResumableCheckpoint", "save_atomically"]


def save_atomically(content: Any, path: str | os.PathLike[str]) -> None:
    """`torch.save` that leaves either the old file or the whole new one, even if killed half way."""
    with replaced(path) as temporary:
        torch.save(content, temporary)


class EpochSeed:
    """Give every epoch its own seed, so that training can be resumed at any epoch and goes on exactly as undisturbed.

    At the start of an epoch it seeds Python, NumPy and torch (network dropout uses torch's), and calls
    ``set_random_state(seed=...)`` or ``manual_seed(...)`` of everything it is given: MONAI transforms and datasets,
    `DenoisingPrepareBatch`, a sampler's `torch.Generator`.

    Args:
        seed: seed of the training.
        targets: what to seed.

    Raises:
        TypeError: when a target can not be seeded.
    """

    def __init__(self, seed: int, targets: Sequence[Any]) -> None:
        for target in targets:
            if not hasattr(target, "set_random_state") and not isinstance(target, torch.Generator):
                raise TypeError(f"targets: expected set_random_state or a torch.Generator, got {type(target).__name__}")
        self.seed, self.targets = seed, list(targets)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed everything for the engine's epoch."""
        rank = idist.get_rank()
        seeds = np.random.SeedSequence([self.seed, engine.state.epoch, rank]).generate_state(len(self.targets) + 1)
        random.seed(int(seeds[0]))
        np.random.seed(int(seeds[0]))  # noqa: NPY002 (transforms of third parties may use it)
        torch.manual_seed(int(seeds[0]))
        for target, seed in zip(self.targets, seeds[1:], strict=True):
            if isinstance(target, torch.Generator):
                target.manual_seed(int(seed))
            else:
                target.set_random_state(seed=int(seed))


class GradientClipping:
    """Clip the norm of the gradients before every optimiser step, with or without a gradient scaler.

    Args:
        max_norm: largest norm.

    Raises:
        ValueError: when ``max_norm`` is not positive.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm: expected a positive number, got {max_norm!r}")
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Attach to a `SupervisedTrainer`."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip the gradients of the engine's network."""
        if engine.amp and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class ResumableCheckpoint:
    """Save the whole state of a training after every few epochs, and take it up again when the training starts.

    The file is replaced as a whole: a kill at any moment leaves the previous one. With `EpochSeed` a resumed run ends
    with the same weights as an undisturbed one.

    Args:
        path: the checkpoint file; taken up if it exists.
        save_dict: named objects with ``state_dict`` and ``load_state_dict``. The trainer it is attached to is added to
            them, and its gradient scaler where it has one.
        interval: epochs between two saves.

    Raises:
        ValueError: when an object is called "trainer", ``interval`` is not positive, or the file holds other objects.
    """

    def __init__(self, path: str | os.PathLike[str], save_dict: Mapping[str, Any], *, interval: int = 1) -> None:
        if "trainer" in save_dict:
            raise ValueError("save_dict: expected no object called 'trainer'; the trainer itself is saved by that name")
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f"interval: expected a positive number of epochs, got {interval!r}")
        self.path, self.save_dict, self.interval = Path(path), dict(save_dict), interval

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after every handler that changes what is saved (EMA, validation, learning rate)."""
        self.save_dict["trainer"] = engine
        if getattr(engine, "scaler", None) is not None:
            self.save_dict["scaler"] = engine.scaler  # type: ignore[attr-defined]
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Load the checkpoint if there is one."""
        if not self.path.exists():
            return
        checkpoint = torch.load(self.path, map_location="cpu", weights_only=True)
        # A training may go on with or without mixed precision: the scaler is taken up where both have one.
        if (set(checkpoint) ^ set(self.save_dict)) - {"scaler"}:
            raise ValueError(f"path: expected {sorted(self.save_dict)} in {self.path}, got {sorted(checkpoint)}")
        max_epochs = engine.state.max_epochs
        to_load = {name: item for name, item in self.save_dict.items() if name in checkpoint}
        Checkpoint.load_objects(to_load=to_load, checkpoint=checkpoint)
        engine.state.max_epochs = max_epochs
        logging.getLogger(__name__).info("Resumed %s after epoch %d", self.path, engine.state.epoch)
        if max_epochs is not None and engine.state.epoch >= max_epochs:
            engine.logger.info("All %d epochs are done", max_epochs)
            engine.terminate()

    def save(self, engine: Engine) -> None:
        """Save if it is time."""
        last = engine.state.epoch == engine.state.max_epochs
        if idist.get_rank() == 0 and (engine.state.epoch % self.interval == 0 or last):
            save_atomically({name: item.state_dict() for name, item in self.save_dict.items()}, self.path)


class BestModelSaver:
    """Keep the weights with the best validation metric; its state belongs in a `ResumableCheckpoint`.

    Beside the weights it writes a JSON file of the same name with the metric, its value, and the epoch. A metric that
    is NaN, such as an AUC where one class is absent, saves nothing and logs a warning.

    Args:
        model: the network to save, usually the EMA's.
        path: file of the weights (a plain state dict).
        metric: name of the evaluator's metric; larger is better.
    """

    def __init__(self, model: torch.nn.Module, path: str | os.PathLike[str], metric: str) -> None:
        self.model, self.path, self.metric = model, Path(path), metric
        self.best: float | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to the validating evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save the weights if they are the best so far."""
        value = float(engine.state.metrics[self.metric])
        if math.isnan(value):
            logging.getLogger(__name__).warning("%s is NaN: the weights are not saved", self.metric)
            return
        if self.best is not None and value <= self.best:
            return
        self.best = value
        if idist.get_rank() == 0:
            save_atomically(self.model.state_dict(), self.path)
            note = json.dumps({"metric": self.metric, "value": value, "epoch": engine.state.epoch}) + "\n"
            replace_text(self.path.with_suffix(".json"), note)

    def state_dict(self) -> dict[str, float | None]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, float | None]) -> None:
        """Go on from a saved best value."""
        self.best = state_dict["best"]
