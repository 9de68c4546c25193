# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Handlers of an evaluation of several findings: their AUC, and for each what an evaluation of two classes leaves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine

from .._class_names import classes_of_finding, finding_names
from .._finding_files import finding_folder
from ..classification import by_finding
from ..engines import DiffusionClassifierEvaluator
from ..inferers import MultiLabelClassifierInferer
from ..keys import OutputKeys
from ..metrics.findings import FindingsROCAUCMetric
from ..networks.findings import UNKNOWN
from .dataset_collector import Collected, EvidenceCollector
from .errors_saver import ErrorsSaver
from .metric_handler import EachOnceMetricHandler

__all__ = ["FindingsROCAUC", "FindingsSaver"]


class FindingsROCAUC(EachOnceMetricHandler):
    """Ignite handler: the mean AUC over the findings, each over the images in which it is known, each image once.

    Args:
        output_transform: from the engine's output to probabilities [L] and labels [L], such as
            ``from_engine(["pred", "label"])``.
    """

    def __init__(self, output_transform: Any) -> None:
        super().__init__(FindingsROCAUCMetric(), output_transform=output_transform, save_details=False)


class FindingsSaver(EvidenceCollector):
    """Ignite handler: for each finding, what :class:`ErrorsSaver` stores of two classes, without unknown ones.

    Finding i has a folder ``finding_i`` with its errors, tables and confusion matrices: an evaluation of two classes,
    from which everything else follows for it, calibration and sets too. The results of all are in one file, as models
    called ``diffusion_mean, NAME``.

    Args:
        output_dir: folder above those of the findings.
        inferer: the evaluator's inferer.
        results_path: JSON file of the results, or None.
        findings: names of the findings [L].
        keep_journal: whether to leave the evaluator's journal where it is.
        settings: further settings of `ErrorsSaver`: ``split``, ``data``, ``seed``, ``threshold``, ``facts``...

    Raises:
        ValueError: when there is not a name for each finding.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        inferer: MultiLabelClassifierInferer,
        results_path: str | os.PathLike[str] | None = None,
        *,
        findings: Sequence[str],
        keep_journal: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(OutputKeys.ERRORS, keep_journal=keep_journal)
        self.findings = finding_names(findings)
        if len(self.findings) != inferer.num_findings:
            raise ValueError(f"findings: expected {inferer.num_findings} names, got {len(self.findings)}")
        self.inferer = inferer
        self.savers = [
            ErrorsSaver(
                finding_folder(output_dir, number),
                inferer,
                results_path,
                classes=classes_of_finding(name),
                finding=name,
                **settings,
            )
            for number, name in enumerate(self.findings)
        ]

    def begin(self, engine: Engine) -> None:
        """Remove what an evaluation of something else left."""
        for saver in self.savers:
            saver.begin(engine)

    def write(self, engine: Engine, collected: Collected) -> None:
        """Write the errors, predictions and results of each finding."""
        errors = self.inferer.errors_from_values(torch.from_numpy(collected.values), self._num_elements)
        made_by = engine.provenance() if isinstance(engine, DiffusionClassifierEvaluator) else {}
        pairs = by_finding(errors)
        states = torch.from_numpy(collected.labels)
        for number, saver in enumerate(self.savers):
            known = (states[:, number] != UNKNOWN).nonzero().flatten()
            saver.save(
                pairs[known * len(self.savers) + number],
                states[known, number],
                [collected.keys[row] for row in known],
                [collected.patients[row] for row in known],
                provenance={**made_by, "finding": number, "num_classes": 2},
            )
