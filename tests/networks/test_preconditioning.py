"""Preconditioning by channels: the best linear guess is the layer's, and the network predicts what is left."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.networks import fast_inference, network_hash, precondition_network
from monai_diffclf.networks.layers import ChannelPreconditioning, haar_forward
from monai_diffclf.networks.nets import WaveletDiffusionUNet
from monai_diffclf.networks.schedulers import NoiseProcess

TINY = {
    "channels": (4, 8),
    "attention_levels": (False, False),
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "num_head_channels": 4,
    "num_class_embeds": 3,
}
STD = torch.tensor([0.7, 0.05, 0.2])
SCHEDULERS = {
    "v": lambda: DDPMScheduler(1000, schedule="cosine", prediction_type="v_prediction"),
    "epsilon": lambda: DDPMScheduler(1000, schedule="cosine", prediction_type="epsilon"),
    "sample": lambda: DDPMScheduler(1000, schedule="cosine", prediction_type="sample"),
    "flow": lambda: RFlowScheduler(1000),
}


def gaussian(count: int, seed: int = 0) -> torch.Tensor:
    """Channels of independent normal values, of spreads `STD`."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * STD.view(-1, 1, 1)


def network(levels: int = 1, channels: int = 1, **settings) -> WaveletDiffusionUNet:
    torch.manual_seed(0)
    return WaveletDiffusionUNet(2, channels, levels=levels, precondition=True, **TINY, **settings).eval()


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("timestep", [40, 500, 900])
def test_of_gaussian_images_the_linear_guess_is_the_best_there_is(kind, timestep, device):
    """What is left of the target has the variance of the posterior, in closed form, and is no more foretold by z."""
    process = NoiseProcess(SCHEDULERS[kind]())
    layer = ChannelPreconditioning(3).fit(process, gaussian(200).split(50)).to(device)
    assert layer.std.cpu() == pytest.approx(STD, rel=0.01)
    images = gaussian(100, seed=1).to(device)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).to(device)
    times = torch.full((len(images),), timestep, device=device)
    z = process.add_noise(images, noise, times)
    scaled, known, left = layer(z, times)
    rest = (process.target(images, noise, times) - known).transpose(0, 1).flatten(1).cpu()
    alpha, sigma = (float(x) for x in process.alpha_sigma(times[:1].cpu()))
    a, b = (float(x) for x in process.mixture(*process.alpha_sigma(times[:1].cpu())))
    posterior = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)  # variance of x given z
    assert rest.var(1) == pytest.approx(((a - b * alpha / sigma) ** 2 * posterior), rel=0.02)
    assert left[0, :, 0, 0].cpu() ** 2 == pytest.approx(rest.var(1), rel=0.02)
    assert scaled.transpose(0, 1).flatten(1).var(1).cpu() == pytest.approx(torch.ones(3), rel=0.02)
    together = torch.stack([rest, z.transpose(0, 1).flatten(1).cpu()], 1)
    assert all(abs(float(torch.corrcoef(pair)[0, 1])) < 0.02 for pair in together)


def test_images_of_unit_spread_are_left_alone():
    layer = ChannelPreconditioning(1).fit(SCHEDULERS["v"](), [torch.ones(2, 1, 4, 4)])
    z = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    scaled, known, left = layer(z, torch.tensor([0, 500, 999]))
    torch.testing.assert_close(scaled, z)
    torch.testing.assert_close(known, torch.zeros_like(z), rtol=0, atol=1e-6)
    torch.testing.assert_close(left, torch.ones_like(left))


def test_times_between_whole_ones():
    layer = ChannelPreconditioning(3).fit(SCHEDULERS["flow"](), [gaussian(20)])
    alpha = layer._at(torch.tensor([0.0, 250.5, 1000.0]))[:, 0]
    assert alpha.tolist() == pytest.approx([1.0, 1 - 0.2505, 0.0], abs=2e-3)  # MONAI's flow ends before 0


def test_an_untrained_network_gives_the_linear_guess_of_its_wavelets():
    """MONAI's U-Net begins with an output of zero."""
    made = network(levels=2, channels=3)
    images = torch.randn(30, 3, 16, 16, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3) / 50
    scheduler = SCHEDULERS["v"]()
    assert precondition_network(made, scheduler, [{"image": image} for image in images], dict) is made
    spread = haar_forward(images, 2, spatial_dims=2).square().mean((0, 2, 3)).sqrt()
    assert made.preconditioning.std == pytest.approx(spread.clamp(min=1e-3), rel=1e-4)
    z, times = torch.randn(2, 3, 16, 16), torch.tensor([10, 700])
    known = made.preconditioning(haar_forward(z, 2, spatial_dims=2), times)[1]
    with torch.no_grad():
        out = made(z, times, class_labels=torch.tensor([0, 1]))
    torch.testing.assert_close(haar_forward(out, 2, spatial_dims=2), known, rtol=1e-4, atol=1e-5)


def test_it_is_fitted_once_and_lies_with_the_weights():
    scheduler, made = SCHEDULERS["v"](), network()
    items = [{"image": torch.full((1, 8, 8), value)} for value in (0.2, 0.4)]
    precondition_network(made, scheduler, items, dict)
    before = network_hash(made)
    precondition_network(made, scheduler, [{"image": torch.ones(1, 8, 8)}], dict)
    assert network_hash(made) == before
    other = network()
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    z, times, labels = torch.randn(2, 1, 8, 8), torch.tensor([5, 800]), torch.tensor([0, 1])
    with torch.no_grad():
        expected = made(z, times, class_labels=labels)
        torch.testing.assert_close(other(z, times, class_labels=labels), expected)
        torch.testing.assert_close(fast_inference(other)(z, times, class_labels=labels), expected, rtol=1e-4, atol=1e-5)


def test_many_images_are_read_evenly_spaced():
    read = []
    items = [{"image": torch.full((1, 8, 8), 0.1), "number": number} for number in range(11)]
    precondition_network(network(), SCHEDULERS["v"](), items, lambda item: read.append(item["number"]) or item, limit=3)
    assert read == [0, 5, 10]


def test_a_network_without_it_is_returned_as_it_is():
    plain = WaveletDiffusionUNet(2, 1, **TINY)
    before = network_hash(plain)
    assert precondition_network(plain, SCHEDULERS["v"](), [], dict) is plain
    assert network_hash(plain) == before


def test_refused():
    with pytest.raises(ValueError, match="precondition: expected a network whose preconditioning was fitted"):
        network()(torch.zeros(1, 1, 8, 8), torch.tensor([0]), class_labels=torch.tensor([0]))
    with pytest.raises(ValueError, match="batches: expected images with finite values, got none or others"):
        precondition_network(network(), SCHEDULERS["v"](), [], dict)
    nan = [{"image": torch.full((1, 8, 8), torch.nan)}]
    with pytest.raises(ValueError, match="batches: expected images with finite values"):
        precondition_network(network(), SCHEDULERS["v"](), nan, dict)
    with pytest.raises(ValueError, match=r"batches: expected \[B, 4, \*spatial\], got \[1, 12, 4, 4\]"):
        precondition_network(network(), SCHEDULERS["v"](), [{"image": torch.ones(3, 8, 8)}], dict)
    with pytest.raises(ValueError, match="scheduler: expected 1000 timesteps, .*, got 10; give num_train_timesteps"):
        precondition_network(network(), DDPMScheduler(10), [{"image": torch.ones(1, 8, 8)}], dict)
