"""A report's data with known properties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.report import ReportData


def make_data(*, count: int = 40, num_classes: int = 2, num_draws: int = 11, channels: int = 1) -> ReportData:
    """Errors in which the true class is better by an amount that grows with the image's number, plus noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % num_classes
    values = 0.3 + 0.02 * rng.standard_normal((count, num_classes, num_draws))
    values[np.arange(count), labels] -= np.linspace(0, 0.06, count)[:, None]
    errors = DenoisingErrors(
        torch.tensor(values, dtype=torch.float32),
        timesteps=torch.arange(num_draws),
        log_snr=torch.linspace(6, -6, num_draws),
        num_elements=256,
    )
    return ReportData(
        title="Lesion <or> not & why",
        description="Forty images were classified. The errors are made up.",
        images=rng.uniform(size=(count, channels, 16, 16)).astype(np.float32),
        labels=labels,
        class_names=["clear", "lesion", "other"][:num_classes],
        errors=errors,
        seconds=2.0,
        error_maps=rng.uniform(size=(count, num_classes, 16, 16)),
        masks=np.zeros((count, 1, 16, 16), np.uint8) + (np.arange(16) // 4 == 1).astype(np.uint8),
        keys=[f"film <{i}>" for i in range(count)],
        data_note="made up",
    )


@pytest.fixture(scope="session")
def data() -> ReportData:
    return make_data()


@pytest.fixture(scope="session")
def three_classes() -> ReportData:
    """Three classes, colour images, a draw missing for one image, no maps, masks or names."""
    made = make_data(num_classes=3, channels=3)
    values = made.errors.values.clone()
    values[5, :, 7:] = torch.nan
    return replace(made, errors=replace(made.errors, values=values), error_maps=None, masks=None, keys=None)
