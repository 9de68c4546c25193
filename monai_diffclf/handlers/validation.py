# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""When a training is validated, which weights it keeps, and what it says at its end."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from .. import __version__
from .._checks import check_integer
from ..networks import network_hash
from ..networks.wrapped import unwrapped
from ..storage.atomic_file import replace_text
from ..storage.torch_file import write_torch_file
from .earlier_results import remove_stale
from .moving_average import MovingAverage

__all__ = ["BestModelSaver", "Validation"]

_AUDIT_BYTES = 20_000  # a longer audit is named by its hash


class Validation:
    """Ignite handler for a trainer: validate after every few epochs and after the last, and say at the end how it went.

    MONAI's `ValidationHandler` leaves the last epoch out unless the interval divides it, so that a short training keeps
    no model.

    Args:
        validator: the evaluator; its ``run(epoch)`` is called.
        interval: epochs between two validations.
        best: the evaluator's `BestModelSaver`, to say which epoch was the best.

    Raises:
        ValueError: when ``interval`` is not a positive integer.
    """

    def __init__(self, validator: Any, interval: int = 1, best: BestModelSaver | None = None) -> None:
        interval = check_integer(interval, "interval")
        self.validator, self.interval, self.best = validator, interval, best

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        if self.best is not None:
            engine.add_event_handler(Events.COMPLETED, self.conclude)

    def __call__(self, engine: Engine) -> None:
        """Validate if it is time."""
        epoch = engine.state.epoch
        if epoch % self.interval == 0 or epoch == engine.state.max_epochs:
            self.validator.run(epoch)

    def conclude(self, engine: Engine) -> None:
        """Log the best epoch, and whether the training stopped while validation still rose."""
        best, last = self.best, engine.state.epoch
        if best is None or best.best is None or best.epoch is None or idist.get_rank() > 0:
            return
        text = f"Best {best.metric} {best.best:.4f} after epoch {best.epoch} of {last}; its weights are in {best.path}"
        if best.epoch == last <= self.interval:
            text += ". It was the only validation: more epochs may do better"
        elif best.epoch == last and best.rose:
            text += ". The last validation was the best: it was still rising when the training stopped, so that more "
            text += "epochs may do better"
        logging.getLogger(__name__).info(text)


class BestModelSaver:
    """Keep the weights with the best validation metric; its state belongs in a `ResumableCheckpoint`.

    Of equal values the latest wins: on easy images a half-trained model may rank them all rightly, with errors that
    decide less clearly.

    What the folder holds about other weights goes: results of their evaluation, what was fitted to them, their report.
    Beside the weights it writes a JSON file of the same name that says what they are: metric, its value, epoch, hash of
    the weights, version of this package, state of the moving average, and ``description``, ``training`` and the
    audit of the splits (``audit.json`` in the same folder) where there are any. A metric that is NaN, such as an AUC
    where one class is absent, saves nothing and logs a warning.

    Args:
        model: the network to save, usually the EMA's.
        path: file of the weights (a plain state dict).
        metric: name of the evaluator's metric; larger is better.
        description: what the weights are for, see :func:`monai_diffclf.networks.describe_model`.
        training: what they were made with, in JSON values, such as data, seed and learning rate.
        average: the moving average that the model belongs to.
        learned: what says what was learned beside the weights, in JSON values, for their use: that of a
            :class:`monai_diffclf.losses.ClassContrastiveLoss`. It is called when weights are saved; None is left out.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        path: str | os.PathLike[str],
        metric: str,
        *,
        description: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        average: MovingAverage | None = None,
        learned: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self.learned = learned
        self.model, self.path, self.metric = model, Path(path), metric
        self.description, self.training, self.average = description, training, average
        self.best: float | None = None
        self.epoch: int | None = None
        self.rose = False  # whether the best value was above the one before, and not just equal

    def attach(self, engine: Engine) -> None:
        """Attach to the validating evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save the weights if they are the best so far."""
        value = float(engine.state.metrics[self.metric])
        if math.isnan(value):
            logging.getLogger(__name__).warning("%s is NaN: the weights are not saved", self.metric)
            return
        if self.best is not None and value < self.best:
            return
        self.rose = self.best is None or value > self.best
        self.best, self.epoch = value, engine.state.epoch
        if idist.get_rank() == 0:
            note = self.note()
            remove_stale(self.path.parent, note["weights"])
            write_torch_file(self.path, unwrapped(self.model).state_dict())
            replace_text(self.path.with_suffix(".json"), json.dumps(note, indent=1) + "\n")

    def note(self) -> dict[str, Any]:
        """What the JSON file says."""
        note: dict[str, Any] = {
            "metric": self.metric,
            "value": self.best,
            "epoch": self.epoch,
            "weights": network_hash(self.model),
            "package": f"monai-diffclf {__version__}",
        }
        if self.average is not None:
            note["average"] = {name: getattr(self.average, name) for name in ("steps", "limit", "start")}
        if self.learned is not None and (found := self.learned()) is not None:
            note["learned"] = dict(found)
        if self.description is not None:
            note["model"] = dict(self.description)
        if self.training is not None:
            note["training"] = dict(self.training)
        if (audit := self.path.with_name("audit.json")).is_file():
            note["audit"] = _read_audit(audit)
        return note

    def state_dict(self) -> dict[str, float | int | None]:
        """The best value so far and its epoch."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved best value."""
        self.best, self.epoch = state_dict["best"], state_dict.get("epoch")


def _read_audit(path: Path) -> Any:
    """The audit of the splits, or its hash where it is long or no JSON."""
    content = path.read_bytes()
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if found is not None and len(content) <= _AUDIT_BYTES:
        return found
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
