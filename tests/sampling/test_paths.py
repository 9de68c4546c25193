"""Editing: for Gaussian classes every path is known, and MONAI's schedulers are a second opinion on a step."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from monai_diffclf.networks import Denoiser
from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.sampling import ancestral_step, denoise, edit_timesteps, invert
from tests.closed_form import ExactDenoiser, Mixture

SHAPE = (1, 4, 4)
LIMITS = {"schedule": "cosine_log_snr", "log_snr_min": -10.0, "log_snr_max": 10.0}
SCHEDULERS = {
    "ddpm epsilon": lambda: DDPMScheduler(1000, prediction_type="epsilon", **LIMITS),
    "ddim sample": lambda: DDIMScheduler(1000, prediction_type="sample", **LIMITS),
    "ddpm v": lambda: DDPMScheduler(1000, prediction_type="v_prediction", **LIMITS),
    "rectified flow": lambda: RFlowScheduler(1000, use_discrete_timesteps=False),
}


def gaussians(std: float = 0.5, count: int = 2) -> list[Mixture]:
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(count, *SHAPE, generator=generator)
    return [Mixture(mean[None], torch.full((1, *SHAPE), std)) for mean in means]


def exact(name: str, laws: list[Mixture], **settings) -> Denoiser:
    process = NoiseProcess(SCHEDULERS[name]())
    return Denoiser(ExactDenoiser(process, laws), process, len(laws), **settings)


def images(law: Mixture, count: int = 3) -> torch.Tensor:
    return law.sample(count, torch.Generator().manual_seed(0))


def shares(process: NoiseProcess, timesteps: torch.Tensor, std: float) -> float:
    """C with x_hat - mu = C (z - alpha mu) after all DDIM steps: for a Gaussian class each one is a factor."""
    alpha, sigma = process.alpha_sigma(timesteps)
    spread = alpha**2 * std**2 + sigma**2
    steps = (alpha[:-1] * alpha[1:] * std**2 + sigma[:-1] * sigma[1:]) / spread[:-1]
    return float(steps.prod() * alpha[-1] * std**2 / spread[-1])


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("start", [0.4, 1.0])
def test_inversion_leads_back_to_the_image(name, start):
    laws, label = gaussians(), torch.zeros(3, dtype=torch.long)
    denoiser, x = exact(name, laws), images(laws[0])
    timesteps = edit_timesteps(denoiser.process, start, 20)
    error = {}
    for corrections in (1, 3):
        path = invert(denoiser, x, timesteps, label, corrections=corrections)
        assert len(path) == len(timesteps)
        back = denoise(denoiser, path[0], timesteps, label)
        error[corrections] = (back - x).abs().max().item()
    assert error[3] < 0.03
    assert error[3] < error[1] / 2, "corrections bring it closer"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_inversion_and_the_other_class_is_the_optimal_map(name):
    # Between Gaussians of one covariance the optimal transport is the shift of the means.
    laws, label = gaussians(), torch.zeros(3, dtype=torch.long)
    denoiser, x = exact(name, laws), images(laws[0])
    timesteps = edit_timesteps(denoiser.process, 1.0, 50)
    path = invert(denoiser, x, timesteps, label, corrections=4)
    edited = denoise(denoiser, path[0], timesteps, label + 1)
    torch.testing.assert_close(edited, (x + laws[1].means - laws[0].means).double(), rtol=0, atol=0.03)


@pytest.mark.parametrize("start", [0.3, 0.6])
def test_a_partial_edit_goes_the_known_part_of_the_way(start):
    laws, label, std = gaussians(), torch.zeros(3, dtype=torch.long), 0.5
    denoiser, x = exact("ddpm v", laws), images(laws[0])
    timesteps = edit_timesteps(denoiser.process, start, 60)
    path = invert(denoiser, x, timesteps, label, corrections=4)
    edited = denoise(denoiser, path[0], timesteps, label + 1)
    alpha, sigma = (float(factor) for factor in denoiser.process.alpha_sigma(timesteps[:1]))
    gap = laws[1].means - laws[0].means
    discrete = 1 - shares(denoiser.process, timesteps, std) * alpha
    continuous = 1 - alpha * std / (alpha**2 * std**2 + sigma**2) ** 0.5
    assert abs(discrete - continuous) < 0.01
    torch.testing.assert_close(edited, x + discrete * gap, rtol=0, atol=1e-3)


def test_guidance_away_from_the_own_class_goes_further_along_the_same_line():
    laws, label = gaussians(), torch.zeros(3, dtype=torch.long)
    denoiser, x = exact("ddpm epsilon", laws), images(laws[0])
    timesteps = edit_timesteps(denoiser.process, 0.5, 30)
    path = invert(denoiser, x, timesteps, label, corrections=4)
    plain = denoise(denoiser, path[0], timesteps, label + 1)
    guided = denoise(denoiser, path[0], timesteps, label + 1, away=label, guidance=1.5)
    torch.testing.assert_close(guided - x, 2.5 * (plain - x), rtol=0, atol=1e-2)
    calls = len(denoiser.network.calls)
    own = denoise(denoiser, path[0], timesteps, label, away=label, guidance=1.5)
    torch.testing.assert_close(own, x.double(), rtol=0, atol=1e-3)
    assert len(denoiser.network.calls) - calls == len(timesteps), "the same class twice: evaluated once"


def test_ancestral_steps_draw_from_the_class():
    law = Mixture(torch.full((1, 1, 2, 2), 0.3), torch.tensor([[[[0.2, 0.5], [0.8, 1.1]]]]))
    denoiser, generator = exact("ddpm v", [law]), torch.Generator().manual_seed(1)
    timesteps, shape = edit_timesteps(denoiser.process, 1.0, 250), (6000, 1, 2, 2)
    start = torch.randn(shape, generator=generator)
    drawn = denoise(
        Denoiser(denoiser.network, denoiser.process, 1, batch_size=6000),
        start,
        timesteps,
        torch.zeros(6000, dtype=torch.long),
        noise=lambda step: torch.randn(shape, generator=generator).double(),
    )
    # Standard errors are up to 0.014 (mean) and 0.010 (spread); finite steps draw too little, here by up to 3 %.
    torch.testing.assert_close(drawn.mean(0, keepdim=True), law.means, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(0, keepdim=True), law.stds, rtol=0.05, atol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_steps_agree_with_monai(prediction_type):
    generator = torch.Generator().manual_seed(2)
    z, prediction = (torch.randn(2, *SHAPE, generator=generator) for _ in range(2))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(7))
    settings = {"schedule": "linear_beta", "prediction_type": prediction_type, "clip_sample": False}
    ddpm = DDPMScheduler(50, **settings)
    process, now = NoiseProcess(ddpm), torch.tensor(20)
    clean = process.predict_sample(prediction, z, now.expand(2))
    theirs, _ = ddpm.step(prediction, 20, z, generator=torch.Generator().manual_seed(7))
    ours = ancestral_step(process, z, clean, now, now - 1, noise)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    ddim = DDIMScheduler(50, **settings)
    ddim.set_timesteps(10)
    theirs, _ = ddim.step(prediction, 20, z, eta=0.0)
    torch.testing.assert_close(ancestral_step(process, z, clean, now, now - 5), theirs, rtol=1e-4, atol=1e-5)


def test_each_level_is_evaluated_once_and_told_truly():
    seen: list[float] = []

    class Recorder(ExactDenoiser):
        def forward(self, x, timesteps, **condition):
            seen.append(float(timesteps[0]))
            return super().forward(x, timesteps, **condition)

    process = NoiseProcess(SCHEDULERS["ddpm v"]())
    denoiser = Denoiser(Recorder(process, gaussians()), process)
    timesteps = edit_timesteps(process, 0.5, 8)
    denoise(denoiser, torch.zeros(2, *SHAPE), timesteps, torch.zeros(2, dtype=torch.long))
    assert seen == timesteps.tolist()


def test_outside_the_mask_the_network_sees_the_known_image():
    seen: list[torch.Tensor] = []

    class Recorder(ExactDenoiser):
        def forward(self, x, timesteps, **condition):
            seen.append(x)
            return super().forward(x, timesteps, **condition)

    process = NoiseProcess(SCHEDULERS["ddpm v"]())
    denoiser = Denoiser(Recorder(process, gaussians()), process)
    timesteps, mask = edit_timesteps(process, 0.5, 6), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    path = [torch.full((1, *SHAPE), float(step)) for step in range(6)]
    denoise(denoiser, path[0], timesteps, torch.tensor([0]), mask=mask, known=path.__getitem__)
    for step in range(1, 6):
        assert bool((seen[step][..., 2:] == step).all())
        assert not bool((seen[step][..., :2] == step).any())
    with pytest.raises(ValueError, match="known: expected a function with the mask, got None"):
        denoise(denoiser, path[0], timesteps, torch.tensor([0]), mask=mask)


def test_packing_does_not_change_a_result():
    laws, label = gaussians(count=3), torch.tensor([0, 1, 0, 1, 0])
    x, results = images(laws[0], 5), []
    for size in (2, 256):
        denoiser = exact("ddpm v", laws, batch_size=size)
        timesteps = edit_timesteps(denoiser.process, 0.5, 5)
        path = invert(denoiser, x, timesteps, label)
        results.append(denoise(denoiser, path[0], timesteps, label, away=torch.full_like(label, 2), guidance=1.0))
        assert max(denoiser.network.calls) == min(size, 5)
    torch.testing.assert_close(*results)


def test_levels_of_a_short_schedule_are_taken_once():
    process = NoiseProcess(DDPMScheduler(8, schedule="cosine"))
    assert edit_timesteps(process, 1.0, 20).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    flow = edit_timesteps(NoiseProcess(SCHEDULERS["rectified flow"]()), 1.0, 4)
    assert flow.is_floating_point()
    assert bool((flow.diff() < 0).all())
    assert flow.min() > 0
    assert flow.max() < 1000


@pytest.mark.parametrize("start", [0, -0.1, 1.1, True, None])
def test_refuses_a_start(start):
    with pytest.raises(ValueError, match=f"start: expected a number above 0 and up to 1, .* got {start}"):
        edit_timesteps(NoiseProcess(DDPMScheduler(10)), start, 5)


@pytest.mark.parametrize("steps", [1, 0, 2.5])
def test_refuses_a_number_of_steps(steps):
    with pytest.raises(ValueError, match=f"num_steps: expected an integer of at least 2, got {steps}"):
        edit_timesteps(NoiseProcess(DDPMScheduler(10)), 0.5, steps)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x, timesteps, class_labels: x[:, :, :2], r"prediction of the input's shape \[2, 1, 4, 4\], got \[2, 1"),
        (lambda x, timesteps, class_labels: x / 0, "expected finite predictions, got NaN or infinity at timestep 5"),
    ],
)
def test_refuses_predictions(network, message):
    denoiser = Denoiser(network, DDPMScheduler(10))
    with pytest.raises(ValueError, match=message):
        denoiser.clean(torch.zeros(2, *SHAPE), torch.tensor(5), torch.tensor([0, 1]))
