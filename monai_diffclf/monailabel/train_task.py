# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A model's training as MONAI Label's clients are shown it."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from .infer_request import find_devices
from .train_request import SERVE, TrainRequest
from .training_job import Training

__all__ = ["ModelTraining"]


class ModelTraining(TrainTask):
    """The settings of a model's training, for ``/info/``.

    Args:
        training: what trains.
        name: the model.
    """

    def __init__(self, training: Training, name: str) -> None:
        super().__init__(f"Trains {name} on the labels of the datastore, through its bundle's train.json")
        self.training, self.name = training, name

    def config(self) -> dict[str, Any]:
        """What a client may set, with the defaults; a list is a choice."""
        return {
            "pretrained": TrainRequest.pretrained,
            "device": list(find_devices()),
            "seed": TrainRequest.seed,
            "margin": TrainRequest.margin,
            "serve": list(SERVE),
        }

    def stats(self) -> dict[str, Any]:
        """The weights that there are."""
        return {} if self.training.studies is None else self.training.list_weights(self.name)

    def __call__(self, request: Any, datastore: Datastore) -> dict[str, Any]:
        """Start the training."""
        return self.training.start(self.name, dict(request))
