"""Sampling: with the exact denoiser of a Gaussian class the end of every path is known."""

from __future__ import annotations

import struct

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from monai_diffclf.classification.philox import ImageRandom
from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.sampling import sample_classes
from tests.closed_form import ExactDenoiser, Mixture

SHAPE = (1, 4, 4)
LIMITS = {"schedule": "cosine_log_snr", "log_snr_min": -8.0, "log_snr_max": 8.0}
SCHEDULERS = {
    "ddpm epsilon": lambda: DDPMScheduler(1000, prediction_type="epsilon", **LIMITS),
    "ddim sample": lambda: DDIMScheduler(1000, prediction_type="sample", **LIMITS),
    "ddpm v": lambda: DDPMScheduler(1000, prediction_type="v_prediction", **LIMITS),
    "rectified flow": lambda: RFlowScheduler(1000, use_discrete_timesteps=False),
}


def classes(*, std: float | None = None) -> list[Mixture]:
    """Two classes and the null class, each one Gaussian."""
    generator = torch.Generator().manual_seed(3)
    stds = [0.2 + 0.6 * torch.rand(1, *SHAPE, generator=generator) for _ in range(3)]
    if std is not None:
        stds = [torch.full((1, *SHAPE), std)] * 3
    return [Mixture(torch.randn(1, *SHAPE, generator=generator), each) for each in stds]


def start(count: int, seed: int = 0) -> torch.Tensor:
    random = ImageRandom([struct.pack("<q", index) for index in range(count)], seed, purpose=b"sampling")
    return random.normal(torch.arange(count), torch.zeros(count, dtype=torch.int64), SHAPE)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_paths_end_where_the_probability_flow_does(name, device):
    # dz follows the flow that keeps (z - alpha mu) / sqrt(alpha^2 s^2 + sigma^2) constant for a Gaussian class.
    scheduler, laws = SCHEDULERS[name](), classes()
    process = NoiseProcess(scheduler)
    labels = torch.tensor([0, 1, 1])
    network = ExactDenoiser(process, laws)
    error = {}
    for steps in (25, 200):
        images = sample_classes(network, scheduler, labels, SHAPE, num_classes=2, num_steps=steps, device=device).cpu()
        assert images.shape == (3, *SHAPE)
        level = process.timesteps(torch.tensor([1 - 0.5 / steps], dtype=torch.float64))
        alpha, sigma = process.alpha_sigma(level)
        mean, std = (torch.cat([getattr(laws[k], field) for k in labels]) for field in ("means", "stds"))
        constant = (start(3) - alpha * mean) / (alpha**2 * std**2 + sigma**2).sqrt()
        error[steps] = (images - (mean + std * constant)).abs().max().item()
    # Twice two evaluations of one image that tell whether the class is used.
    assert network.calls == [1, 1] + [3] * 25 + [1, 1] + [3] * 200
    # First-order steps: eight times as many, about an eighth of the error.
    assert error[200] < error[25] / 4
    assert error[200] < 0.05


@pytest.mark.parametrize("conditioning", ["class_labels", "crossattn"])
def test_classes_reach_the_network(conditioning):
    scheduler, laws = SCHEDULERS["ddpm v"](), classes(std=0.01)
    network = ExactDenoiser(NoiseProcess(scheduler), laws)
    images = sample_classes(
        network, scheduler, torch.tensor([1, 0]), SHAPE, num_classes=2, conditioning=conditioning, num_steps=50
    )
    for image, k in zip(images, (1, 0), strict=True):
        assert (image - laws[k].means[0]).abs().max() < 0.1


def test_guidance_extrapolates_from_the_null_class():
    # Of Gaussians with one covariance, guidance by w is exactly the class with the mean (1 + w) mu_k - w mu_null.
    scheduler, laws = SCHEDULERS["ddpm epsilon"](), classes(std=0.5)
    process, labels = NoiseProcess(scheduler), torch.tensor([0, 1])
    guided = sample_classes(
        ExactDenoiser(process, laws), scheduler, labels, SHAPE, num_classes=2, guidance=1.5, num_steps=10
    )
    shifted = [Mixture(2.5 * law.means - 1.5 * laws[2].means, law.stds) for law in laws[:2]]
    plain = sample_classes(ExactDenoiser(process, shifted), scheduler, labels, SHAPE, num_classes=2, num_steps=10)
    torch.testing.assert_close(guided, plain, rtol=1e-4, atol=1e-4)
    network = ExactDenoiser(process, laws)
    sample_classes(network, scheduler, labels, SHAPE, num_classes=2, num_steps=10)
    assert network.calls == [1, 1] + [2] * 10, "no guidance, no evaluation of the null class"


def test_images_start_from_noise_of_their_place():
    scheduler = SCHEDULERS["ddpm v"]()
    network = ExactDenoiser(NoiseProcess(scheduler), classes())

    def sample(labels, **kwargs):
        return sample_classes(network, scheduler, torch.tensor(labels), SHAPE, num_classes=2, num_steps=5, **kwargs)

    both, other = sample([0, 1]), sample([1, 1, 0])
    assert torch.equal(both[1], other[1])
    assert not torch.equal(both[0], other[0])
    assert torch.equal(both, sample([0, 1]))
    assert not torch.equal(both, sample([0, 1], seed=1))
    assert not torch.equal(other[0], other[1])


def test_global_random_state_is_left_alone():
    scheduler = SCHEDULERS["ddpm v"]()
    before = torch.get_rng_state()
    images = sample_classes(
        ExactDenoiser(NoiseProcess(scheduler), classes()),
        scheduler,
        torch.tensor([0]),
        SHAPE,
        num_classes=2,
        num_steps=2,
    )
    assert torch.equal(torch.get_rng_state(), before)
    images.requires_grad_().sum().backward()  # ordinary tensors, not those of inference mode


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_refuses_a_number_of_steps(steps):
    with pytest.raises(ValueError, match=f"num_steps: expected a positive integer, got {steps}"):
        sample_classes(torch.nn.Identity(), DDPMScheduler(10), torch.tensor([0]), SHAPE, num_classes=2, num_steps=steps)


def test_refuses_other_schedulers():
    with pytest.raises(TypeError, match="scheduler: expected a monai.networks.schedulers.Scheduler, got NoneType"):
        sample_classes(torch.nn.Identity(), None, torch.tensor([0]), SHAPE, num_classes=2)
