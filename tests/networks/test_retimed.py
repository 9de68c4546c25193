"""A network of one process called with another: the exact denoiser of the one becomes that of the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from monai_diffclf.classification import classify_errors
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import RetimedNetwork
from monai_diffclf.networks.schedulers import (
    VESDE,
    VPSDE,
    NoiseProcess,
    RectifiedFlowProcess,
    SchedulerSDE,
    SDEProcess,
    SubVPSDE,
)
from tests.closed_form import ExactDenoiser, make_classes, make_images
from tests.tiny_unet import tiny_unet

WIDE = {"schedule": "cosine_log_snr", "log_snr_min": -12.0, "log_snr_max": 12.0}
SCHEDULERS = {
    "DDPM, epsilon": lambda: DDPMScheduler(1000, prediction_type="epsilon", **WIDE),
    "DDPM, sample": lambda: DDPMScheduler(1000, prediction_type="sample", **WIDE),
    "DDIM, v": lambda: DDIMScheduler(1000, prediction_type="v_prediction", **WIDE),
    "RFlow": lambda: RFlowScheduler(1000, use_discrete_timesteps=False),
}
SDES = {
    "VP": lambda: VPSDE(),
    "sub-VP": lambda: SubVPSDE(),
    "VE": lambda: VESDE(),
    "scheduler": lambda: SchedulerSDE(DDPMScheduler(1000)),
}
PREDICTIONS = ("score", "epsilon")


class Fractional:
    """A scheduler's process between its timesteps: there the log-SNR is linear, which is what a fraction means."""

    def __init__(self, scheduler) -> None:
        self.process = NoiseProcess(scheduler)
        self.prediction_type = self.process.prediction_type
        self.rectified_flow = isinstance(self.process, RectifiedFlowProcess)

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.rectified_flow:
            return self.process.alpha_sigma(timesteps)
        steps = self.process.num_train_timesteps
        table = self.process.log_snr(torch.arange(steps)).numpy()
        level = torch.from_numpy(np.interp(timesteps.double().numpy(), np.arange(steps), table))
        return level.sigmoid().sqrt(), (-level).sigmoid().sqrt()


def noisy_images(process: NoiseProcess, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of both classes, float64, noised at some times, and a label each, right or wrong."""
    images = make_images(make_classes("mixture"), len(timesteps) // 2, seed=3).double()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return process.add_noise(images, noise, timesteps), torch.arange(len(timesteps)) % 2


# Times are float32 where a network is called, 6e-8 of t or of timestep 1000; at t = 0.01 lambda moves by 2 per unit of
# log t, and between two timesteps of the schedules here by less than 1 per timestep, so by 6e-5: epsilon, which moves
# by at most its own size per unit of lambda, agrees to 2e-4 of it, and so does everything proportional to it.
CLOSE = {"rtol": 5e-4, "atol": 5e-4}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("trained", SCHEDULERS)
def test_a_schedulers_network_as_a_score_model(trained, name, prediction, device):
    classes, scheduler = make_classes("mixture"), SCHEDULERS[trained]()
    process = SDEProcess(SDES[name](), prediction)
    timesteps = torch.tensor([0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    x, labels = noisy_images(process, timesteps)
    network = RetimedNetwork(ExactDenoiser(Fractional(scheduler), classes), scheduler, process)
    got = network(x.to(device), timesteps=timesteps.to(device), class_labels=labels.to(device))
    expected = ExactDenoiser(process, classes)(x, timesteps, class_labels=labels)
    assert got.dtype == torch.float64
    assert got.device.type == device
    # The score at unit noise, else the smallest sigma would rule.
    factor = process.epsilon_factor(timesteps).sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(factor * got.cpu(), factor * expected, **CLOSE)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("called", SCHEDULERS)
def test_a_score_network_drives_a_scheduler(called, name, prediction, device):
    classes, scheduler = make_classes("mixture"), SCHEDULERS[called]()
    trained, process = SDEProcess(SDES[name](), prediction), NoiseProcess(scheduler)
    timesteps = torch.tensor([150, 200, 300, 400, 500, 600, 700, 750])
    # Log-SNRs that all SDEs reach: -7.8 to 9.2 those of VE.
    assert (process.log_snr(timesteps).abs() < 7.8).all()
    x, labels = noisy_images(process, timesteps)
    network = RetimedNetwork(ExactDenoiser(trained, classes), trained, scheduler)
    got = network(x.to(device), timesteps=timesteps.to(device), class_labels=labels.to(device))
    expected = ExactDenoiser(process, classes)(x, timesteps, class_labels=labels)
    factor = process.epsilon_factor(timesteps).sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(factor * got.cpu(), factor * expected, **CLOSE)


def test_there_and_back_is_the_network():
    """Retimed to an SDE and back: the same prediction, by a real U-Net with its embedding of fractional timesteps."""
    scheduler = DDPMScheduler(1000, prediction_type="v_prediction", **WIDE)
    network, process = tiny_unet(), SDEProcess(SubVPSDE(t_min=1e-3))
    twice = RetimedNetwork(RetimedNetwork(network, scheduler, process), process, scheduler)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps, labels = torch.tensor([100, 300, 500, 700]), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        expected = network(x, timesteps=timesteps, class_labels=labels)
        got = twice(x, timesteps=timesteps, class_labels=labels)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_beyond_the_networks_schedule_it_sees_its_end():
    """A network trained with log-SNRs from -3 to 3, called at 13 and -10: the timesteps it knows, and no others."""
    narrow = {"schedule": "cosine_log_snr", "log_snr_min": -3.0, "log_snr_max": 3.0}
    scheduler, seen = DDPMScheduler(100, **narrow), []

    class Spy(torch.nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            seen.append((x, timesteps))
            return x

    network = RetimedNetwork(Spy(), scheduler, SDEProcess(VPSDE(), "epsilon"))
    x = torch.ones(2, 1, 2, 2)
    network(x, timesteps=torch.tensor([1e-5, 1.0]))
    assert seen[0][1].tolist() == [0.0, 99.0]
    own, alpha = (
        NoiseProcess(scheduler).alpha_sigma(torch.tensor([0, 99]))[0],
        VPSDE().alpha_sigma(torch.tensor([1e-5, 1.0]))[0],
    )
    torch.testing.assert_close(seen[0][0][:, 0, 0, 0].double(), own / alpha, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SDES)
def test_classification_agrees(name, device):
    """The denoising classifier of the wrapped network, at the SDE's times, is that of the exact SDE denoiser."""
    classes, scheduler = make_classes("mixture"), SCHEDULERS["DDIM, v"]()
    images = make_images(classes, 8).to(device)
    process = SDEProcess(SDES[name](), "score", time_sampling="log_snr")
    inferer = DiffusionClassifierInferer(process, num_draws=33, rule="mean", weighting="elbo")
    expected = inferer.classify(images, ExactDenoiser(process, classes))
    network = RetimedNetwork(ExactDenoiser(Fractional(scheduler), classes), scheduler, process).eval()
    got = inferer.classify(images, network)
    # Log-SNRs above 12 are beyond the scheduler's, where both classes' errors are 1 to 1e-5.
    known = expected.errors.log_snr < 12
    assert known.float().mean() > 0.6
    # float32 pixels, divided by the smallest sigma, 2e-3 at a log-SNR of 12.
    torch.testing.assert_close(
        got.errors.values[:, :, known], expected.errors.values[:, :, known], rtol=2e-3, atol=1e-4
    )
    ours, theirs = (
        classify_errors(result.errors.select(known.nonzero().flatten()), "mean", weighting="elbo")
        for result in (got, expected)
    )
    torch.testing.assert_close(ours.probabilities, theirs.probabilities, rtol=0, atol=5e-3)
    assert len(theirs.predicted.unique()) == 2
    assert torch.equal(ours.predicted, theirs.predicted)


def test_keywords_and_parameters_pass_through():
    network = tiny_unet("crossattn")
    retimed = RetimedNetwork(network, DDPMScheduler(1000), SDEProcess(VPSDE()))
    assert dict(retimed.named_parameters()).keys() == {f"network.{name}" for name, _ in network.named_parameters()}
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.6])
    context = torch.nn.functional.one_hot(torch.tensor([[0], [1]]), 3).float()
    with torch.no_grad():
        one, other = (retimed(x, timesteps=t, context=c) for c in (context, context.flip(0)))
    assert (one - other).abs().max() > 1e-3


def test_refuses():
    with pytest.raises(TypeError, match="scheduler: expected a monai.networks.schedulers.Scheduler, got VPSDE"):
        RetimedNetwork(tiny_unet(), DDPMScheduler(10), VPSDE())
