"""A process of another kind is one class: here that of Karras et al. (2022), with the network's own scalings."""

from __future__ import annotations

import torch

from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.sampling import sample_classes
from tests.closed_form import make_classes, make_images

DATA = 0.5


class EDMProcess(NoiseProcess):
    """z = x + sigma epsilon, called with log(sigma) / 4; F = (x - c_skip z) / c_out is predicted."""

    prediction_type, num_train_timesteps, discrete = "scaled", 1, False

    def timesteps(self, levels):
        return (0.25 * (8 * levels.double() - 4)).float()

    def sigma(self, timesteps):
        return (4 * timesteps.double()).exp()

    def log_snr(self, timesteps):
        return -8 * timesteps.double()

    def log_snr_rate(self, timesteps):
        return torch.full_like(timesteps, 16.0, dtype=torch.float64)

    def alpha_sigma(self, timesteps):
        return torch.ones_like(timesteps, dtype=torch.float64), self.sigma(timesteps)

    def at_log_snr(self, log_snr):
        t = -log_snr.double() / 8
        return (t.float(), *self.alpha_sigma(t))

    def mixture(self, alpha, sigma):
        skip, out = DATA**2 / (sigma**2 + DATA**2), sigma * DATA / (sigma**2 + DATA**2).sqrt()
        return (1 - skip) / out, -skip * sigma / out


class Exact(torch.nn.Module):
    """F of the exact denoiser of some classes."""

    def __init__(self, classes) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x, timesteps, class_labels):
        alpha, sigma = (f.reshape(-1, 1, 1, 1) for f in EDMProcess().alpha_sigma(timesteps))
        epsilon = torch.empty_like(x, dtype=torch.float64)
        for k, law in enumerate(self.classes):
            mine = class_labels == k
            epsilon[mine] = law.epsilon(x[mine].double(), alpha[mine], sigma[mine])
        skip, out = DATA**2 / (sigma**2 + DATA**2), sigma * DATA / (sigma**2 + DATA**2).sqrt()
        return ((x - sigma * epsilon - skip * x) / out).to(x)


def test_errors_are_those_of_epsilon_and_classes_are_found():
    classes = make_classes("gaussian")
    inferer = DiffusionClassifierInferer(EDMProcess(), num_draws=32, rule="mean")
    images = make_images(classes, 4)
    result = inferer.classify(images, Exact(classes).eval())
    assert torch.equal(result.predicted, torch.arange(2).repeat_interleave(4))
    process, levels = inferer.process, inferer.draws.levels
    noise = torch.stack([inferer.draws.noise(b"x", n, images.shape[1:]) for n in range(32)])
    t = process.timesteps(levels)
    noisy, label = process.add_noise(images[:1], noise, t), torch.zeros(32, dtype=torch.long)
    prediction = Exact(classes)(noisy, t, label)
    direct = (noise - process.to_epsilon(prediction, noisy, *process.alpha_sigma(t))).square()
    scaled = (process.target(images[:1], noise, t) - prediction).square() * process.epsilon_factor(t).float().reshape(
        -1, 1, 1, 1
    )
    torch.testing.assert_close(scaled, direct, rtol=1e-3, atol=1e-5)


def test_it_trains_and_samples():
    classes = make_classes("gaussian")
    prepare = DenoisingPrepareBatch(EDMProcess(), label_dropout=0.0)
    images = make_images(classes, 8)
    noisy, targets, _, arguments = prepare({"image": images, "label": torch.arange(2).repeat_interleave(8)})
    loss = DenoisingLoss(EDMProcess(), weighting="epsilon")
    exact = loss(Exact(classes)(noisy, **arguments), targets)
    wrong = loss(Exact(classes[::-1])(noisy, **arguments), targets)
    assert exact < wrong
    shape = images.shape[1:]
    drawn = sample_classes(
        Exact(classes).eval(), EDMProcess(), torch.tensor([0, 1]).repeat(8), shape, num_classes=2, num_steps=40
    )
    for k in range(2):
        nearest = [(drawn[k::2] - law.means[0]).square().flatten(1).mean(1) for law in classes]
        assert bool((nearest[k] < nearest[1 - k]).all())
