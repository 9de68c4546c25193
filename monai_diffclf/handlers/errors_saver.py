# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an evaluation of a diffusion classifier leaves behind: errors, predictions and metrics of both rules."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from ..classification import DenoisingErrors, classify_errors
from ..engines import DiffusionClassifierEvaluator
from ..inferers import DiffusionClassifierInferer
from ..keys import OutputKeys
from ..storage.errors_file import save_errors
from .dataset_collector import Collected, EvidenceCollector
from .earlier_results import begin_evaluation
from .evaluation_saver import EvaluationSaver

__all__ = ["ErrorsSaver"]

_CHUNK = 256  # images classified at a time: float64 copies of their errors take a multiple of the memory


class ErrorsSaver(EvidenceCollector):
    """Ignite handler: store the errors of all images; from them write predictions and metrics of vote and mean.

    For a `DiffusionClassifierEvaluator`. Writes ``errors_SPLIT_seed_S.npz`` (see
    :func:`monai_diffclf.storage.load_errors`), ``SPLIT_diffusion_vote_seed_S.csv``, ``SPLIT_diffusion_mean_seed_S.csv``
    and merges the metrics into the results. With a stopping rule there are those of the inferer's own rule only, whose
    draws were made. Level weights that were not learned with the network make other
    classifiers: ``diffusion_weighted_mean``, ``diffusion_weighted_vote``.
    Intervals resample patients where they are known, else images. When all of it is written, the evaluator's journal,
    if it keeps one, has done its work and is removed.

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
        keep_journal: whether to leave the evaluator's journal where it is.
        classes: see :class:`EvaluationSaver`, as ``facts``.
        finding: the one of several that these are the errors of: its name is added to those of the classifiers.
        facts: what else to record, beside the inferer's weighting and temperature.
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
        keep_journal: bool = False,
        classes: Sequence[str] | None = None,
        finding: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(OutputKeys.ERRORS, keep_journal=keep_journal)
        self.output_dir, self.inferer, self.split, self.seed = Path(output_dir), inferer, split, seed
        decision = {"weighting": str(inferer.weighting), "temperature": inferer.temperature}
        self.savers = {
            rule: EvaluationSaver(
                self.output_dir / f"{split}_{model}_seed_{{seed}}.csv",
                results_path,
                split=split,
                model=model if finding is None else f"{model}, {finding}",
                data=data,
                seed=seed,
                threshold=threshold,
                num_draws=inferer.num_draws,
                commit_root=commit_root,
                num_resamples=num_resamples,
                classes=classes,
                facts={**(facts or {}), **decision},
            )
            for rule, model in _models(inferer).items()
        }

    def begin(self, engine: Engine) -> None:
        """Remove what an evaluation of something else left."""
        first = next(iter(self.savers.values()))
        begin_evaluation(
            self.output_dir,
            [self._errors_path, *(path for saver in self.savers.values() for path in saver.files)],
            kind="errors",
            split=self.split,
            seed=self.seed,
            models=[saver.model for saver in self.savers.values()],
            results_path=first.results_path,
            facts=first.facts,
            made_by=engine.provenance() if isinstance(engine, DiffusionClassifierEvaluator) else {},
        )

    @property
    def _errors_path(self) -> Path:
        return self.output_dir / f"errors_{self.split}_seed_{self.seed}.npz"

    def write(self, engine: Engine, collected: Collected) -> None:
        """Write the errors, predictions and results of an evaluation."""
        errors = self.inferer.errors_from_values(torch.from_numpy(collected.values), self._num_elements)
        made_by = engine.provenance() if isinstance(engine, DiffusionClassifierEvaluator) else None
        self.save(errors, torch.from_numpy(collected.labels), collected.keys, collected.patients, provenance=made_by)

    def save(
        self,
        errors: DenoisingErrors,
        labels: torch.Tensor,
        keys: list[str],
        patients: list[str],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write everything.

        Args:
            errors: errors of all images [n, K, N].
            labels: class of each image [n].
            keys: name of each image [n].
            patients: patient of each image [n], empty where unknown.
            provenance: what made the errors, see :func:`monai_diffclf.inferers.provenance`.
        """
        path = self._errors_path
        save_errors(path, errors, labels=labels, keys=keys, patients=patients, provenance=provenance)
        spent = float(errors.network_evaluations.double().mean())
        for rule, saver in self.savers.items():
            saver.network_evaluations = int(spent) if spent.is_integer() else spent
            probabilities = torch.cat(
                [
                    classify_errors(
                        errors[start : start + _CHUNK],
                        rule,
                        weighting=self.inferer.weighting,
                        temperature=self.inferer.temperature,
                    ).probabilities
                    for start in range(0, len(errors), _CHUNK)
                ]
            )
            saver.save(keys, patients, labels.numpy(), probabilities.double().numpy())


def _models(inferer: DiffusionClassifierInferer) -> dict[str, str]:
    """The rules that an inferer's errors serve, and the names of the classifiers they make."""
    rules = ["vote", "mean", inferer.rule] if inferer.stopping is None else [inferer.rule]
    own = isinstance(inferer.weighting, str) or getattr(inferer.weighting, "trained", False)
    return {rule: "diffusion_weighted_mean" if not own and rule == "mean" else f"diffusion_{rule}" for rule in rules}
