"""Windows give what the whole volume gives where the network is local, whatever their size, margin and batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_diffclf.networks.nets import SlidingWindowNetwork


class Local(nn.Module):
    """Two convolutions, which see 2 voxels around, scaled by timestep and class; it counts its calls."""

    def __init__(self, dims: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = nn.Conv3d if dims == 3 else nn.Conv2d
        self.one, self.two, self.calls = conv(1, 4, 3, padding=1), conv(4, 1, 3, padding=1), []

    def forward(self, x, timesteps, context=None, class_labels=None, mask=None):
        self.calls.append(tuple(x.shape))
        scale = (1 + timesteps + 10 * class_labels).reshape(-1, *[1] * (x.ndim - 1))
        out = self.two(torch.tanh(self.one(x))) * scale
        return out if mask is None else out * mask


def call(count: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    return {
        "timesteps": torch.arange(count, device=device),
        "class_labels": torch.arange(count, device=device).flip(0) % 2,
    }


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize(
    ("size", "roi", "margin"),
    [
        ((12, 8, 9), 8, 2),
        ((17, 11, 6), (9, 7, 8), (2, 3, 2)),
        ((8, 8, 8), 8, 2),
        ((21, 5, 5), (5, 5, 5), 2),
        ((20, 14), (8, 6), 2),
    ],
    ids=str,
)
def test_a_local_network_predicts_what_it_predicts_of_the_whole(size, roi, margin, batch, device):
    network = Local(len(size)).to(device)
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(1)).to(device)
    whole = network(x, **call(2, device))
    windows = SlidingWindowNetwork(network, roi, margin=margin, sw_batch_size=batch)(x, **call(2, device))
    torch.testing.assert_close(windows, whole, rtol=1e-5, atol=1e-5)
    assert max(shape[0] for shape in network.calls[1:]) <= batch


def test_too_small_a_margin_is_another_prediction():
    network, x = Local(), torch.randn(1, 1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = network(x, **call(1))
    off = (SlidingWindowNetwork(network, 8, margin=1)(x, **call(1)) - whole).abs()[0, 0].amax((1, 2))
    assert off.max() > 1e-3
    # Only at the inner faces: the outer ones end where the volume ends.
    assert off[:4].max() < 1e-5
    assert off[-3:].max() < 1e-5


def test_windows_that_do_not_overlap_have_errors_that_add_up():
    """The closed form of the docstring, for a network that is anything but local."""

    class Mean(nn.Module):
        def forward(self, x, timesteps, context=None, class_labels=None):
            return x - x.mean((1, 2, 3, 4), keepdim=True) * (1 + class_labels.view(-1, 1, 1, 1, 1))

    network, x = Mean(), torch.randn(2, 1, 8, 4, 6, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 1, 8, 4, 6, generator=torch.Generator().manual_seed(2))
    whole = (SlidingWindowNetwork(network, (4, 4, 3))(x, **call(2)) - noise).square().mean((1, 2, 3, 4))
    summed = torch.zeros(2)
    for i in (slice(0, 4), slice(4, 8)):
        for k in (slice(0, 3), slice(3, 6)):
            window = (..., i, slice(None), k)
            error = (network(x[window], **call(2)) - noise[window]).square().mean((1, 2, 3, 4))
            summed += 4 * 4 * 3 / (8 * 4 * 6) * error
    torch.testing.assert_close(whole, summed)


def test_a_condition_of_the_images_own_size_is_cut_with_them():
    network, x = Local(), torch.randn(2, 1, 12, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(2, 1, 12, 8, 8, generator=torch.Generator().manual_seed(2))
    windows = SlidingWindowNetwork(network, 8, margin=2)(x, **call(2), mask=mask)
    torch.testing.assert_close(windows, network(x, **call(2), mask=mask), rtol=1e-5, atol=1e-5)


def test_gradients_pass():
    network, x = Local(), torch.randn(1, 1, 12, 8, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    (windows,) = torch.autograd.grad(SlidingWindowNetwork(network, 8, margin=2)(x, **call(1)).square().sum(), x)
    (whole,) = torch.autograd.grad(network(x, **call(1)).square().sum(), x)
    torch.testing.assert_close(windows, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"roi_size": 0}, "roi_size: expected an integer of 1 or more, or one an axis, got 0"),
        ({"roi_size": (8, 8.0, 8)}, "roi_size: expected an integer of 1 or more"),
        ({"roi_size": 8, "margin": -1}, "margin: expected an integer of 0 or more"),
        ({"roi_size": 8, "margin": 4}, r"margin: expected less than half of roi_size \[8\], got \[4\]"),
        ({"roi_size": 8, "sw_batch_size": 0}, "sw_batch_size: expected a positive integer, got 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindowNetwork(nn.Identity(), **settings)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="network: expected an nn.Module, got str"):
        SlidingWindowNetwork("network", 8)
    with pytest.raises(ValueError, match=r"roi_size: expected one number, or one for each of 2 axes, got \[8, 8, 8\]"):
        SlidingWindowNetwork(Local(2), (8, 8, 8))(torch.zeros(1, 1, 16, 16), **call(1))

    class Half(nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            return x[..., ::2]

    with pytest.raises(ValueError, match=r"network: expected predictions of the size of its windows \(8, 8, 8\), got"):
        SlidingWindowNetwork(Half(), 8)(torch.zeros(1, 1, 16, 8, 8), **call(1))
