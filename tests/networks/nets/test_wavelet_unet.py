"""The wavelet U-Net: image space outside, wavelet space inside."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from monai_diffclf.networks.layers.haar import haar_forward
from monai_diffclf.networks.nets import WaveletDiffusionUNet

TINY = {
    "channels": (4, 8),
    "attention_levels": (False, False),
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "num_head_channels": 4,
}


def make(dims: int = 2, channels: int = 1, *, levels: int = 1, **kwargs) -> WaveletDiffusionUNet:
    torch.manual_seed(0)
    network = WaveletDiffusionUNet(dims, channels, levels=levels, **TINY, **kwargs)
    for weight in network.parameters():  # MONAI starts some at zero, which would hide what reaches the output
        torch.nn.init.normal_(weight, std=0.2)
    return network.eval()


@pytest.mark.parametrize(("dims", "levels", "size"), [(2, 1, (8, 12)), (2, 2, (16, 8)), (3, 1, (4, 8, 4))], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_is_the_inner_network_in_wavelet_space(dims, levels, size, channels, device):
    network = make(dims, channels, levels=levels, num_class_embeds=3).to(device)
    images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0)).to(device)
    call = {"timesteps": torch.tensor([7, 900]).to(device), "class_labels": torch.tensor([0, 2]).to(device)}
    with torch.no_grad():
        out = network(x=images, **call)
        inner = network.unet(x=haar_forward(images, levels, spatial_dims=dims).contiguous(), **call)
    assert out.shape == images.shape
    assert network.unet.in_channels == network.unet.out_channels == channels * 2 ** (dims * levels)
    torch.testing.assert_close(haar_forward(out, levels, spatial_dims=dims), inner, rtol=1e-4, atol=1e-4)
    # Orthonormal: a squared error has the same sum on either side.
    target = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).to(device)
    coefficients = haar_forward(target, levels, spatial_dims=dims)
    torch.testing.assert_close((out - target).square().sum(), (inner - coefficients).square().sum(), rtol=1e-4, atol=0)


def test_context_reaches_the_inner_network():
    network = make(with_conditioning=True, cross_attention_dim=3)
    images = torch.ones(2, 1, 8, 8)
    context = torch.eye(3)[:2, None]
    out = network(images, torch.tensor([5, 5]), context=context)
    assert (out[0] - out[1]).abs().max() > 1e-6


def test_continuous_timesteps():
    network = make(num_class_embeds=3)
    images, labels = torch.ones(2, 1, 8, 8), torch.tensor([1, 1])
    out = network(images, torch.tensor([5.25, 5.5]), class_labels=labels)
    assert (out[0] - out[1]).abs().max() > 1e-7


def test_weights_are_those_of_monais_network():
    network = make(num_class_embeds=3)
    plain = DiffusionModelUNet(2, 4, 4, num_class_embeds=3, **TINY)
    assert {f"unet.{key}" for key in plain.state_dict()} == set(network.state_dict())


def test_gradients_reach_every_weight():
    network = make(num_class_embeds=2).train()
    network(torch.rand(2, 1, 8, 8), torch.tensor([3, 4]), class_labels=torch.tensor([0, 1])).square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"divisible by 2\*\*levels = 4, but got \(8, 6\); pad to \(8, 8\)"):
        make(levels=2)(torch.rand(1, 1, 8, 6), torch.tensor([1]))


def test_refuses_channels_of_its_own():
    with pytest.raises(ValueError, match=r"\['out_channels'\]: follow from in_channels and levels; leave them out"):
        WaveletDiffusionUNet(2, 1, out_channels=1, **TINY)
