"""The denoising loss: its weights against the formulas, and the same loss in every parameterisation."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks.schedulers import NoiseProcess, convert_prediction

PREDICTIONS = ("epsilon", "sample", "v_prediction")
TIMESTEPS = torch.tensor([0, 50, 200, 400, 600, 900, 999])


def ddpm(prediction_type: str) -> DDPMScheduler:
    limits = {"log_snr_min": -6.0, "log_snr_max": 6.0}
    return DDPMScheduler(1000, schedule="cosine_log_snr", prediction_type=prediction_type, **limits)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(len(TIMESTEPS), 1, 4, 4, generator=generator) for _ in range(2))
    return images, noise


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights(gamma):
    snr = NoiseProcess(ddpm("epsilon")).log_snr(TIMESTEPS).exp()
    expected = {
        "epsilon": snr.clamp(max=gamma) / snr,
        "sample": snr.clamp(max=gamma),
        "v_prediction": snr.clamp(max=gamma) / (snr + 1),
    }
    for prediction in PREDICTIONS:
        weight = DenoisingLoss(ddpm(prediction), gamma=gamma).weight(TIMESTEPS)
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, expected[prediction])


def test_min_snr_weight_of_rectified_flow():
    t = torch.tensor([1.0, 200.0, 500.0, 800.0, 999.0], dtype=torch.float64)
    s = t / 1000
    snr = ((1 - s) / s) ** 2
    weight = DenoisingLoss(RFlowScheduler(1000, use_discrete_timesteps=False)).weight(t)
    torch.testing.assert_close(weight, (1 - s) ** 2 * snr.clamp(max=5) / snr)


@pytest.mark.parametrize("weighting", ["min_snr", "epsilon"])
def test_the_same_denoiser_has_the_same_loss_in_every_parameterisation(weighting, device):
    images, noise = batch()
    losses = []
    for prediction in PREDICTIONS:
        scheduler = ddpm(prediction)
        process = NoiseProcess(scheduler)
        noisy = process.add_noise(images, noise, TIMESTEPS)
        output = convert_prediction(0.9 * noise, noisy, process.log_snr(TIMESTEPS), source="epsilon", target=prediction)
        targets = {"target": process.target(images, noise, TIMESTEPS).to(device), "timesteps": TIMESTEPS.to(device)}
        losses.append(DenoisingLoss(scheduler, weighting=weighting)(output.to(device), targets).item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)


def test_epsilon_weighting_is_the_plain_error_of_epsilon():
    images, noise = batch()
    process = NoiseProcess(ddpm("v_prediction"))
    noisy = process.add_noise(images, noise, TIMESTEPS)
    v = process.target(images, noise, TIMESTEPS) + 0.1 * images
    epsilon = convert_prediction(v, noisy, process.log_snr(TIMESTEPS), source="v_prediction", target="epsilon")
    loss = DenoisingLoss(ddpm("v_prediction"), weighting="epsilon")
    targets = {"target": process.target(images, noise, TIMESTEPS), "timesteps": TIMESTEPS}
    assert loss(v, targets).item() == pytest.approx((epsilon - noise).square().mean().item(), rel=1e-3)


def test_prediction_weighting_is_the_mean_squared_error():
    images, noise = batch()
    loss = DenoisingLoss(ddpm("v_prediction"), weighting="prediction")
    expected = torch.nn.functional.mse_loss(images, noise)
    torch.testing.assert_close(loss(images, {"target": noise, "timesteps": TIMESTEPS}), expected)


def test_half_precision_predictions_are_summed_in_float32():
    images, noise = batch()
    loss = DenoisingLoss(ddpm("epsilon"), weighting="epsilon")
    targets = {"target": noise * 300, "timesteps": TIMESTEPS}
    value = loss(torch.zeros_like(images, dtype=torch.float16), targets)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((noise * 300).square().mean().item(), rel=1e-5)


def test_gradient():
    images, noise = batch()
    prediction = images.clone().requires_grad_()
    loss = DenoisingLoss(ddpm("v_prediction"))
    loss(prediction, {"target": noise, "timesteps": TIMESTEPS}).backward()
    weight = loss.weight(TIMESTEPS).float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(prediction.grad, 2 * weight * (images - noise) / images.numel())


def test_refuses():
    with pytest.raises(ValueError, match=r"weighting: expected one of \['min_snr', 'epsilon', 'prediction'\], got 'v'"):
        DenoisingLoss(ddpm("epsilon"), weighting="v")
    with pytest.raises(ValueError, match="gamma: expected a positive number, got 0"):
        DenoisingLoss(ddpm("epsilon"), gamma=0)
    with pytest.raises(TypeError, match="scheduler: expected a monai.networks.schedulers.Scheduler, got NoneType"):
        DenoisingLoss(None)
    images, noise = batch()
    with pytest.raises(ValueError, match=r"prediction: expected the target's shape \[7, 1, 4, 4\], got \[7, 2, 4, 4\]"):
        DenoisingLoss(ddpm("epsilon"))(images.expand(7, 2, 4, 4), {"target": noise, "timesteps": TIMESTEPS})
