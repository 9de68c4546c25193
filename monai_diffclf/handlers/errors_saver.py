# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an evaluation of a diffusion classifier leaves behind: errors, predictions and metrics of both rules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils.dist import evenly_divisible_all_gather, string_list_all_gather

from ..classification import DenoisingErrors, classify_errors
from ..data.errors_file import save_errors
from ..inferers import DiffusionClassifierInferer
from .predictions import EvaluationSaver

__all__ = ["ErrorsSaver"]


class ErrorsSaver:
    """Ignite handler: store the errors of all images; from them write predictions and metrics of vote and mean.

    For a `DiffusionClassifierEvaluator` whose output is decollated. Writes ``errors_SPLIT_seed_S.npz`` (see
    :func:`monai_diffclf.data.load_errors`), ``SPLIT_diffusion_vote_seed_S.csv``, ``SPLIT_diffusion_mean_seed_S.csv``
    and merges the metrics into the results. Intervals resample patients where they are known, else images.

    Args:
        output_dir: folder of the tables and errors.
        inferer: the evaluator's inferer: its weighting and temperature are used for the mean.
        results_path: JSON file of the results, or None.
        split: name of the split.
        data: which data set, in words.
        seed: seed of the training.
        threshold: see :class:`EvaluationSaver`.
        commit_root: folder whose git commit is recorded.
        num_resamples: bootstrap resamples.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        inferer: DiffusionClassifierInferer,
        results_path: str | os.PathLike[str] | None = None,
        *,
        split: str,
        data: str,
        seed: int = 0,
        threshold: float | str = 0.5,
        commit_root: str | os.PathLike[str] = ".",
        num_resamples: int = 2000,
    ) -> None:
        self.output_dir, self.inferer, self.split, self.seed = Path(output_dir), inferer, split, seed
        self.savers = {
            rule: EvaluationSaver(
                self.output_dir / f"{split}_diffusion_{rule}_seed_{{seed}}.csv",
                results_path,
                split=split,
                model=f"diffusion_{rule}",
                data=data,
                seed=seed,
                threshold=threshold,
                num_draws=inferer.num_draws,
                network_evaluations=inferer.num_draws * inferer.num_classes,
                commit_root=commit_root,
                num_resamples=num_resamples,
            )
            for rule in ("vote", "mean")
        }
        self._items: list[dict[str, Any]] = []
        self._num_elements = 1

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._items = []

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        for source, result in zip(batch, output, strict=True):
            self._num_elements = int(result["image"].numel())
            known = {name: source[name] for name in ("label", "key", "patient") if name in source}
            self._items.append({"errors": result["errors"], **known})

    def _finish(self, engine: Engine) -> None:
        values = torch.stack([torch.as_tensor(item["errors"]) for item in self._items])
        labels = torch.tensor([int(item["label"]) for item in self._items], device=values.device)
        keys, patients = ([str(item.get(name, "")) for item in self._items] for name in ("key", "patient"))
        if idist.get_world_size() > 1:
            values, labels = (evenly_divisible_all_gather(tensor, concat=True) for tensor in (values, labels))
            keys, patients = string_list_all_gather(keys), string_list_all_gather(patients)
        if idist.get_rank() == 0:
            self.save(self.inferer.errors_from_values(values.cpu(), self._num_elements), labels.cpu(), keys, patients)

    def save(self, errors: DenoisingErrors, labels: torch.Tensor, keys: list[str], patients: list[str]) -> None:
        """Write everything.

        Args:
            errors: errors of all images [n, K, N].
            labels: class of each image [n].
            keys: name of each image [n].
            patients: patient of each image [n], empty where unknown.
        """
        path = self.output_dir / f"errors_{self.split}_seed_{self.seed}.npz"
        save_errors(path, errors, labels=labels, keys=keys, patients=patients)
        for rule, saver in self.savers.items():
            result = classify_errors(
                errors, rule, weighting=self.inferer.weighting, temperature=self.inferer.temperature
            )
            saver.save(keys, patients, labels.numpy(), result.probabilities.double().numpy())
