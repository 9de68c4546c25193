"""The noise process: against MONAI's schedulers, and against the definitions."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler, RFlowScheduler, Scheduler

from monai_diffclf.networks.schedulers import NoiseProcess, convert_prediction, cosine_log_snr_slope

PREDICTIONS = ("epsilon", "sample", "v_prediction")
SCHEDULES = ("linear_beta", "scaled_linear_beta", "sigmoid_beta", "cosine", "cosine_log_snr")


def batch(size: int = 8, dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(size, 2, *[4] * dims, generator=generator) for _ in range(2))
    return images, noise


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_against_monai(kind, schedule, dims, device):
    images, noise = (tensor.to(device) for tensor in batch(dims=dims))
    # The last step of MONAI's cosine has alpha^2 of the order of float32's rounding: leave it to the next test.
    timesteps = torch.tensor([0, 1, 100, 300, 500, 700, 900, 990]).to(device)
    scheduler = kind(1000, schedule=schedule, prediction_type="v_prediction")
    process = NoiseProcess(scheduler)
    expected = scheduler.add_noise(images, noise, timesteps)
    torch.testing.assert_close(process.add_noise(images, noise, timesteps), expected, rtol=1e-4, atol=1e-5)
    velocity = scheduler.get_velocity(images, noise, timesteps)
    torch.testing.assert_close(process.target(images, noise, timesteps), velocity, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_whole_table_is_finite(schedule):
    process = NoiseProcess(DDPMScheduler(1000, schedule=schedule))
    timesteps = torch.arange(1000)
    log_snr, rate = process.log_snr(timesteps), process.log_snr_rate(timesteps)
    assert torch.isfinite(log_snr).all()
    assert (log_snr.diff() <= 0).all()
    assert torch.isfinite(rate).all()
    assert (rate >= 0).all()
    alpha, sigma = process.alpha_sigma(timesteps)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000, dtype=torch.float64))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("discrete", [True, False])
def test_rectified_flow_against_monai(discrete, dims, device):
    scheduler = RFlowScheduler(1000, use_discrete_timesteps=discrete)
    process = NoiseProcess(scheduler)
    images, noise = (tensor.to(device) for tensor in batch(dims=dims))
    timesteps = process.timesteps(torch.linspace(0, 0.999, 8)).to(device)
    noisy = process.add_noise(images, noise, timesteps)
    torch.testing.assert_close(noisy, scheduler.add_noise(images, noise, timesteps), rtol=1e-5, atol=1e-5)
    target = process.target(images, noise, timesteps)
    assert torch.equal(target, images - noise)
    torch.testing.assert_close(process.predict_sample(target, noisy, timesteps), images, rtol=1e-4, atol=1e-4)
    # MONAI's step knows the clean image that a prediction implies.
    scheduler.set_timesteps(10)
    for i, t in enumerate(timesteps.tolist()):
        _, expected = scheduler.step(noise[i : i + 1], t, noisy[i : i + 1])
        got = process.predict_sample(noise[i : i + 1], noisy[i : i + 1], timesteps[i : i + 1])
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_implied_sample_against_monai(kind, prediction):
    scheduler = kind(1000, schedule="cosine_log_snr", log_snr_min=-8.0, log_snr_max=8.0, prediction_type=prediction)
    scheduler.clip_sample = False
    scheduler.set_timesteps(1000)
    process = NoiseProcess(scheduler)
    noisy, output = batch()
    timesteps = torch.tensor([1, 50, 200, 400, 500, 700, 900, 998])
    got = process.predict_sample(output, noisy, timesteps)
    for i, t in enumerate(timesteps.tolist()):
        _, expected = scheduler.step(output[i : i + 1], t, noisy[i : i + 1])
        torch.testing.assert_close(got[i : i + 1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_epsilon_factor(prediction):
    process = NoiseProcess(DDPMScheduler(1000, prediction_type=prediction))
    images, noise = batch()
    timesteps = torch.tensor([0, 1, 100, 300, 500, 700, 900, 999])
    noisy, target = process.add_noise(images, noise, timesteps), process.target(images, noise, timesteps)
    wrong = target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    epsilon = convert_prediction(
        wrong.double(), noisy.double(), process.log_snr(timesteps), source=prediction, target="epsilon"
    )
    factor = process.epsilon_factor(timesteps)
    assert factor.dtype == torch.float64
    got = (factor.reshape(-1, 1, 1, 1) * (wrong - target).double() ** 2).flatten(1).mean(1)
    expected = ((noise - epsilon) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=1e-6)


def test_epsilon_factor_of_rectified_flow():
    process = NoiseProcess(RFlowScheduler(1000, use_discrete_timesteps=False))
    images, noise = (tensor.double() for tensor in batch())
    timesteps = torch.linspace(1, 999, 8)
    alpha, sigma = (factor.reshape(-1, 1, 1, 1) for factor in process.alpha_sigma(timesteps))
    noisy = process.add_noise(images, noise, timesteps)
    velocity = images - noise + 0.1
    # x = z + sigma v and z = alpha x + sigma epsilon give epsilon = z - alpha v.
    epsilon = noisy - alpha * velocity
    torch.testing.assert_close(alpha * (noisy + sigma * velocity) + sigma * epsilon, noisy)
    got = process.epsilon_factor(timesteps).reshape(-1, 1, 1, 1) * (velocity - (images - noise)) ** 2
    torch.testing.assert_close(got, (epsilon - noise) ** 2)


@pytest.mark.parametrize("limit", [6.0, 10.0])
def test_rate_against_the_derivative(limit):
    limits = {"log_snr_min": -limit, "log_snr_max": limit}
    process = NoiseProcess(DDPMScheduler(1000, schedule="cosine_log_snr", **limits))
    timesteps = torch.arange(20, 980)
    # MONAI's table samples the schedule at t = i / (T - 1), while a level of 1 / T is one timestep.
    expected = -cosine_log_snr_slope(timesteps.double() / 999, **limits) * 1000 / 999
    torch.testing.assert_close(process.log_snr_rate(timesteps), expected, rtol=0.01, atol=0)
    # The rate integrates to the range of the log-SNR; float32 tables hold a log-SNR of 10 to 0.2 %.
    integral = torch.trapezoid(process.log_snr_rate(torch.arange(1000)), dx=1 / 1000).item()
    assert integral == pytest.approx(2 * limit, rel=0.005)


@pytest.mark.parametrize("discrete", [True, False])
def test_rate_of_rectified_flow(discrete):
    process = NoiseProcess(RFlowScheduler(1000, use_discrete_timesteps=discrete))
    t = torch.linspace(20, 980, 49, dtype=torch.float64)
    expected = -(process.log_snr(t + 0.5) - process.log_snr(t - 0.5)) * 1000
    torch.testing.assert_close(process.log_snr_rate(t), expected, rtol=1e-3, atol=0)


def test_timesteps():
    levels = torch.tensor([0.0, 0.3, 0.55, 0.9999], dtype=torch.float64)
    assert NoiseProcess(DDPMScheduler(10)).timesteps(levels).tolist() == [0, 3, 5, 9]
    assert NoiseProcess(RFlowScheduler(10)).timesteps(levels).tolist() == [1, 3, 5, 9]
    continuous = NoiseProcess(RFlowScheduler(10, use_discrete_timesteps=False)).timesteps(levels)
    assert continuous.dtype == torch.float32
    torch.testing.assert_close(continuous, torch.tensor([0.01, 3.0, 5.5, 9.99]))
    assert NoiseProcess(DDPMScheduler(10)).timesteps(levels).dtype == torch.int64


def test_half_precision_leaves_scheduler_and_process_alone():
    scheduler = DDPMScheduler(1000, schedule="cosine_log_snr")
    process = NoiseProcess(scheduler)
    images, noise = batch()
    timesteps = torch.arange(8) * 100
    before, table = process.add_noise(images, noise, timesteps), scheduler.alphas_cumprod.clone()
    half = process.add_noise(images.half(), noise.half(), timesteps)
    assert half.dtype == torch.float16
    assert scheduler.alphas_cumprod.dtype == torch.float32
    assert torch.equal(scheduler.alphas_cumprod, table)
    # MONAI's own call spoils the table that the process was made from, but not the process.
    scheduler.add_noise(images.half(), noise.half(), timesteps)
    assert scheduler.alphas_cumprod.dtype == torch.float16
    assert torch.equal(process.add_noise(images, noise, timesteps), before)


def test_log_snr_is_that_of_the_factors():
    for scheduler in (DDPMScheduler(1000), RFlowScheduler(1000)):
        process = NoiseProcess(scheduler)
        timesteps = torch.arange(1, 1000, 37)
        alpha, sigma = process.alpha_sigma(timesteps)
        torch.testing.assert_close(2 * (alpha.log() - sigma.log()), process.log_snr(timesteps))


def test_prediction_types():
    assert NoiseProcess(DDPMScheduler(10)).prediction_type == "epsilon"
    assert NoiseProcess(PNDMScheduler(10, prediction_type="v_prediction")).prediction_type == "v_prediction"
    assert NoiseProcess(RFlowScheduler(10)).prediction_type == "v_prediction"


def test_refuses():
    with pytest.raises(TypeError, match="scheduler: expected a monai.networks.schedulers.Scheduler, got str"):
        NoiseProcess("ddpm")
    scheduler = DDPMScheduler(10)
    scheduler.prediction_type = "score"
    with pytest.raises(ValueError, match=r"expected prediction_type in \['epsilon', 'sample', 'v_pred.*got 'score'"):
        NoiseProcess(scheduler)


def test_a_flow_of_a_bundles_own_is_that_of_monai():
    """MAISI's bundle brings a scheduler of its own, with neither a table nor a prediction type."""

    class RFlow(Scheduler):
        def __init__(self):
            self.num_train_timesteps, self.use_discrete_timesteps = 1000, False

    ours, theirs = NoiseProcess.of(RFlow()), NoiseProcess.of(RFlowScheduler(use_discrete_timesteps=False))
    times = ours.timesteps(torch.tensor([0.0, 0.3, 0.9]))
    assert ours.prediction_type == theirs.prediction_type == "v_prediction"
    assert torch.equal(times, theirs.timesteps(torch.tensor([0.0, 0.3, 0.9])))
    assert torch.equal(ours.log_snr(times), theirs.log_snr(times))
