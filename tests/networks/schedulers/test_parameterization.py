"""Conversions between epsilon, sample and v: against the definitions, as round trips, and against MONAI."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.networks.schedulers import PREDICTION_TYPES, alpha_sigma, convert_prediction


def make(batch: int = 7, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, torch.Tensor]:
    """A batch with its noisy images and all three exact predictions, at log-SNR from -6 to 6."""
    generator = torch.Generator().manual_seed(0)
    sample, epsilon = (
        torch.randn(batch, 2, 4, 3, generator=generator, dtype=torch.float64).to(device, dtype) for _ in range(2)
    )
    log_snr = torch.linspace(-6, 6, batch, dtype=dtype, device=device)
    alpha, sigma = (factor[:, None, None, None] for factor in alpha_sigma(log_snr))
    return {
        "sample": sample,
        "epsilon": epsilon,
        "v_prediction": alpha * epsilon - sigma * sample,
        "noisy": alpha * sample + sigma * epsilon,
        "log_snr": log_snr,
    }


def test_alpha_sigma():
    log_snr = torch.linspace(-30, 30, 61, dtype=torch.float64)
    alpha, sigma = alpha_sigma(log_snr)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(log_snr))
    torch.testing.assert_close(2 * (alpha.log() - sigma.log()), log_snr)
    # Hardly any noise: still exact in float32, where 1 - alpha^2 is 0.
    assert alpha_sigma(torch.tensor(30.0))[1].item() == pytest.approx(3.0590232e-07, rel=1e-6)


@pytest.mark.parametrize(("source", "target"), list(product(PREDICTION_TYPES, repeat=2)))
def test_every_pair_gives_the_exact_prediction(source, target, device):
    data = make(device=device)
    got = convert_prediction(data[source], data["noisy"], data["log_snr"], source=source, target=target)
    torch.testing.assert_close(got, data[target], rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(("source", "target"), list(permutations(PREDICTION_TYPES, 2)))
def test_round_trips_of_wrong_predictions(source, target):
    data = make()
    prediction = data[source] + torch.randn(data[source].shape, generator=torch.Generator().manual_seed(1)).double()
    there = convert_prediction(prediction, data["noisy"], data["log_snr"], source=source, target=target)
    back = convert_prediction(there, data["noisy"], data["log_snr"], source=target, target=source)
    torch.testing.assert_close(back, prediction, rtol=1e-10, atol=1e-10)


def test_limits_of_v():
    data = make()
    for log_snr, v in ((60.0, data["epsilon"]), (-60.0, -data["sample"])):
        level = torch.tensor(log_snr, dtype=torch.float64)
        alpha, sigma = alpha_sigma(level)
        noisy = alpha * data["sample"] + sigma * data["epsilon"]
        torch.testing.assert_close(
            convert_prediction(v, noisy, level, source="v_prediction", target="sample"), data["sample"]
        )
        torch.testing.assert_close(
            convert_prediction(v, noisy, level, source="v_prediction", target="epsilon"), data["epsilon"]
        )


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_agrees_with_monai(prediction_type):
    scheduler = DDPMScheduler(
        num_train_timesteps=100, schedule="scaled_linear_beta", prediction_type=prediction_type, clip_sample=False
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    data, timesteps = make(batch=4), torch.tensor([3, 20, 60, 99])
    log_snr = torch.logit(scheduler.alphas_cumprod[timesteps])
    noisy = scheduler.add_noise(data["sample"], data["epsilon"], timesteps)
    velocity = scheduler.get_velocity(data["sample"], data["epsilon"], timesteps)
    got = convert_prediction(data["epsilon"], noisy, log_snr, source="epsilon", target="v_prediction")
    torch.testing.assert_close(got, velocity, rtol=1e-9, atol=1e-9)

    prediction = data["epsilon"] + 0.1
    for i, timestep in enumerate(timesteps.tolist()):
        _, sample = scheduler.step(prediction[i : i + 1], timestep, noisy[i : i + 1])
        got = convert_prediction(
            prediction[i : i + 1], noisy[i : i + 1], log_snr[i], source=prediction_type, target="sample"
        )
        torch.testing.assert_close(got, sample, rtol=1e-6, atol=1e-6)


def test_half_precision_predictions_are_converted_in_float32():
    data = make(dtype=torch.float32)
    half = data["v_prediction"].half()
    for target in PREDICTION_TYPES:
        got = convert_prediction(half, data["noisy"], data["log_snr"], source="v_prediction", target=target)
        assert got.dtype == torch.float32
        expected = convert_prediction(
            half.float(), data["noisy"], data["log_snr"], source="v_prediction", target=target
        )
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_bad_arguments():
    x = torch.zeros(3, 1, 2, 2)
    with pytest.raises(
        ValueError, match=r"`source` must be one of \['epsilon', 'sample', 'v_prediction'\], but got 'v'"
    ):
        convert_prediction(x, x, torch.zeros(3), source="v", target="sample")
    with pytest.raises(ValueError, match="`target` must be one of .* but got 'score'"):
        convert_prediction(x, x, torch.zeros(3), source="epsilon", target="score")
    with pytest.raises(ValueError, match=r"same shape, but got \(3, 2, 2, 2\) and \(3, 1, 2, 2\)"):
        convert_prediction(torch.zeros(3, 2, 2, 2), x, torch.zeros(3), source="epsilon", target="sample")
    with pytest.raises(ValueError, match=r"one an image, \[3\], but got the shape \(2,\)"):
        convert_prediction(x, x, torch.zeros(2), source="epsilon", target="sample")
