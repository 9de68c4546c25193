# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What inference leaves behind: a table with one row an image, and a picture of where the classes differ."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils import CommonKeys
from numpy.typing import NDArray

from .._class_names import class_names
from ..engines import DiffusionClassifierEvaluator
from ..explain import decision_map, mosaic_overlay, overlay
from ..image_io.map_file import map_to_image_size
from ..keys import OutputKeys
from ..storage.outputs import Outputs
from .finding_view import is_multi_label, num_findings, of_finding
from .prediction_table import PredictionTable, prediction_row

__all__ = ["ClassificationWriter", "map_in_image_size", "map_of_class", "map_pictures", "map_suffixes"]


class ClassificationWriter:
    """Ignite handler for a `DiffusionClassifierEvaluator`: ``predictions.csv`` and one PNG an image.

    Columns: key, predicted, probability_CLASS, vote_share_CLASS, the uncertainties (vote_variance, vote_entropy,
    vote_margin, vote_share_low, vote_share_high, entropy_monte_carlo, entropy_remaining, probability_margin,
    probability_entropy, see :class:`monai_diffclf.keys.UncertaintyKeys`; with "uncertainty_" before it where a class's
    column is called so), where post-transforms give them
    prediction_set (the names of its classes, separated by ``;``), ood_score and ood_p_value, then network_evaluations,
    decided (whether the stopping rule's guarantee holds), map (name of the PNG), warnings (what to mind, see
    `image_warnings`), error (why an image could not be read; its other cells are empty). Text that a spreadsheet would
    run is written so that it does not, see :func:`monai_diffclf._text.csv_text`. Of a score classifier there are
    log_likelihood_CLASS in nats in place of the votes, and probability_margin, probability_entropy and log_ratio_error
    (see :func:`monai_diffclf.classification.classify_likelihood`); of a
    `SoftmaxClassifierInferer` there are no votes, and the first two of these. Rows are written batch by batch to
    ``predictions.csv.part``, which becomes the table when all are: ``predictions.csv`` is never short of rows. What an
    earlier run wrote into the folder is removed when one begins. The
    evaluator's journal, if it keeps one, has done its work and is removed. The PNG shows the image with the decision
    map of its predicted class over it, of a volume its slices side by side, see `map_pictures`; of several findings
    there is a PNG for each, on one scale, and the columns are those of
    :func:`monai_diffclf.handlers.prediction_table.prediction_row`.

    Args:
        output_dir: folder to write to.
        classes: names of the classes.
        maps: whether to write the PNGs.

    Raises:
        ValueError: when the evaluation starts, if two columns would have one name.
    """

    def __init__(self, output_dir: str | os.PathLike[str], classes: Sequence[str], *, maps: bool = True) -> None:
        self.output_dir, self.classes, self.maps = Path(output_dir), class_names(classes), maps
        self._outputs = Outputs(self.output_dir, "inference")
        self._count = 0
        self._rows: PredictionTable | None = None

    @property
    def table(self) -> Path:
        """Path of the table."""
        return self.output_dir / "predictions.csv"

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
        if self._rows is not None:
            self._rows.close()
        # Of an earlier run, which these images may not be those of; the pictures also where a version kept no list.
        self._outputs = Outputs(self.output_dir, "inference")
        self._outputs.begin()
        for old in (self.table, *self.output_dir.glob(f"map_{'[0-9]' * 5}.png")):
            old.unlink(missing_ok=True)
        self._outputs.add([self.table.name, f"{self.table.name}.part"])
        self._rows = PredictionTable(self.table, self.classes)

    def _finish(self, engine: Engine) -> None:
        if self._rows is not None:
            self._rows.finish()
            self._rows = None

    def _write(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        unreadable = getattr(engine, "unreadable", {})
        results = iter(zip(batch, output, strict=True))
        if self._rows is None:
            raise RuntimeError("engine: expected an evaluation that has begun")
        for place in range(len(output) + len(unreadable)):
            if place in unreadable:
                self._rows.add({"key": unreadable[place].key, "error": unreadable[place].error})
            else:
                self._rows.add(self._row(*next(results)))
            self._count += 1
        self._rows.flush()

    def _row(self, source: Any, result: dict[str, Any]) -> dict[str, Any]:
        named = source if "key" in source else {**source, "key": self._count}
        painted = map_pictures(result) if self.maps else []
        names = [f"map_{self._count:05d}{end}.png" for end in map_suffixes(result)][: len(painted)]
        self._outputs.add(names)
        for name, picture in zip(names, painted, strict=True):
            matplotlib.image.imsave(self.output_dir / name, picture)
        return prediction_row(named, result, self.classes, pictures=names)


def map_of_class(result: Mapping[str, Any]) -> torch.Tensor:
    """The decision map [*spatial] of the class of an item of an output that has error maps, on the CPU.

    Of several findings those of all [L, *spatial], positive where the finding explains a pixel better than its absence.
    """
    if is_multi_label(result):
        return torch.stack([_map_if_present(of_finding(result, i)) for i in range(num_findings(result))])
    predicted = torch.as_tensor(result[CommonKeys.PRED]).argmax().reshape(1).cpu()
    return decision_map(torch.as_tensor(result[OutputKeys.ERROR_MAPS]).cpu()[None], predicted)[0]


def _map_if_present(result: Mapping[str, Any]) -> torch.Tensor:
    """The decision map of class 1 over class 0 [*spatial], whichever is predicted."""
    return decision_map(torch.as_tensor(result[OutputKeys.ERROR_MAPS]).cpu()[None], torch.tensor([1]))[0]


def map_in_image_size(
    result: Mapping[str, Any], image: MetaTensor, preprocessing: Sequence[Callable[..., Any]]
) -> NDArray[np.float32]:
    """The decision map in the size of the upright image, float32 [H, W] or [H, W, D]; of several findings [L, ...].

    Args:
        result: item of an output that has error maps.
        image: the image after preprocessing.
        preprocessing: the transforms, see :func:`monai_diffclf.image_io.map_file.map_to_image_size`, which also says
            what raises and what a volume's axes are.
    """
    maps = map_of_class(result)
    several = is_multi_label(result)
    made = [map_to_image_size(each, image, preprocessing) for each in (maps if several else [maps])]
    arrays = [np.asarray(each.detach().float().cpu().numpy()) for each in made]
    return np.stack(arrays) if several else arrays[0]


def map_suffixes(result: Mapping[str, Any]) -> list[str]:
    """What the names of an image's maps end with: nothing, or of several findings which one.

    Example:
        >>> map_suffixes({"pred": torch.rand(2), "multi_label": True}), map_suffixes({"pred": torch.rand(2)})
        (['_finding_0', '_finding_1'], [''])
    """
    if not is_multi_label(result):
        return [""]
    return [f"_finding_{number}" for number in range(num_findings(result))]


def map_pictures(result: Mapping[str, Any]) -> list[NDArray[Any]]:
    """The image of an item of an output with the decision map of its class over it [H, W, 3]; none without maps.

    Of several findings a picture each, on one scale, so that the map of a finding that is not there looks as faint as
    it is. Of volumes the slices side by side; see :func:`monai_diffclf.explain.overlay` and
    :func:`monai_diffclf.explain.mosaic_overlay`.
    """
    if OutputKeys.ERROR_MAPS not in result:
        return []
    image = torch.as_tensor(result[CommonKeys.IMAGE])
    shown = (image.detach().float().cpu() + 1) / 2
    maps = map_of_class(result)
    affine = getattr(image, "affine", None)
    if is_multi_label(result):
        return [_painted(shown, each, affine, float(maps.abs().max())) for each in maps]
    return [_painted(shown, maps, affine)]


def _painted(shown: torch.Tensor, decision: torch.Tensor, affine: Any, limit: float | None = None) -> NDArray[Any]:
    """One map over a plane [C, H, W] or, slice by slice, over a volume [C, H, W, D]."""
    if shown.ndim == 4:
        return mosaic_overlay(shown, decision, affine, limit=limit)
    return overlay(np.asarray(shown), decision.numpy(), limit=limit)
