"""Noise of diffusers' schedulers: their own tables, noisy images and velocities are the oracle."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.pipelines import monai_scheduler

diffusers = pytest.importorskip("diffusers", reason="the extra diffusers is not installed")

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CASES = [
    ("DDPMScheduler", SD),
    ("DDIMScheduler", {**SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
    ("DDPMScheduler", {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100}),
    ("PNDMScheduler", {**SD, "skip_prk_steps": True, "steps_offset": 1}),
    ("EulerDiscreteScheduler", {**SD, "prediction_type": "v_prediction"}),
    ("DPMSolverMultistepScheduler", SD),
    ("DDPMScheduler", {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4}),
]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, 4, 4, generator=generator), torch.randn(6, 4, 4, 4, generator=generator)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_tables_are_taken_number_by_number(name, settings):
    other = getattr(diffusers, name)(**settings)
    made = monai_scheduler(other)
    assert torch.equal(made.alphas_cumprod, other.alphas_cumprod)
    assert made.prediction_type == settings.get("prediction_type", "epsilon")
    assert made.num_train_timesteps == settings.get("num_train_timesteps", 1000)
    torch.testing.assert_close(made.betas, other.betas, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings"), [case for case in CASES if case[0] in ("DDPMScheduler", "DDIMScheduler")]
)
def test_noisy_images_and_velocities_are_those_of_diffusers(name, settings):
    other = getattr(diffusers, name)(**settings)
    process = NoiseProcess.of(monai_scheduler(other))
    images, noise = batch()
    last = other.config.num_train_timesteps - 1
    timesteps = torch.linspace(0, last, 6).long()
    torch.testing.assert_close(
        process.add_noise(images, noise, timesteps), other.add_noise(images, noise, timesteps), rtol=1e-5, atol=1e-5
    )
    velocity = {"epsilon": noise, "sample": images}.get(
        process.prediction_type, other.get_velocity(images, noise, timesteps)
    )
    torch.testing.assert_close(process.target(images, noise, timesteps), velocity, rtol=1e-5, atol=1e-5)


def test_monais_own_schedule_is_the_same():
    ours = monai_scheduler(diffusers.DDPMScheduler(**SD))
    monais = DDPMScheduler(1000, schedule="scaled_linear_beta", beta_start=0.00085, beta_end=0.012)
    torch.testing.assert_close(ours.alphas_cumprod, monais.alphas_cumprod)
    torch.testing.assert_close(ours.betas, monais.betas, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_that_of_diffusers_at_its_own_timesteps(shift):
    other = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    made = monai_scheduler(other)
    assert isinstance(made, RFlowScheduler)
    process = NoiseProcess.of(made)
    images, noise = batch()
    timesteps = other.timesteps[torch.tensor([5, 100, 400, 700, 900, 990])]
    noisy = other.scale_noise(images, timesteps, noise)
    torch.testing.assert_close(process.add_noise(images, noise, timesteps), noisy, rtol=1e-5, atol=1e-5)
    target = process.target(images, noise, timesteps)
    torch.testing.assert_close(target, images - noise)
    # One exact Euler step of diffusers with the velocity that it expects, epsilon - x, leads on along the path.
    other.set_timesteps(sigmas=[0.6, 0.3])
    start = process.add_noise(images, noise, other.timesteps[:1].expand(6))
    stepped = other.step(-target, other.timesteps[0], start).prev_sample
    torch.testing.assert_close(
        stepped, process.add_noise(images, noise, other.timesteps[1:2].expand(6)), rtol=1e-4, atol=1e-4
    )


def test_other_families_are_refused():
    with pytest.raises(ValueError, match="scheduler: expected one of diffusers with alphas_cumprod, or of flow"):
        monai_scheduler(diffusers.EDMEulerScheduler())
    odd = diffusers.DDPMScheduler(prediction_type="epsilon")
    odd.register_to_config(prediction_type="flow_prediction")
    with pytest.raises(ValueError, match="scheduler: expected prediction_type in"):
        monai_scheduler(odd)
