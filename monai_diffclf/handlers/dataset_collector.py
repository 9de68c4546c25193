# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What handlers share that write something about all images of an evaluation, once it is complete."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from numpy.typing import NDArray
from torch.utils.data.distributed import DistributedSampler

from .._patients import known_patient
from ..engines import DiffusionClassifierEvaluator
from .processes import gather

__all__ = ["Collected", "DatasetCollector", "EvidenceCollector"]


@dataclass(frozen=True)
class Collected:
    """One output of all images, sorted by the images' keys.

    Args:
        values: the output of each image [n, ...], float32 or float64.
        labels: class of each image [n], or states of its findings [n, L].
        keys: name of each image.
        patients: patient of each image, empty where unknown.
    """

    values: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]
    keys: list[str]
    patients: list[str]


class _Item(NamedTuple):
    """An image; items are sorted by their fields in this order."""

    key: str
    patient: str
    label: int | tuple[int, ...]
    digest: bytes
    value: NDArray[np.floating[Any]]


class DatasetCollector(ABC):
    """Ignite handler: keep one output of every image, and when the evaluation is complete hand all to :meth:`write`.

    For an evaluator whose batch and output are decollated (MONAI's default). The batch holds ``label`` (class number,
    or the states of findings), ``key`` (the image's name) and, where known, ``patient``. With several processes the
    images of all are gathered, and each counts once: those that a `DistributedSampler` repeats, to give every process
    as many, are left out. What is written depends on neither the number of processes nor the order of the images.

    Args:
        output: name of the output to keep.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self._items: list[_Item] = []
        self._seen = 0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    @abstractmethod
    def write(self, engine: Engine, collected: Collected) -> None:
        """Write the result; called on the first process only."""

    def begin(self, engine: Engine) -> None:  # noqa: B027 (not every collector has something to do)
        """Make room for what will be written; called on the first process only, before the first image."""

    def _start(self, engine: Engine) -> None:
        self._items, self._seen = [], 0
        if idist.get_rank() == 0:
            self.begin(engine)

    def _collect(self, engine: Engine) -> None:
        sampler = getattr(engine.state.dataloader, "sampler", None)
        for source, result in zip(cast(Any, engine.state.batch), cast(Any, engine.state.output), strict=True):
            if not is_repeated(self._seen, sampler):
                # A copy of the numbers alone: a view would keep its batch, and on a GPU its memory.
                output = torch.as_tensor(result[self.output]).detach()
                value = (output if output.dtype == torch.float64 else output.float()).cpu().numpy().copy()
                key, patient = str(source.get("key", "")), known_patient(source.get("patient"))
                digest = hashlib.blake2b(value.tobytes(), digest_size=8).digest()
                self._items.append(_Item(key, patient, _label(source["label"]), digest, value))
            self._seen += 1

    def _finish(self, engine: Engine) -> None:
        items, self._items = gather(self._items), []
        if idist.get_rank() == 0:
            items.sort(key=lambda item: item[:-1])
            collected = Collected(
                np.stack([item.value for item in items]),
                np.array([item.label for item in items], dtype=np.int64),
                [item.key for item in items],
                [item.patient for item in items],
            )
            del items
            self.write(engine, collected)


def _label(given: Any) -> int | tuple[int, ...]:
    """A class number, or the states of findings, as what can be sorted by."""
    label = torch.as_tensor(given)
    if label.is_floating_point() and not bool((label == label.floor()).all()):  # so that NaN is wrong too
        raise ValueError(f"label: expected whole numbers, of a class or of states of findings, got {label.tolist()}")
    return tuple(map(int, label)) if label.ndim == 1 and len(label) > 1 else int(label)


class EvidenceCollector(DatasetCollector):
    """A `DatasetCollector` of what a `DiffusionClassifierEvaluator` decides by, which ends the evaluator's journal.

    Args:
        output: name of the output to keep.
        keep_journal: whether to leave the evaluator's journal where it is.
    """

    def __init__(self, output: str, *, keep_journal: bool = False) -> None:
        super().__init__(output)
        self.keep_journal = keep_journal
        self._num_elements = 1

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator; its journal is removed when everything is written."""
        super().attach(engine)
        if not self.keep_journal and isinstance(engine, DiffusionClassifierEvaluator):
            engine.add_event_handler(Events.COMPLETED, engine.remove_journal)

    def _collect(self, engine: Engine) -> None:
        super()._collect(engine)
        image = cast(Any, engine.state.output)[0][CommonKeys.IMAGE]
        # Of the latents, where the network works on latents.
        known = isinstance(engine, DiffusionClassifierEvaluator)
        self._num_elements = cast(Any, engine).num_elements(image[None]) if known else int(image.numel())


def is_repeated(position: int, sampler: object) -> bool:
    """Whether the image at a process's ``position`` only fills up the last round of a distributed sampler."""
    if not isinstance(sampler, DistributedSampler):
        return False
    # Process r of R gets the places r, r + R, r + 2 R... of the data set, whose end is padded with its beginning.
    return position * sampler.num_replicas + sampler.rank >= len(cast(Any, sampler.dataset))
