# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an evaluation of a score classifier leaves behind: log-likelihoods, predictions, metrics, bits per dimension."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Engine

from ..classification import bits_per_dimension, marginal_log_likelihood
from ..engines import DiffusionClassifierEvaluator
from ..inferers import ScoreClassifierInferer
from ..keys import OutputKeys
from ..metrics import bootstrap_interval
from ..storage.likelihood_file import StoredLikelihoods
from .dataset_collector import Collected, EvidenceCollector, is_repeated
from .earlier_results import begin_evaluation
from .evaluation_saver import EvaluationSaver
from .processes import gather

__all__ = ["LikelihoodSaver"]


class LikelihoodSaver(EvidenceCollector):
    """Ignite handler: store the log-likelihoods of all images, the predictions that follow, and their metrics.

    For a `DiffusionClassifierEvaluator` with a `ScoreClassifierInferer`. Writes ``likelihoods_SPLIT_seed_S.npz`` (see
    :func:`monai_diffclf.storage.load_likelihoods`; for another ``model`` ``likelihoods_MODEL_SPLIT_seed_S.npz``) and
    ``SPLIT_score_likelihood_seed_S.csv``, and merges the metrics into the results under ``score_likelihood``; with a
    ``dequantization`` also ``bits_per_dimension`` of the images under the model, -log2 sum_k prior(k) P(x | k) / D.
    Intervals resample patients where they are known, else images. When all of it is written, the evaluator's journal,
    if it keeps one, is removed.

    Args:
        output_dir: folder of the tables and likelihoods.
        inferer: the evaluator's inferer.
        results_path: JSON file of the results, or None.
        split: name of the split.
        data: which data set, in words.
        seed: seed of the training.
        threshold: see :class:`EvaluationSaver`.
        commit_root: folder whose git commit is recorded.
        num_resamples: bootstrap resamples.
        model: name of the model in the results.
        keep_journal: whether to leave the evaluator's journal where it is.
        classes: see :class:`EvaluationSaver`, as ``facts``.
        facts: what else to record.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        inferer: ScoreClassifierInferer,
        results_path: str | os.PathLike[str] | None = None,
        *,
        split: str,
        data: str,
        seed: int = 0,
        threshold: float | str = 0.5,
        commit_root: str | os.PathLike[str] = ".",
        num_resamples: int = 2000,
        model: str = "score_likelihood",
        keep_journal: bool = False,
        classes: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(OutputKeys.PROBE_LOG_LIKELIHOOD, keep_journal=keep_journal)
        self.output_dir, self.inferer, self.split, self.seed = Path(output_dir), inferer, split, seed
        self.model = model
        self.num_resamples = num_resamples
        self.saver = EvaluationSaver(
            self.output_dir / f"{split}_{model}_seed_{{seed}}.csv",
            results_path,
            split=split,
            model=model,
            data=data,
            seed=seed,
            threshold=threshold,
            commit_root=commit_root,
            num_resamples=num_resamples,
            classes=classes,
            facts=facts,
        )
        self._evaluations: list[int] = []

    def begin(self, engine: Engine) -> None:
        """Remove what an evaluation of something else left."""
        begin_evaluation(
            self.output_dir,
            [self._likelihoods_path, *self.saver.files],
            kind=self.model,
            split=self.split,
            seed=self.seed,
            models=[self.model],
            results_path=self.saver.results_path,
            facts=self.saver.facts,
            made_by=engine.provenance() if isinstance(engine, DiffusionClassifierEvaluator) else {},
        )

    @property
    def _likelihoods_path(self) -> Path:
        name = "likelihoods" if self.model == "score_likelihood" else f"likelihoods_{self.model}"
        return self.output_dir / f"{name}_{self.split}_seed_{self.seed}.npz"

    def write(self, engine: Engine, collected: Collected) -> None:
        """Write the likelihoods, predictions and results of an evaluation."""
        stored = StoredLikelihoods(
            values=torch.from_numpy(collected.values),
            num_elements=self._num_elements,
            labels=torch.from_numpy(collected.labels),
            keys=collected.keys,
            patients=collected.patients,
            provenance=dict(engine.provenance()) if isinstance(engine, DiffusionClassifierEvaluator) else {},
        )
        spent = sum(self._evaluations) / max(1, len(self._evaluations))
        self.save(stored, network_evaluations=int(spent) if spent.is_integer() else spent)

    def save(self, stored: StoredLikelihoods, *, network_evaluations: float | None = None) -> None:
        """Write everything from log-likelihoods, of which some may have been stored before.

        Args:
            stored: log-likelihoods of all images.
            network_evaluations: network evaluations spent on an image, on average.
        """
        stored.save(self._likelihoods_path)
        result = self.inferer.decide(stored.values, stored.num_elements)
        self.saver.network_evaluations = network_evaluations
        further = {}
        if self.inferer.dequantization is not None:
            marginal = marginal_log_likelihood(stored.log_likelihood, self.inferer.prior)
            bits = bits_per_dimension(marginal, stored.num_elements).numpy()
            interval = bootstrap_interval(_mean, bits, num_resamples=self.num_resamples, groups=stored.patients)
            further["bits_per_dimension"] = interval._asdict()
        labels = stored.labels.numpy()
        self.saver.save(stored.keys, stored.patients, labels, result.probabilities.numpy(), further=further)

    def _start(self, engine: Engine) -> None:
        super()._start(engine)
        self._evaluations = []

    def _collect(self, engine: Engine) -> None:
        first, output = self._seen, cast(Any, engine.state.output)
        super()._collect(engine)
        sampler = getattr(engine.state.dataloader, "sampler", None)
        own = [item for place, item in enumerate(output, first) if not is_repeated(place, sampler)]
        self._evaluations += [int(item[OutputKeys.NETWORK_EVALUATIONS]) for item in own]

    def _finish(self, engine: Engine) -> None:
        self._evaluations = gather(self._evaluations)
        super()._finish(engine)


def _mean(values: Any, weights: Any = None) -> Any:
    """Mean of the values [N] under the weights [R, N]."""
    return values.mean() if weights is None else (weights @ values) / weights.sum(-1)
