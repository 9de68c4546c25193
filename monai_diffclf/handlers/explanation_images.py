# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handler that shows explanations in TensorBoard."""

from __future__ import annotations

from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events

from ..explain import overlay
from .explained_item import (
    ExplainedItem,
    MakeCounterfactuals,
    add_counterfactuals,
    check_explains,
    check_makes,
    make_item,
)

__all__ = ["ExplanationImages"]


class ExplanationImages:
    """Write a grid of explained images to TensorBoard: one row an image.

    Columns: the image, the image with the decision map of its predicted class over it (see
    :func:`monai_diffclf.explain.overlay`), and with ``counterfactuals`` the image painted again as its own class and as
    the class that came second. The first images of every evaluation are shown, so that epochs can be compared; of
    volumes, the slice in which the map is strongest.

    Args:
        summary_writer: a `SummaryWriter`.
        num_images: how many images to show.
        counterfactuals: as for `CaseReport`; None for the first two columns alone.
        tag: name of the picture.
        size: the longer side of each image is enlarged to at least this many pixels.

    Raises:
        ValueError: when ``num_images`` is not positive; when the evaluation starts, if it makes no error maps.
    """

    def __init__(
        self,
        summary_writer: Any,
        num_images: int = 4,
        *,
        counterfactuals: MakeCounterfactuals | None = None,
        tag: str = "explanations",
        size: int = 128,
    ) -> None:
        if num_images < 1:
            raise ValueError(f"num_images: expected a positive number, got {num_images}")
        check_makes(counterfactuals, "counterfactuals")
        self.summary_writer, self.num_images, self.counterfactuals = summary_writer, num_images, counterfactuals
        self.tag, self.size = tag, size
        self._items: list[ExplainedItem] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the grid of the images collected, under the evaluator's epoch."""
        items, self._items = self._items, []
        if items and self.counterfactuals is not None:
            items = add_counterfactuals(items, engine, self.counterfactuals)
        if items:
            self.summary_writer.add_image(self.tag, self.grid(items), engine.state.epoch)

    def _start(self, engine: Engine) -> None:
        check_explains(engine)
        self._items = []

    def _collect(self, engine: Engine) -> None:
        missing = self.num_images - len(self._items)
        self._items += [make_item(result) for result in cast(Any, engine.state.output)[:missing]]

    def grid(self, items: list[ExplainedItem]) -> torch.Tensor:
        """The grid [3, rows H, columns W], values in [0, 1]."""
        return torch.cat([torch.cat(self._row(item), dim=-1) for item in items], dim=-2)

    def _row(self, item: ExplainedItem) -> list[torch.Tensor]:
        """Pictures [3, H, W] of one image."""
        image = item.plane(item.image)
        nothing = np.zeros(image.shape[1:])
        pictures = [(image, nothing)]
        if item.decision_map is not None:
            pictures.append((image, item.plane(item.decision_map)))
        if item.pair is not None:
            pictures += [(item.pair.factual, nothing), (item.pair.counterfactual, nothing)]
        painted = [overlay((picture + 1) / 2, difference, size=self.size) for picture, difference in pictures]
        return [torch.as_tensor(picture, dtype=torch.float32).permute(2, 0, 1) for picture in painted]
