"""The cosine schedules by log-SNR: against the formula, their limits, their slope, and inside MONAI's schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, NoiseSchedules

from monai_diffclf.networks.schedulers import (
    cosine_log_snr,
    cosine_log_snr_slope,
    linear_log_snr,
    shifted_cosine_log_snr,
    shifted_cosine_log_snr_slope,
)

T = torch.linspace(0, 1, 101, dtype=torch.float64)


def table_log_snr(scheduler: DDPMScheduler) -> torch.Tensor:
    return torch.logit(scheduler.alphas_cumprod.double())


def test_cosine_is_the_cosine_of_the_angle():
    # With limits far out, alpha = cos(pi t / 2) and sigma = sin(pi t / 2).
    log_snr = cosine_log_snr(T[1:-1], log_snr_min=-60, log_snr_max=60)
    torch.testing.assert_close(torch.sigmoid(log_snr).sqrt(), torch.cos(math.pi * T[1:-1] / 2), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("limits", [(-15.0, 15.0), (-8.0, 12.0)])
def test_limits_and_direction(limits, device):
    low, high = limits
    for log_snr in (
        cosine_log_snr(T.to(device), log_snr_min=low, log_snr_max=high),
        shifted_cosine_log_snr(T.to(device), resolution=256, log_snr_min=low, log_snr_max=high),
        shifted_cosine_log_snr(T.to(device), resolution=28, log_snr_min=low, log_snr_max=high),
    ):
        assert log_snr.device.type == device
        assert log_snr[0].item() == pytest.approx(high, abs=1e-9)
        assert log_snr[-1].item() == pytest.approx(low, abs=1e-9)
        assert bool((log_snr.diff() < 0).all())


def test_shift_is_added_in_between():
    shift = 2 * math.log(64 / 256)
    middle = slice(20, 81)
    difference = shifted_cosine_log_snr(T, resolution=256) - cosine_log_snr(T)
    torch.testing.assert_close(difference[middle], torch.full_like(T[middle], shift), atol=0.02, rtol=0)
    torch.testing.assert_close(shifted_cosine_log_snr(T, resolution=64), cosine_log_snr(T), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        shifted_cosine_log_snr(T, resolution=128, reference_resolution=32), shifted_cosine_log_snr(T, resolution=256)
    )


def test_as_released_reproduces_the_published_range():
    t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    log_snr = shifted_cosine_log_snr(t, resolution=256, as_released=True)
    assert log_snr.tolist() == pytest.approx([10.84, -1.01, -2.77, -4.54, -19.16], abs=0.006)
    # The share of uniform draws with more signal than noise, as measured on the published code: 15.5 %.
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    share = (shifted_cosine_log_snr(grid, resolution=256, as_released=True) > 0).double().mean().item()
    assert share == pytest.approx(0.155, abs=0.001)


@pytest.mark.parametrize(
    ("function", "slope", "arguments"),
    [
        (cosine_log_snr, cosine_log_snr_slope, {}),
        (cosine_log_snr, cosine_log_snr_slope, {"log_snr_min": -5.0, "log_snr_max": 9.0}),
        (shifted_cosine_log_snr, shifted_cosine_log_snr_slope, {"resolution": 256}),
        (shifted_cosine_log_snr, shifted_cosine_log_snr_slope, {"resolution": 256, "as_released": True}),
    ],
)
def test_slope_is_the_derivative(function, slope, arguments):
    t = T.clone().requires_grad_()
    function(t, **arguments).sum().backward()
    torch.testing.assert_close(slope(T, **arguments), t.grad, rtol=1e-9, atol=0)


def test_computed_in_float64_whatever_the_dtype():
    t = torch.tensor([0.999], dtype=torch.float32)
    assert cosine_log_snr(t).dtype == torch.float32
    assert cosine_log_snr(t).item() == pytest.approx(cosine_log_snr(t.double()).item(), rel=1e-7)
    assert cosine_log_snr(torch.tensor([0, 1])).tolist() == [15.0, -15.0]
    assert cosine_log_snr(0.5).shape == ()


@pytest.mark.parametrize("build", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_tables_in_monai_schedulers(build, steps):
    scheduler = build(num_train_timesteps=steps, schedule="shifted_cosine", resolution=128)
    assert scheduler.alphas_cumprod.dtype == scheduler.betas.dtype == torch.float32
    expected = shifted_cosine_log_snr(torch.linspace(0, 1, steps, dtype=torch.float64), resolution=128)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), expected.sigmoid(), rtol=1e-7, atol=0)
    torch.testing.assert_close(table_log_snr(scheduler), expected, atol=0.1, rtol=0)
    torch.testing.assert_close(scheduler.alphas + scheduler.betas, torch.ones(steps))
    torch.testing.assert_close(scheduler.alphas.double().cumprod(0), expected.sigmoid(), rtol=1e-4, atol=0)
    assert bool((scheduler.betas > 0).all() and (scheduler.betas < 1).all())


def test_schedules_build_from_a_bundle_configuration():
    config = {
        "imports": ["$import monai_diffclf.networks.schedulers"],
        "scheduler": {
            "_target_": "DDPMScheduler",
            "num_train_timesteps": 1000,
            "schedule": "shifted_cosine",
            "resolution": 256,
            "as_released": True,
            "prediction_type": "v_prediction",
        },
    }
    log_snr = table_log_snr(ConfigParser(config).get_parsed_content("scheduler"))
    assert log_snr[[0, -1]].tolist() == pytest.approx([10.84, -19.16], abs=0.01)
    cosine = DDPMScheduler(num_train_timesteps=11, schedule="cosine_log_snr", log_snr_min=-9.0, log_snr_max=9.0)
    assert table_log_snr(cosine)[[0, 5, 10]].tolist() == pytest.approx([9, 0, -9], abs=1e-3)
    assert {"cosine_log_snr", "shifted_cosine"} <= set(NoiseSchedules.names)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`log_snr_min` must be below `log_snr_max`, but got 3.0 and 3.0"):
        cosine_log_snr(0.5, log_snr_min=3.0, log_snr_max=3.0)
    with pytest.raises(ValueError, match="`resolution` must be a positive number of pixels, but got 0"):
        shifted_cosine_log_snr(0.5, resolution=0)
    with pytest.raises(ValueError, match="`reference_resolution` must be a positive number of pixels, but got -64"):
        shifted_cosine_log_snr_slope(0.5, resolution=64, reference_resolution=-64)
    with pytest.raises(ValueError, match="`num_train_timesteps` must be at least 2, but got 1"):
        DDPMScheduler(num_train_timesteps=1, schedule="cosine_log_snr")
    with pytest.raises(TypeError, match="resolution"):
        DDPMScheduler(num_train_timesteps=10, schedule="shifted_cosine")


def test_the_linear_schedule_has_evenly_spread_levels():
    assert linear_log_snr(0.25, log_snr_min=-2.0, log_snr_max=6.0) == 4.0
    scheduler = DDPMScheduler(12, schedule="linear_log_snr", log_snr_min=-6.0, log_snr_max=5.0)
    alpha2 = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(
        torch.log(alpha2 / (1 - alpha2)), torch.linspace(5, -6, 12, dtype=torch.float64), rtol=0, atol=1e-4
    )
    with pytest.raises(ValueError, match="log_snr_min"):
        linear_log_snr(0.5, log_snr_min=5.0, log_snr_max=-6.0)
