# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What inference leaves behind: a table with one row an image, and a picture of where the classes differ."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from .._class_names import class_names
from .._text import csv_text, csv_texts
from ..classification.vote_statistics import of_final_probabilities
from ..engines import DiffusionClassifierEvaluator, Unreadable
from ..explain import decision_map, overlay
from ..keys import OutputKeys, UncertaintyKeys
from ..storage.outputs import Outputs
from .explained_item import warnings_of

__all__ = ["ClassificationWriter"]

_OF_PROBABILITIES = (UncertaintyKeys.PROBABILITY_MARGIN, UncertaintyKeys.PROBABILITY_ENTROPY)
UNCERTAINTIES = (
    UncertaintyKeys.VOTE_VARIANCE,
    UncertaintyKeys.VOTE_ENTROPY,
    UncertaintyKeys.VOTE_MARGIN,
    UncertaintyKeys.VOTE_SHARE_LOW,
    UncertaintyKeys.VOTE_SHARE_HIGH,
    UncertaintyKeys.ENTROPY_MONTE_CARLO,
    UncertaintyKeys.ENTROPY_REMAINING,
    *_OF_PROBABILITIES,
)
# Of likelihoods: what a few probes would choose says little.
LIKELIHOOD_UNCERTAINTIES = (*_OF_PROBABILITIES, UncertaintyKeys.LOG_RATIO_ERROR)
# What post-transforms may have added; written where the first image has it.
OPTIONAL = (OutputKeys.PREDICTION_SET, OutputKeys.OOD_SCORE, OutputKeys.OOD_P_VALUE)
# Columns of each class and the output they are from.
_SHARES = (("probability", CommonKeys.PRED), (OutputKeys.VOTE_SHARE, OutputKeys.VOTE_SHARE))
_LIKELIHOODS = (("probability", CommonKeys.PRED), (OutputKeys.LOG_LIKELIHOOD, OutputKeys.LOG_LIKELIHOOD))


class ClassificationWriter:
    """Ignite handler for a `DiffusionClassifierEvaluator`: ``predictions.csv`` and one PNG an image.

    Columns: key, predicted, probability_CLASS, vote_share_CLASS, the uncertainties (vote_variance, vote_entropy,
    vote_margin, vote_share_low, vote_share_high, entropy_monte_carlo, entropy_remaining, probability_margin,
    probability_entropy, see :class:`monai_diffclf.keys.UncertaintyKeys`), where post-transforms give them
    prediction_set (the names of its classes, separated by ``;``), ood_score and ood_p_value, then network_evaluations,
    decided (whether the stopping rule's guarantee holds), map (name of the PNG), warnings (what to mind, see
    `image_warnings`), error (why an image could not be read; its other cells are empty). Text that a spreadsheet would
    run is written so that it does not, see :func:`monai_diffclf._text.csv_text`. Of a score classifier there are
    log_likelihood_CLASS in nats in place of the votes, and probability_margin, probability_entropy and log_ratio_error
    (see :func:`monai_diffclf.classification.classify_likelihood`). Rows are written batch by batch to
    ``predictions.csv.part``, which becomes the table when all are: ``predictions.csv`` is never short of rows. What an
    earlier run wrote into the folder is removed when one begins. The
    evaluator's journal, if it keeps one, has done its work and is removed. The PNG shows the image with the decision
    map of its predicted class over it, see :func:`monai_diffclf.explain.overlay`.

    Args:
        output_dir: folder to write to.
        classes: names of the classes.
        maps: whether to write the PNGs (2D images only).

    Raises:
        ValueError: when the evaluation starts, if two columns would have one name.
    """

    def __init__(self, output_dir: str | os.PathLike[str], classes: Sequence[str], *, maps: bool = True) -> None:
        self.output_dir, self.classes, self.maps = Path(output_dir), class_names(classes), maps
        self._outputs = Outputs(self.output_dir, "inference")
        self._count = self._num_columns = 0
        self._classified = False  # whether the columns are known: from the first image that was classified
        self._failed_rows: list[Unreadable] = []  # before it
        self._optional: list[str] = []
        self._uncertainties: tuple[str, ...] = UNCERTAINTIES
        self._shares: tuple[tuple[str, str], ...] = _SHARES

    @property
    def table(self) -> Path:
        """Path of the table."""
        return self.output_dir / "predictions.csv"

    @property
    def _part(self) -> Path:
        """The table as far as it is written."""
        return self.table.with_name(self.table.name + ".part")

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        if isinstance(engine, DiffusionClassifierEvaluator):
            engine.add_event_handler(Events.COMPLETED, engine.remove_journal)

    def _start(self, engine: Engine) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._count = 0
        self._classified, self._failed_rows = False, []
        # Of an earlier run, which these images may not be those of; the pictures also where a version kept no list.
        self._outputs = Outputs(self.output_dir, "inference")
        self._outputs.begin()
        for old in (self.table, *self.output_dir.glob(f"map_{'[0-9]' * 5}.png")):
            old.unlink(missing_ok=True)
        self._outputs.add([self.table.name, self._part.name])
        self._write_header([])

    def _finish(self, engine: Engine) -> None:
        os.replace(self._part, self.table)

    def _write_header(self, optional: Iterable[str]) -> None:
        """Begin the table anew."""
        self._optional = list(optional)
        names = [f"{what}_{name}" for what, _ in self._shares for name in self.classes]
        end = [OutputKeys.NETWORK_EVALUATIONS, OutputKeys.DECIDED, "map", OutputKeys.WARNINGS, "error"]
        columns = ["key", "predicted", *names, *self._uncertainties, *self._optional, *end]
        if twice := sorted({str(name) for name in columns if columns.count(name) > 1}):
            raise ValueError(
                f"classes: expected names that make a column each, got {self.classes}, with which there would be two "
                f"columns {twice}; call the classes otherwise"
            )
        self._num_columns = len(columns)
        with open(self._part, "w", newline="", encoding="utf-8", errors="replace") as file:
            csv.writer(file).writerow(csv_texts(columns))

    def _write(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        if output and not self._classified:
            if OutputKeys.LOG_LIKELIHOOD in output[0]:
                known = output[0][OutputKeys.UNCERTAINTY]
                self._uncertainties = tuple(name for name in LIKELIHOOD_UNCERTAINTIES if name in known)
                self._shares = _LIKELIHOODS
            rows = self._failed_rows
            self._write_header(name for name in OPTIONAL if name in output[0])
            self._append(self._failed_row(item) for item in rows)
            self._classified = True
        unreadable = getattr(engine, "unreadable", {})
        results = iter(zip(batch, output, strict=True))
        for place in range(len(output) + len(unreadable)):
            if place in unreadable:
                if not self._classified:
                    self._failed_rows.append(unreadable[place])
                self._append([self._failed_row(unreadable[place])])
            else:
                source, result = next(results)
                self._append([self._row(source, result)])
            self._count += 1

    def _append(self, rows: Iterable[list[str]]) -> None:
        with open(self._part, "a", newline="", encoding="utf-8", errors="replace") as file:
            csv.writer(file).writerows(rows)

    def _failed_row(self, item: Unreadable) -> list[str]:
        return [csv_text(item.key), *[""] * (self._num_columns - 2), csv_text(item.error)]

    def _row(self, source: Any, result: dict[str, Any]) -> list[str]:
        key = str(source.get("key", self._count))
        probabilities = torch.as_tensor(result[CommonKeys.PRED])
        predicted = int(probabilities.argmax())
        uncertainty = of_final_probabilities(result[OutputKeys.UNCERTAINTY], probabilities)
        numbers = [value for _, output in self._shares for value in result[output]]
        numbers += [uncertainty[name] for name in self._uncertainties]
        picture = ""
        if self.maps and OutputKeys.ERROR_MAPS in result and result[CommonKeys.IMAGE].ndim == 3:
            picture = f"map_{self._count:05d}.png"
            maps = torch.as_tensor(result[OutputKeys.ERROR_MAPS])
            difference = decision_map(maps[None], torch.tensor([predicted]))[0]
            image = (np.asarray(torch.as_tensor(result[CommonKeys.IMAGE]).float().cpu()) + 1) / 2
            self._outputs.add([picture])
            matplotlib.image.imsave(self.output_dir / picture, overlay(image, difference.cpu().numpy()))
        further = [self._optional_cell(name, result[name]) for name in self._optional]
        spent = [str(int(result[OutputKeys.NETWORK_EVALUATIONS])), str(bool(result[OutputKeys.DECIDED])).lower()]
        texts = csv_texts([key, self.classes[predicted]])
        warnings = csv_text(warnings_of(source, result))
        return [*texts, *(f"{float(n):.6f}" for n in numbers), *further, *spent, picture, warnings, ""]

    def _optional_cell(self, name: str, value: Any) -> str:
        if name == OutputKeys.PREDICTION_SET:
            names = (self.classes[k] for k in torch.as_tensor(value).flatten().nonzero().flatten().tolist())
            return csv_text(";".join(names))
        return f"{float(value):.6g}"
