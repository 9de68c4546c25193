# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An Ignite engine that evaluates a diffusion classifier and keeps what is behind its probabilities."""

from __future__ import annotations

from typing import Any, cast

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from ..inferers import DiffusionClassifierInferer

__all__ = ["DiffusionClassifierEvaluator"]


class DiffusionClassifierEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` with votes, uncertainty and explanation in its output.

    Output keys: ``image``, ``label``, ``pred`` (probabilities [B, K]) as every MONAI handler expects, and ``votes``
    (vote shares [B, K]), ``uncertainty`` (dict of [B]), ``errors`` [B, K, N] and, if asked for, ``explanation`` (error
    maps [B, K, *spatial]: the class with the lower map explains a pixel better). All come from the same network
    evaluations.

    Args:
        args: as for `SupervisedEvaluator`.
        explain: whether to add ``explanation``; with a stopping rule there is none, as the maps need all draws.
        kwargs: as for `SupervisedEvaluator`; ``inferer`` must be a `DiffusionClassifierInferer`.

    Raises:
        TypeError: when the inferer is another one.
    """

    def __init__(self, *args: Any, explain: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.inferer, DiffusionClassifierInferer):
            raise TypeError(
                f"inferer: expected a DiffusionClassifierInferer, got {type(self.inferer).__name__}; "
                "with another inferer use monai.engines.SupervisedEvaluator"
            )
        self.explain = explain

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """One batch; see the class for what is returned."""
        if batchdata is None:
            raise ValueError("batchdata: expected a batch with images, got None")
        inputs, targets, *rest = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        kwargs = rest[1] if len(rest) > 1 else {}
        inferer = cast(DiffusionClassifierInferer, self.inferer)
        engine.state.output = {CommonKeys.IMAGE: inputs, CommonKeys.LABEL: targets}
        explain = self.explain and inferer.stopping is None
        with engine.mode(engine.network), torch.autocast("cuda", enabled=engine.amp, **engine.amp_kwargs):
            result = inferer.classify(inputs, engine.network, error_maps=explain, **kwargs)
        engine.state.output[CommonKeys.PRED] = result.probabilities
        engine.state.output["votes"] = result.vote_share
        engine.state.output["uncertainty"] = result.uncertainty
        engine.state.output["errors"] = result.errors.values
        if result.error_maps is not None:
            engine.state.output["explanation"] = result.error_maps
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output  # type: ignore[no-any-return]
