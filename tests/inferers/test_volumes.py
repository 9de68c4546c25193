"""Volumes: the exact posterior in 3D, every kind of 3D network, windows and slices in the place of the whole."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from monai_diffclf.classification import image_keys
from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer
from monai_diffclf.networks.nets import DiT, ScoreUNet, SliceNetwork, SlidingWindowNetwork, WaveletNetwork
from monai_diffclf.networks.schedulers import VESDE, VPSDE
from tests.closed_form import ExactDenoiser, make_classes, make_images, posterior
from tests.tiny_unet import tiny_unet

WIDE = {"schedule": "cosine_log_snr", "log_snr_min": -15.0, "log_snr_max": 15.0}
SHAPE = (1, 4, 2, 3)


def randomised(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1, generator=generator)
    return network.eval()


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(1000, prediction_type="v_prediction", schedule="cosine_log_snr")


def volumes(count: int, *size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["gaussian", "mixture", "three"])
def test_mean_rule_reaches_the_posterior_of_volumes(kind, device):
    """As test_gaussian_posterior does of planes: within 4.5 standard errors of the exact log-ratios."""
    classes = make_classes(kind, SHAPE)
    images = make_images(classes, 48 // len(classes))
    exact = posterior(classes, images)
    inferer = DiffusionClassifierInferer(
        DDPMScheduler(4000, **WIDE), len(classes), num_draws=1024, rule="mean", weighting="elbo", batch_size=4096
    )
    errors = inferer.compute_errors(images.to(device), ExactDenoiser(inferer.process, classes)).to("cpu")
    scores = -0.5 * errors.num_elements * errors.values.double() * errors.log_snr_rate.double()
    ratios = scores[:, 1:] - scores[:, :1]
    standard_error = ratios.std(2) / errors.num_draws**0.5
    assert standard_error.max() < 0.6, "the test is sharp only if the estimate is"
    truth = (exact[:, 1:] / exact[:, :1]).log()
    assert ((ratios.mean(2) - truth).abs() < 4.5 * standard_error + 0.02).all()


@pytest.mark.parametrize("sde", [VPSDE(), VESDE()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_likelihood_of_volumes_is_their_density(kind, sde, device):
    """In nats a voxel; what is left is named in test_score_gaussian, and larger for VE by what sigma_min widens."""
    tolerance = 1e-3 if isinstance(sde, VESDE) else 5e-4
    classes = make_classes(kind, SHAPE)
    images = make_images(classes, 3).double()
    inferer = ScoreClassifierInferer(
        sde, len(classes), exact_divergence=True, solver="rk4", num_steps=32, batch_size=4096
    )
    result = inferer.classify(images.to(device), ExactDenoiser(inferer.process, classes))
    density = torch.stack([law.log_density(images) for law in classes], 1)
    torch.testing.assert_close(result.log_likelihood.cpu() / 24, density / 24, rtol=0, atol=tolerance)
    torch.testing.assert_close(result.probabilities.cpu(), posterior(classes, images), rtol=0, atol=5e-3)


def dit() -> nn.Module:
    return DiT(3, 1, input_size=8, patch_size=2, hidden_size=24, num_layers=1, num_heads=2, num_class_embeds=3)


NETWORKS = {
    "U-Net": lambda: tiny_unet(dims=3),
    "wavelet U-Net": lambda: tiny_unet(dims=3, wavelet=True),
    "DiT": lambda: randomised(dit()),
    "DiT in wavelet space": lambda: randomised(
        WaveletNetwork(
            DiT(3, 8, input_size=4, patch_size=2, hidden_size=24, num_layers=1, num_heads=2, num_class_embeds=3),
            spatial_dims=3,
        )
    ),
    "slices": lambda: SliceNetwork(tiny_unet()),
    "windows": lambda: SlidingWindowNetwork(tiny_unet(dims=3), 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_classifies_volumes_with_maps_that_add_up(name, device):
    network, images = NETWORKS[name]().to(device), volumes(2, 8, 8, 8).to(device)
    inferer = DiffusionClassifierInferer(
        scheduler(), 2, num_draws=5, rule="mean", map_weighting="uniform", map_smoothing=0
    )
    result = inferer.classify(images, network, error_maps=True)
    assert result.error_maps.shape == (2, 2, 8, 8, 8)
    assert (result.mean_error[:, 0] - result.mean_error[:, 1]).abs().min() > 0, "the class must matter"
    torch.testing.assert_close(result.error_maps.double().flatten(2).mean(2), result.mean_error, rtol=1e-5, atol=0)
    alone = inferer.classify(images[1:], network)
    torch.testing.assert_close(alone.mean_error, result.mean_error[1:], rtol=1e-5, atol=0)


def test_score_unet_gives_likelihoods_of_volumes(device):
    network = ScoreUNet(VPSDE(), 3, 1).to(device).eval()
    inferer = ScoreClassifierInferer(VPSDE(), 2, num_steps=2)
    result = inferer.classify(volumes(2, 8, 8, 8).to(device), network)
    assert result.log_likelihood.shape == (2, 2)
    assert result.log_likelihood.isfinite().all()


class Local(nn.Module):
    """Sees one voxel around."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.convolution = nn.Conv3d(1, 2, 3, padding=1)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.3, generator=generator)
        self.eval()

    def forward(self, x, timesteps, context=None, class_labels=None):
        return self.convolution(x).gather(1, class_labels.view(-1, 1, 1, 1, 1).expand_as(x))


def test_windows_have_the_draws_errors_votes_and_maps_of_the_whole(device):
    """Noise and keys are those of the volume, so that everything agrees, to 1e-5, where the network is local."""
    network, images = Local().to(device), volumes(3, 12, 10, 9).to(device)
    windows = SlidingWindowNetwork(network, 6, margin=1, sw_batch_size=5)
    inferer = DiffusionClassifierInferer(scheduler(), 2, num_draws=7)
    whole, by_windows = (inferer.classify(images, each, error_maps=True) for each in (network, windows))
    torch.testing.assert_close(by_windows.errors.values, whole.errors.values, rtol=1e-5, atol=1e-5)
    assert torch.equal(by_windows.vote_share, whole.vote_share)
    torch.testing.assert_close(by_windows.error_maps, whole.error_maps, rtol=1e-5, atol=1e-5)
    scores = ScoreClassifierInferer(VPSDE(), 2, num_steps=2)
    likelihoods = [scores.log_likelihood(images, each) for each in (network, windows)]
    torch.testing.assert_close(likelihoods[1], likelihoods[0], rtol=1e-5, atol=1e-4)


def test_slices_share_one_vote_a_draw():
    """The error of a draw is the mean of its slices' errors with the noise of the volume, not a vote of each."""
    plane, images = tiny_unet(), volumes(1, 4, 4, 6)
    inferer = DiffusionClassifierInferer(scheduler(), 2, num_draws=5)
    result = inferer.classify(images, SliceNetwork(plane))
    assert result.errors.values.shape == (1, 2, 5)
    process, draws = inferer.process, inferer.draws
    for n in range(5):
        noise = draws.noise(image_keys(images)[0], n, (1, 4, 4, 6))[None]
        at = process.timesteps(draws.levels)[n : n + 1]
        noisy, target = process.add_noise(images, noise, at), process.target(images, noise, at)
        for k in range(2):
            each = []
            for z in range(6):
                with torch.no_grad():
                    predicted = plane(x=noisy[..., z], timesteps=at, class_labels=torch.tensor([k]))
                each.append((predicted - target[..., z]).square().mean() * float(process.epsilon_factor(at)))
            torch.testing.assert_close(result.errors.values[0, k, n], torch.stack(each).mean(), rtol=1e-4, atol=1e-5)
