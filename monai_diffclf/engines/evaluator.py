# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An Ignite engine that evaluates a diffusion or score classifier and keeps what is behind its probabilities."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from .._checks import plain_tensor
from ..classification import Classification
from ..inferers import ClassifierInferer, ScoreClassifierInferer, evaluation_keys, provenance
from ..keys import NamedValues, OutputKeys, warn_of_old_keys, with_old_names
from ..networks.latent_space import PixelSpace, encode
from ..storage.errors_journal import ErrorsJournal
from .unreadable import Unreadable, take_unreadable

__all__ = ["DiffusionClassifierEvaluator"]


class DiffusionClassifierEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` with all of a `Classification` in its output.

    Output keys: ``image``, ``label``, ``pred`` (probabilities [B, K]) as every MONAI handler expects, and those of
    :class:`monai_diffclf.keys.OutputKeys`: ``uncertainty`` (dict of [B]), ``network_evaluations`` [B], ``decided``
    (whether the class has the guarantee of the stopping rule [B]), ``vote_share`` [B, K], ``errors`` [B, K, N] and, if
    asked for, ``error_maps`` [B, K, *spatial]: the class with the lower map explains a pixel better. All come from the
    same network evaluations. With a `ScoreClassifierInferer` there are ``probe_share`` [B, K], ``log_likelihood``
    [B, K] and ``probe_log_likelihood`` [B, K, P] in place of votes and errors, and the maps take noise draws of their
    own. Their former keys ``votes``, ``explanation`` and ``evaluations`` are there too; to read one of these warns.

    **Long evaluations** keep a journal: with ``journal_dir`` the errors of every image are recorded as soon as they are
    computed, and looked up before they are computed. To go on after a crash or a kill, run the same command again: all
    images pass through metrics and handlers, those in the journal without a network evaluation (output ``recorded``
    [B]). Images are found by their pixels and by whatever else reaches the network with them, so equal ones are
    computed once. Each image is given to the network by itself, ``batch_size`` evaluations at a time, so that its
    errors are the same to the last bit whatever was done before and however many processes share the images; only with
    a stopping rule, which needs few evaluations an image, are the images of a batch evaluated together, and errors the
    same up to the network's rounding.

    **Images that cannot be read** do not end an inference: with a `TolerantDataset` a batch consists of the others;
    ``unreadable`` holds those of the batch by their places in it, ``failed`` the errors of all by the images' names.

    Args:
        args: as for `SupervisedEvaluator`.
        explain: whether to add ``error_maps``; with a stopping rule there is none, as the maps need all draws.
        journal_dir: folder of the journal, one for each data set and network, see
            :class:`monai_diffclf.storage.ErrorsJournal`; needs ``explain=False``. `ErrorsSaver` removes it in the end.
        kwargs: as for `SupervisedEvaluator`; ``inferer`` must be a `DiffusionClassifierInferer`, a
            `ScoreClassifierInferer` or, without ``explain``, a `SoftmaxClassifierInferer`.

    Raises:
        TypeError: when the inferer is another one.
        ValueError: when a journal and explanations are asked for, or the journal is that of another evaluation.
    """

    def __init__(
        self, *args: Any, explain: bool = True, journal_dir: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.inferer, ClassifierInferer):
            raise TypeError(
                "inferer: expected one of monai_diffclf.inferers, such as a DiffusionClassifierInferer, got "
                f"{type(self.inferer).__name__}; with another inferer use monai.engines.SupervisedEvaluator"
            )
        if explain and journal_dir is not None:
            raise ValueError(
                "explain: expected False with journal_dir, got True; a journal keeps errors, no maps of them"
            )
        # After decollation and post-processing, which were registered before.
        self.add_event_handler(IterationEvents.MODEL_COMPLETED, _answer_old_names)
        self.classifier = self.inferer
        self.explain = explain and self.inferer.stopping is None
        self.journal_dir = None if journal_dir is None else Path(journal_dir)
        self.journal: ErrorsJournal | None = None
        self.unreadable: dict[int, Unreadable] = {}
        self.failed: dict[str, str] = {}
        self._latents_of: torch.Size | None = None
        self._elements = 0

    def provenance(self) -> dict[str, str | int]:
        """What the errors depend on, see :func:`monai_diffclf.inferers.provenance`."""
        with self._autocast():
            return provenance(self.classifier, self.network)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Evaluate; see `SupervisedEvaluator`."""
        self.unreadable, self.failed = {}, {}
        if self.journal_dir is None:
            super().run(global_epoch)
            return
        with ErrorsJournal(
            self.journal_dir,
            provenance=self.provenance(),
            num_classes=self.classifier.num_classes,
            num_draws=self.classifier.num_estimates,
            double=isinstance(self.classifier, ScoreClassifierInferer),
            rank=idist.get_rank(),
            num_ranks=idist.get_world_size(),
        ) as self.journal:
            try:
                super().run(global_epoch)
            finally:
                self.journal = None

    def remove_journal(self) -> None:
        """Delete the journal of the run in progress, when every process is done and the results are written."""
        if self.journal is None:
            return
        # The first process keeps the folder locked until the record is gone.
        if idist.get_rank() > 0:
            self.journal.close()
        idist.barrier()
        if idist.get_rank() == 0:
            self.journal.remove()
            above = self.journal.folder.parent
            if above.name == "journal" and not any(above.iterdir()):  # of the configurations, one folder a split within
                above.rmdir()
        # The others begin a journal of the next split there.
        idist.barrier()

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """One batch; see the class for what is returned."""
        if batchdata is None:
            raise ValueError("batchdata: expected a batch with images, got None")
        self.unreadable = take_unreadable(batchdata)
        self.failed.update({item.key: item.error for item in self.unreadable.values()})
        if self.unreadable and not batchdata:  # nothing to classify; handlers see a batch without images
            engine.state.batch = []
            return []  # type: ignore[return-value]
        inputs, targets, *rest = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        kwargs = rest[1] if len(rest) > 1 else {}
        output: dict[str, Any] = {CommonKeys.IMAGE: inputs, CommonKeys.LABEL: targets}
        engine.state.output = output
        with engine.mode(engine.network), self._autocast():
            if self.journal is None:
                result = self.classifier.classify(inputs, engine.network, error_maps=self.explain, **kwargs)
            else:
                result, recorded = self._look_up(inputs, kwargs, self.journal)
                output[OutputKeys.RECORDED] = recorded
        output.update(with_old_names(result.outputs()))
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output  # type: ignore[no-any-return]

    def _autocast(self) -> torch.autocast:
        """What `amp` of MONAI's evaluators asks for: it heeds GPUs alone."""
        return torch.autocast("cuda", enabled=self.amp, **self.amp_kwargs)

    def _look_up(
        self, images: torch.Tensor, conditions: dict[str, Any], journal: ErrorsJournal
    ) -> tuple[Classification, torch.Tensor]:
        """The result of a batch, and which images were in the journal [B]; the others are computed and recorded."""
        inferer = self.classifier
        images = plain_tensor(images)
        keys = evaluation_keys(images, conditions)
        recorded = torch.tensor([key in journal for key in keys])
        # Of equal images, the first.
        missing = [i for i, key in enumerate(keys) if key not in journal and keys.index(key) == i]
        for group in [[i] for i in missing] if inferer.stopping is None else [missing] if missing else []:
            own: dict[str, Any] = {n: v[group] if isinstance(v, torch.Tensor) else v for n, v in conditions.items()}
            result = inferer.classify(images[group], self.network, **own)
            journal.append(
                [keys[i] for i in group],
                result.evidence,
                predicted=_as_number(result.predicted),
                network_evaluations=result.network_evaluations.tolist(),
                decided=result.decided.reshape(len(result), -1).all(1).tolist(),
            )
        found = journal.get(keys)
        result = inferer.decide(found.values.to(images.device), self.num_elements(images))
        # Not in the errors: evaluations made twice for precision, and why a stopping rule stopped.
        spent, decided = found.network_evaluations.to(images.device), found.decided.to(images.device)
        if result.decided.ndim == 2:  # of several findings: whether all of them are
            decided = decided[:, None].expand_as(result.decided)
        return replace(result, network_evaluations=spent, decided=decided), recorded

    def num_elements(self, images: torch.Tensor) -> int:
        """Elements of each of some images [B, C, *spatial], or of its latents; one image is encoded to know."""
        if isinstance(self.classifier.latent_space, PixelSpace) or len(images) == 0:
            return math.prod(images.shape[1:])
        if self._latents_of != images.shape[1:]:
            self._latents_of = images.shape[1:]
            self._elements = math.prod(encode(self.classifier.latent_space, plain_tensor(images[:1]).float()).shape[1:])
        return self._elements

    def _register_postprocessing(self, posttrans: Callable[..., Any]) -> None:
        warn_of_old_keys(posttrans)
        super()._register_postprocessing(posttrans)


def _as_number(predicted: torch.Tensor) -> list[int]:
    """The class of each image [B]; of findings [B, L] the number whose binary digit i is finding i."""
    if predicted.ndim == 1:
        return predicted.tolist()
    return (predicted << torch.arange(predicted.shape[1], device=predicted.device)).sum(1).tolist()


def _answer_old_names(engine: Engine) -> None:
    """Make of the plain dictionaries that MONAI leaves such that know what things were called."""
    state: Any = engine.state
    if isinstance(state.output, list):
        state.output = [_named(item) for item in state.output]
    else:
        state.output = _named(state.output)


def _named(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    named = NamedValues(item)
    uncertainty = named.get(OutputKeys.UNCERTAINTY)
    if isinstance(uncertainty, dict):
        named[OutputKeys.UNCERTAINTY.value] = NamedValues(uncertainty)
    return named
