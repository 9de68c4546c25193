# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers for training: seeds, gradient clipping, resuming."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from monai.engines.utils import IterationEvents

from .._checks import check_integer
from .._moved import moved
from .._plain_values import json_values
from ..networks.model_description import differences
from ..networks.weights_content import read_tensors, read_torch_file
from ..storage.outputs import Outputs
from ..storage.torch_file import write_torch_file

__all__ = ["EpochSeed", "GradientClipping", "ResumableCheckpoint"]

# What a checkpoint holds beside the objects of a training.
_OWN = ("settings", "images")


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


def _of_this_run(read: Callable[[Path], Any], path: Path) -> Any:
    """What a reader makes of a file that only this training has written, so that there may be no copy of it."""
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; where there is no copy, move the folder away, or name another --output_dir, to train anew"
        ) from None


class ResumableCheckpoint:
    """Save the whole state of a training after every few epochs, and take it up again when the training starts.

    The file is replaced as a whole: a kill at any moment leaves the previous one. With `EpochSeed` a resumed run ends
    with the same weights as an undisturbed one. With an audit of the splits beside it (``audit.json``), it is not gone
    on with other images of the same names.

    Args:
        path: the checkpoint file; taken up if it exists.
        save_dict: named objects with ``state_dict`` and ``load_state_dict``. The trainer it is attached to is added to
            them, and its gradient scaler where it has one.
        interval: epochs between two saves.
        settings: what the training must have in common with the one that is resumed, in JSON values: model, data,
            learning rate, but not the number of epochs. What the data are called (``training``, ``data``, ``name``) is
            no matter: their hash is. None resumes anything.

    Raises:
        ValueError: when an object is called "trainer" or "settings", ``interval`` is not positive, or the file holds
            other objects or is one of a training with other settings.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        save_dict: Mapping[str, Any],
        *,
        interval: int = 1,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if taken := {"trainer", *_OWN} & set(save_dict):
            name = max(taken)
            what = "trainer itself is" if name == "trainer" else f"{name} are"
            raise ValueError(f"save_dict: expected no object called {name!r}; the {what} saved by that name")
        interval = check_integer(interval, "interval")
        self.path, self.save_dict, self.interval = Path(path), dict(save_dict), interval
        self.settings = None if settings is None else json_values(settings, "settings")

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after every handler that changes what is saved (EMA, validation, learning rate)."""
        self.save_dict["trainer"] = engine
        for item in self.save_dict.values():
            for group in getattr(item, "param_groups", ()):
                # The file keeps NumPy's numbers as Python's, and so must be computed with from the start.
                group.update({name: value.item() for name, value in group.items() if isinstance(value, np.generic)})
        if getattr(engine, "scaler", None) is not None:
            self.save_dict["scaler"] = engine.scaler  # type: ignore[attr-defined]
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def check(self) -> None:
        """Refuse a folder that this training cannot go on in, before anything is written there.

        Raises:
            ValueError: when its checkpoint is one of a training with other settings, or none; when that or the weights
                are damaged; when it holds weights without the checkpoint that they could be trained on from.
        """
        weights = self.path.with_name("model.pt")
        if self.path.exists():
            self._read()
            if weights.exists():
                _of_this_run(read_tensors, weights)
        elif weights.exists():
            raise ValueError(
                f"--output_dir: {weights.parent} holds the weights of an earlier training, {weights.name}, without its "
                f"{self.path.name}, so that it cannot go on; move the folder away, or name another --output_dir, to "
                "train anew"
            )

    def resume(self, engine: Engine) -> None:
        """Load the checkpoint if there is one; the record of a training that has none is removed."""
        if idist.get_rank() == 0:
            self._list_events()
        if not self.path.exists():
            # So that weights that are saved before the first epoch is kept do not stand without a training to go on.
            self._write()
            return
        checkpoint = self._read()
        self._check_images(checkpoint.pop("images", None))
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
        if engine.state.epoch % self.interval == 0 or last:
            self._write()

    def _write(self) -> None:
        if idist.get_rank() != 0:
            return
        content = {name: item.state_dict() for name, item in self.save_dict.items()}
        if self.settings is not None:
            content["settings"] = self.settings
        if (images := self._images()) is not None:
            content["images"] = images
        write_torch_file(self.path, content)

    def _read(self) -> dict[str, Any]:
        checkpoint = _of_this_run(partial(read_torch_file, what="a training's state"), self.path)
        if not isinstance(checkpoint, dict):
            raise ValueError(f"path: expected a training's state in {self.path}, got {type(checkpoint).__name__}")
        self._check_settings(checkpoint.pop("settings", None))
        return checkpoint

    def _list_events(self) -> None:
        """List this process's TensorBoard events as ours; where a training begins anew, remove those of the last."""
        outputs = Outputs(self.path.parent, "training events")
        if not self.path.exists():
            outputs.remove()
        outputs.add(path.name for path in self.path.parent.glob(f"events.out.tfevents.*.{os.getpid()}.*"))

    def _images(self) -> dict[str, str] | None:
        """Hashes of the images of each split, of the audit beside the checkpoint; None where there is no audit."""
        try:
            found = json.loads(self.path.with_name("audit.json").read_text(encoding="utf-8"))["content"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {str(split): str(value) for split, value in found.items()} if isinstance(found, Mapping) else None

    def _check_images(self, before: Mapping[str, str] | None) -> None:
        """Refuse to go on with other images under the same names; test images are no matter of the training."""
        now = self._images()
        if before is None or now is None:
            return
        if other := [split for split in ("train", "validation") if before.get(split) != now.get(split)]:
            raise ValueError(
                f"--dataset_dir: images of {' and '.join(other)} have changed since the training in {self.path} was "
                "started, under the same names; put the former ones back to go on, or name another --output_dir to "
                "train anew"
            )

    def _check_settings(self, found: Mapping[str, Any] | None) -> None:
        if self.settings is None:
            return
        where = "move the folder away, or name another --output_dir, to train anew"
        if found is None:
            raise ValueError(
                f"path: {self.path} is of a training whose settings were not recorded, by an earlier version; {where}"
            )
        if texts := differences(_without_name(self.settings), found, of_one_run=True):
            raise ValueError(
                f"path: the training in {self.path} was started with other settings ({'; '.join(texts)}); give those "
                f"to go on (more epochs are allowed), or {where}"
            )


def _without_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the name of the data, which is that of their folder: it may be renamed."""
    training = settings.get("training")
    data = training.get("data") if isinstance(training, Mapping) else None
    if not isinstance(training, Mapping) or not isinstance(data, Mapping):
        return dict(settings)
    return {**settings, "training": {**training, "data": {name: data[name] for name in data if name != "name"}}}


def __getattr__(name: str) -> Any:
    return moved(__name__, name, {"BestModelSaver": "monai_diffclf.handlers"})
