# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How a training went, from the TensorBoard events that it left in its folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .run_facts import TrainingCurve

__all__ = ["read_training_curve"]

_NAMES = {"val_auc": "AUC", "val_accuracy": "accuracy"}


def read_training_curve(
    run: str | os.PathLike[str], *, loss: str = "train_loss", metric: str = "val_auc"
) -> TrainingCurve | None:
    """Loss and validation metric of a training by epoch, None where there are no events of it.

    Where a training was stopped and went on, what was written last of a step counts. The iterations are spread evenly
    over the epochs up to the last validation.

    Args:
        run: the folder.
        loss: tag of the loss, a value an iteration.
        metric: tag of the validation metric, a value an epoch validated.
    """
    if not any(Path(run).glob("events.out.tfevents.*")):
        return None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(os.fspath(run), size_guidance={"scalars": 0})
    try:
        events.Reload()
        known = events.Tags()["scalars"]
        losses = {event.step: event.value for event in (events.Scalars(loss) if loss in known else [])}
        quality = {event.step: event.value for event in (events.Scalars(metric) if metric in known else [])}
    except Exception:  # (whatever a damaged file makes TensorBoard raise: a report does without)
        return None
    if not losses and not quality:
        return None
    steps, values = np.array(sorted(losses)), np.array([losses[step] for step in sorted(losses)])
    last = max(quality, default=0)
    per_epoch = max(1, round(len(steps) / last)) if last and len(steps) else max(1, len(steps) // 20)
    epochs = np.array(sorted({(step - 1) // per_epoch + 1 for step in steps.tolist()}), dtype=np.int64)
    means = [float(values[(steps - 1) // per_epoch + 1 == epoch].mean()) for epoch in epochs]
    validated = sorted(quality)
    return TrainingCurve(
        epochs,
        np.array(means),
        np.array(validated, dtype=np.int64),
        np.array([quality[epoch] for epoch in validated], dtype=np.float64),
        _NAMES.get(metric, metric),
    )
