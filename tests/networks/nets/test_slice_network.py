"""Slices through a 2D network: the prediction of a volume is that of its slices, and so is its error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_diffclf.networks.nets import SliceNetwork
from tests.tiny_unet import tiny_unet


@pytest.mark.parametrize("batch", [3, 256])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_slice_is_predicted_alone(axis, batch, device):
    network = tiny_unet().to(device)
    x = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1)).to(device)
    call = {"timesteps": torch.tensor([3, 800], device=device), "class_labels": torch.tensor([0, 1], device=device)}
    with torch.no_grad():
        volume = SliceNetwork(network, axis=axis, sw_batch_size=batch)(x, **call)
        for place in range(4):
            alone = network(x=x.select(axis + 2, place), **call)
            torch.testing.assert_close(volume.select(axis + 2, place), alone, rtol=1e-4, atol=1e-4)


class Given(nn.Module):
    """Adds what it is given."""

    def forward(self, x, timesteps, age, mask, scale):
        return x * scale + age.view(-1, 1, 1, 1) + mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_further_conditions_go_to_the_slices_of_their_volume(axis):
    x, mask = torch.rand(2, 1, 3, 4, 5), torch.rand(2, 1, 3, 4, 5)
    age = torch.tensor([10.0, 20.0])
    found = SliceNetwork(Given(), axis=axis, sw_batch_size=3)(x, torch.zeros(2), age=age, mask=mask, scale=2.0)
    torch.testing.assert_close(found, 2 * x + age.view(2, 1, 1, 1, 1) + mask)


def test_its_weights_are_those_of_the_network():
    network = tiny_unet()
    assert sum(w.numel() for w in SliceNetwork(network).parameters()) == sum(w.numel() for w in network.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axis": 3}, "axis: expected 0, 1 or 2, got 3"),
        ({"axis": True}, "axis: expected 0, 1 or 2, got True"),
        ({"sw_batch_size": 0}, "sw_batch_size: expected a positive integer, got 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SliceNetwork(nn.Identity(), **settings)


def test_a_plane_image_is_refused():
    with pytest.raises(ValueError, match=r"x: expected volumes \[B, C, X, Y, Z\], got the shape \(1, 1, 4, 4\)"):
        SliceNetwork(tiny_unet())(torch.zeros(1, 1, 4, 4), torch.tensor([1]))
    with pytest.raises(TypeError, match="network: expected an nn.Module, got str"):
        SliceNetwork("network")
