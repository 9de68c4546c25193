"""The score network: what it starts as, what it depends on, and what it must not depend on."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks.nets import ScoreUNet
from monai_diffclf.networks.schedulers import VESDE, VPSDE, SchedulerSDE, SubVPSDE

SMALL = {"channels": (8, 16, 16), "embedding_channels": 16, "norm_num_groups": 4}
SDES = {
    "VP": lambda: VPSDE(),
    "sub-VP": lambda: SubVPSDE(),
    "VE": lambda: VESDE(),
    "scheduler": lambda: SchedulerSDE(DDPMScheduler(1000)),
}


def small(sde=None, dims: int = 2, channels: int = 1, *, trained: bool = True, **settings) -> ScoreUNet:
    """A small network in eval mode; if trained, with random weights where it starts at zero."""
    torch.manual_seed(0)
    network = ScoreUNet(sde or VPSDE(), dims, channels, **{**SMALL, **settings})
    if trained:
        torch.nn.init.normal_(network.out.weight, std=0.3)
        torch.nn.init.normal_(network.out.bias, std=0.3)
    return network.eval()


def batch(*shape: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, times over all the range, and labels."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return x.to(device), torch.linspace(0.01, 1, len(x)).to(device), (torch.arange(len(x)) % 2).to(device)


@torch.no_grad()
def run(network: ScoreUNet, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return network(x, timesteps=t, class_labels=labels)


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize(
    "shape", [(4, 1, 8, 8), (4, 3, 9, 7), (4, 1, 1, 5), (4, 2, 13, 4), (2, 1, 5, 6, 7), (2, 3, 4, 4, 4)], ids=str
)
def test_any_size(shape, name, device):
    network = small(SDES[name](), len(shape) - 2, shape[1]).to(device)
    x, t, labels = batch(*shape, device=device)
    score = run(network, x, t, labels)
    assert score.shape == x.shape
    assert score.dtype == x.dtype
    assert torch.isfinite(score).all()
    assert (score - run(network, x, t, 1 - labels)).flatten(1).abs().amax(1).min() > 1e-4, (
        "the class reaches every image"
    )
    assert (score - run(network, x, t.flip(0), labels)).abs().max() > 1e-3, "so does the time"


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_starts_as_the_score_of_a_standard_normal(name, num_classes, device):
    """Images N(0, 1) have the marginal N(0, alpha^2 + sigma^2), whose score is -x / (alpha^2 + sigma^2)."""
    sde = SDES[name]()
    network = small(sde, num_classes=num_classes, trained=False).to(device)
    x, t, _ = batch(num_classes + 1, 1, 9, 8, device=device)
    labels = torch.arange(num_classes + 1, device=device)  # the null class too
    alpha, sigma = (factor.reshape(-1, 1, 1, 1) for factor in sde.alpha_sigma(t))
    expected = -x.double() / (alpha.square() + sigma.square())
    torch.testing.assert_close(run(network, x, t, labels).double(), expected, rtol=1e-5, atol=1e-6)


def test_starts_with_the_likelihood_of_a_standard_normal(device):
    """Untrained it is the exact score of N(0, 1) at every time, so the likelihood is that density."""
    network = small(trained=False).to(device)
    x = torch.randn(2, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Normal(0, 1).log_prob(x.double()).flatten(1).sum(1)[:, None].expand(2, 2)
    # The prior of the SDE is right for it; the terminal correction is so to first order in alpha = 0.0066.
    for terminal, allowed in (("prior", 1e-4), ("corrected", 30 * 0.0066**2 * 2)):
        inferer = ScoreClassifierInferer(VPSDE(), solver="rk4", num_steps=4, terminal=terminal)
        got = inferer.log_likelihood(x.to(device), network).cpu()
        torch.testing.assert_close(got, expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("shape", [(5, 1, 9, 7), (4, 2, 5, 6, 3)], ids=str)
def test_an_image_does_not_depend_on_its_batch(shape, device):
    """Group normalisation, unlike batch normalisation, and padding belong to one image."""
    network = small(dims=len(shape) - 2, channels=shape[1]).to(device)
    x, t, labels = batch(*shape, device=device)
    together = run(network, x, t, labels)
    for i in range(shape[0]):
        one = slice(i, i + 1)
        torch.testing.assert_close(run(network, x[one], t[one], labels[one]), together[one], rtol=1e-4, atol=1e-5)
    company = torch.cat([x[:1], 100 * x[1:]])
    torch.testing.assert_close(run(network, company, t, labels)[:1], together[:1], rtol=1e-4, atol=1e-5)


def test_padding_is_the_same_as_zeros_around_an_image():
    """Only what belongs to the image is returned: the crop of what the padded image gives."""
    network = small()
    x, t, labels = batch(2, 1, 9, 7)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 3))
    torch.testing.assert_close(run(network, padded, t, labels)[:, :, :9, :7], run(network, x, t, labels))
    # The score moves with the pixels of the image everywhere, also across the padded ends.
    other = x.clone()
    other[:, :, -1, -1] += 1
    assert ((run(network, other, t, labels) - run(network, x, t, labels)).abs().amax((1, 2, 3)) > 1e-3).all()


def test_parameters():
    """8.21 million, as many as the published network has with three channels (Sarker et al. 2025)."""
    count = {c: sum(p.numel() for p in ScoreUNet(VPSDE(), 2, c).parameters()) for c in (1, 3)}
    assert round(count[3] / 1e6, 2) == 8.21
    assert round(count[1] / 1e6, 2) == 8.21
    # A channel more costs one 3 x 3 kernel a first feature, one weight a last one and one bias.
    assert count[3] - count[1] == 2 * (9 * 32 + 32 + 1)


def test_every_parameter_is_used():
    network = small()
    x, t, labels = batch(3, 1, 8, 8)
    network(x, timesteps=t, class_labels=labels).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_features_are_of_the_log_snr():
    """Times that differ by little, but by much in the log-SNR, are told apart; the frequencies are stored, not made."""
    network = small(trained=True)
    x, _, labels = batch(2, 1, 8, 8)
    early = [torch.full((2,), t) for t in (1e-4, 1e-3)]
    levels = [network.time(((13.8 - VPSDE().log_snr(t)) / 23.8).float()) for t in early]
    assert (levels[0] - levels[1]).abs().max() > 0.05
    other = small(trained=True)
    other.time[0].frequencies.zero_()
    assert not torch.equal(run(network, x, early[1], labels), run(other, x, early[1], labels))
    other.load_state_dict(network.state_dict())
    assert torch.equal(run(network, x, early[1], labels), run(other, x, early[1], labels))


def test_score_is_smooth():
    """The likelihood differentiates it: derivatives by autograd are those of differences, everywhere."""
    network = small().double()
    x, t, labels = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(2, 1, 5, 4))
    assert torch.autograd.gradcheck(
        lambda z: network(z, timesteps=t, class_labels=labels), x.requires_grad_(), eps=1e-6, atol=1e-4, rtol=1e-4
    )


def test_float64_and_autocast(device):
    network = small().to(device)
    x, t, labels = batch(3, 1, 9, 8, device=device)
    single = run(network, x, t, labels)
    double = run(network.double(), x.double(), t.double(), labels)
    assert double.dtype == torch.float64
    # sigma is 0.04 at the first time, and divides rounding of 1e-6.
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-3)
    network.float()
    with torch.autocast(device, dtype=torch.bfloat16):
        mixed = run(network, x, t, labels)
    assert mixed.dtype == torch.float32
    sigma = VPSDE().alpha_sigma(t)[1].float().reshape(-1, 1, 1, 1)
    # bfloat16 keeps three digits of the output, of the size of 1.
    torch.testing.assert_close(sigma * mixed, sigma * single, rtol=0.05, atol=0.1)


def test_without_class_labels():
    x, t, _ = batch(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"class_labels: expected the class of each image \[B\], 0 to 2, got None"):
        small()(x, t)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims: expected 2 or 3, got 1"),
        ({"spatial_dims": 4}, "spatial_dims: expected 2 or 3, got 4"),
        ({"channels": (8, 12)}, r"channels: expected multiples of norm_num_groups, 8, got \[12\]"),
        ({"channels": (0, 8)}, r"channels: expected multiples of norm_num_groups, 8, got \[0\]"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        ScoreUNet(VPSDE(), **settings)


@pytest.mark.parametrize(
    "settings", [{"embedding_channels": 255}, {"channels": ()}, {"num_classes": 0}, {"norm_num_groups": 0}], ids=str
)
def test_refuses_other_numbers_out_of_range(settings):
    """As its docstring says."""
    with pytest.raises(ValueError, match="expected"):
        ScoreUNet(VPSDE(), **settings)
