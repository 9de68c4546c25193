"""An evaluator on a few tiny images, for the handlers that show or write what it finds."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.inferers import DiffusionClassifierInferer


class Doubtful(torch.nn.Module):
    """Takes the images of class k for constant, k / 2; which one fits depends on an image's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timesteps, context=None, class_labels=None):
        rows = torch.linspace(0, 0.1, x.shape[2], device=x.device).reshape(-1, *[1] * (x.ndim - 3))
        return class_labels.reshape(-1, *[1] * (x.ndim - 1)) * (0.5 + rows) + 0.01 * x + self.weight


@pytest.fixture
def evaluate(device):
    """Function that runs an evaluator with handlers over images [n, C, *spatial], and returns it and its outputs."""

    def run(images, handlers=(), *, num_classes=2, labels=True, keys=True, stopping=False, run=True, **settings):
        items = [
            {"image": MetaTensor(image, meta={"filename_or_obj": f"film{i}.png"})}
            | ({"label": i % num_classes} if labels else {})
            | ({"key": f"film {i}"} if keys else {})
            for i, image in enumerate(images)
        ]
        inferer = DiffusionClassifierInferer(
            DDPMScheduler(100, prediction_type="sample"),
            num_classes=num_classes,
            num_draws=9,
            stopping=CurtailedVote() if stopping else None,
        )
        outputs: list[dict] = []
        evaluator = DiffusionClassifierEvaluator(
            torch.device(device),
            DataLoader(Dataset(items), batch_size=2),
            Doubtful().eval().to(device),
            inferer=inferer,
            val_handlers=list(handlers),
            **settings,
        )
        evaluator.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: outputs.extend(dict(item) for item in engine.state.output)
        )
        if run:
            evaluator.run()
        return evaluator, outputs

    return run


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Five grey images from one class to the other, with a little noise."""
    noise = torch.randn(5, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    return (torch.linspace(0, 0.55, 5).reshape(-1, 1, 1, 1) + 0.2 * noise).clamp(-1, 1)
