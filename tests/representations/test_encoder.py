"""Encoders: named layers of any network as feature maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import ViT, resnet18
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
)
from torch import nn
from torch.nn.functional import interpolate

from monai_diffclf.representations import Encoder, make_encoder
from monai_diffclf.representations.named_layers import feature_maps, run_layers


def images(count: int = 2, size: tuple[int, ...] = (32, 32), channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x


def test_named_layers_are_what_the_network_computes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1))
    x = images()
    first, last = run_layers(network, ["1", "output"], x)
    assert torch.equal(first, network[1](network[0](x)))
    assert torch.equal(last, network(x))
    assert all(not module._forward_hooks for module in network.modules())


def test_the_network_stops_at_the_last_layer_that_is_asked_for():
    network = nn.Sequential(nn.Identity(), nn.Identity(), Counts())
    run_layers(network, ["1", "0"], images())
    assert network[2].calls == 0
    run_layers(network, ["1", "output"], images())
    assert network[2].calls == 1


def test_a_shared_module_gives_its_first_output():
    shared = nn.ReLU()
    network = nn.Sequential(nn.Identity(), shared, nn.Conv2d(3, 4, 1), shared)
    assert run_layers(network, ["1"], images())[0].shape[1] == 3


def test_layers_are_joined_on_the_finest_grid():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2)).eval()
    encoder, x = Encoder(network, ["1", "2"], name="tiny", image_size=16), images()
    features = encoder.features(x)
    fine = network[:2](x)
    coarse = interpolate(network(x), (8, 8), mode="bilinear")
    torch.testing.assert_close(features.maps, torch.cat([fine, coarse], 1))
    torch.testing.assert_close(features.vector, features.maps.mean((2, 3)))
    assert (encoder.channels, encoder.out_channels, encoder.vector_size, encoder.stride) == ((4, 6), 10, 10, 4)
    assert encoder.grid((32, 64)) == (8, 16)
    assert torch.equal(encoder(x), features.maps)


def test_images_are_normalised():
    encoder = Encoder(nn.Identity(), ["output"], name="pixels", mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0), image_size=4)
    x = images(size=(4, 4))
    unit = (x + 1) / 2
    expected = torch.stack([(unit[:, 0] - 0.1) / 0.5, unit[:, 1] - 0.2, (unit[:, 2] - 0.3) / 2], 1)
    torch.testing.assert_close(encoder(x), expected)
    grey = encoder(x[:, :1])
    torch.testing.assert_close(grey, encoder(x[:, :1].expand(-1, 3, -1, -1)))
    plain = Encoder(nn.Identity(), ["output"], name="pixels", image_size=4)
    torch.testing.assert_close(plain(x), x)


@pytest.mark.parametrize(("dims", "size"), [(2, (64, 32)), (3, (32, 32, 16))])
def test_a_network_of_monai(dims, size, device):
    network = resnet18(spatial_dims=dims, n_input_channels=1, num_classes=2).eval().to(device)
    encoder = make_encoder("monai", network=network, layers=["layer1", "layer3"], in_channels=1, spatial_dims=dims)
    encoder = encoder.to(device)
    maps = encoder(images(1, size, channels=1).to(device))
    assert maps.shape == (1, 64 + 256, *encoder.grid(size))
    assert encoder.name == "monai:ResNet"
    assert maps.device.type == torch.device(device).type


@pytest.mark.parametrize("classification", [False, True])
def test_tokens_of_a_vision_transformer_become_maps(classification):
    torch.manual_seed(0)
    network = ViT(3, (32, 48), 8, hidden_size=12, mlp_dim=8, num_layers=2, num_heads=2, spatial_dims=2)
    if classification:
        network = ViT(
            3, (32, 48), 8, hidden_size=12, mlp_dim=8, num_layers=2, num_heads=2, spatial_dims=2, classification=True
        )
    encoder = make_encoder("monai", network=network.eval(), layers=["blocks.0", "blocks.1"], image_size=(32, 48))
    assert (encoder.stride, encoder.channels, encoder.grid((32, 48))) == (8, (12, 12), (4, 6))
    x = images(size=(32, 48))
    tokens = run_layers(network, ["blocks.0", "blocks.1"], encoder.normalize(x))
    features = encoder.features(x)
    cells = [each[:, 1:] if classification else each for each in tokens]
    expected = torch.cat(cells, 2)
    torch.testing.assert_close(features.maps.flatten(2).transpose(1, 2), expected)
    torch.testing.assert_close(features.vector, tokens[1][:, 0] if classification else expected.mean(1))


def test_tokens_are_laid_out_row_by_row():
    tokens = torch.arange(5 + 6.0).reshape(1, 11, 1)
    maps, token = feature_maps(tokens, (28, 42), "blocks.0")
    assert maps[0, 0].tolist() == [[5, 6, 7], [8, 9, 10]]
    assert token.tolist() == [[0]]


def test_entries_of_an_output():
    class Several(nn.Module):
        def forward(self, x):
            return {"fine": x, "coarse": x[..., ::2, ::2]}

    x = images()
    first, coarse = run_layers(Several(), ["output", "output.coarse"], x)
    assert torch.equal(feature_maps(first, x.shape[2:], "output").maps, x)
    assert coarse.shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match=r"one of \['fine', 'coarse'\], got 'output.1'"):
        run_layers(Several(), ["output.1"], x)


def test_the_version_is_of_weights_layers_and_scaling():
    def make(seed: int = 0, layers=("0", "1"), **settings) -> Encoder:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2))
        return Encoder(network, layers, name="tiny", image_size=16, **settings)

    same = make().version
    assert make().version == same
    others = [make(1), make(layers=["1"]), make(mean=0.4), make(std=0.4), make(digest="file")]
    assert len({same, *(each.version for each in others)}) == 6


def test_a_blank_image_leaves_running_means_and_modes_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4))
    network[1].eval()
    Encoder(network, ["1"], name="tiny", image_size=16)
    assert network[1].num_batches_tracked == 0
    assert [module.training for module in network.modules()] == [True, True, False]


def test_features_can_be_differentiated():
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2))
    Encoder(network, ["0"], name="tiny", image_size=16)(images()).sum().backward()
    assert network[0].weight.grad is not None
    assert network[2].weight.grad is None


def test_refuses():
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten())
    with pytest.raises(ValueError, match=r"layers: expected names of modules of Sequential, or 'output', got \['5'\]"):
        Encoder(network, ["5"], name="tiny")
    with pytest.raises(ValueError, match="layers: expected the names of one or more layers, got 'output'"):
        Encoder(network, "output", name="tiny")
    with pytest.raises(ValueError, match=r"expected feature maps \[B, C, \*grid\] or tokens .* from layer '1'"):
        Encoder(network, ["1"], name="tiny")
    with pytest.raises(ValueError, match="std: expected one positive number, or one for each of 3 channels"):
        Encoder(network, ["0"], name="tiny", std=0.0)
    with pytest.raises(ValueError, match="spatial_dims: expected 2 or 3, got 1"):
        Encoder(network, ["0"], name="tiny", spatial_dims=1)
    with pytest.raises(ValueError, match="image_size: expected one that the encoder tiny takes, got"):
        Encoder(network, ["0"], name="tiny", image_size=2)
    with pytest.raises(ValueError, match=r"network: expected a network with its weights"):
        make_encoder("monai")
    for size in ("64", 64.0, True, 0, (16,), (16, 16, 16), (16, "16")):
        with pytest.raises(ValueError, match="image_size: expected a positive integer, or one for each of 2 axes, got"):
            make_encoder("monai", network=network[0], image_size=size)
    assert make_encoder("monai", network=network[0], image_size=np.int64(16)).image_size == (16, 16)
    for size in ("16", 16.0, (16,)):
        with pytest.raises(ValueError, match="image_size: expected a positive integer"):
            make_encoder("monai", network=network[0]).grid(size)
    for settings, said in (
        ({"in_channels": "3"}, "in_channels: expected a positive integer, got '3'"),
        ({"mean": float("nan")}, "mean: expected one number, or one for each of 3 channels, got nan"),
        ({"std": "a"}, "std: expected one positive number, or one for each of 3 channels, got 'a'"),
        ({"layers": [0]}, r"layers: expected the names of one or more layers, got \[0\]"),
    ):
        with pytest.raises(ValueError, match=said):
            make_encoder("monai", network=network[0], **settings)
    for name in ("resnet", "monai:x", "onnx", None):
        with pytest.raises(ValueError, match=r"encoder: expected one of \['efficientnet_lite0', 'monai', 'onnx:...'"):
            make_encoder(name)


def wrong_images() -> list:
    """Images that are none in [-1, 1], and what is said of them."""
    x = images()
    broken = [x.clone(), x.clone()]
    broken[0][1, 2, 3, 4], broken[1][0, 0, 0, 0] = torch.nan, torch.inf
    scale = "images: expected values from -1 to 1, as encoders take them, got"
    return [
        ((x * 127 + 128).byte(), TypeError, r"images: expected floating point values in \[-1, 1\], got torch.uint8"),
        (x.long(), TypeError, "images: expected floating point .* got torch.int64"),
        (x.to(torch.complex64), TypeError, "images: expected floating point .* got torch.complex64"),
        (x.to_sparse(), TypeError, "images: expected a dense Tensor .* got torch.sparse_coo"),
        (x.numpy(), TypeError, "images: expected a Tensor .* got ndarray; torch.as_tensor makes one"),
        (x * 127 + 128, ValueError, f"{scale} .* to 25"),
        (x * 1000, ValueError, f"{scale} -9"),
        (broken[0], ValueError, f"{scale} nan to nan"),
        (broken[1], ValueError, f"{scale} .* to inf"),
        (torch.tensor(0.5), ValueError, r"images: expected \[B, C, \*spatial\] .* got \[\]"),
        (x[:, :, :0], ValueError, r"images: expected \[B, C, \*spatial\] .* got \[2, 3, 0, 32\]"),
        (x[:, :, :3], ValueError, r"images: expected a size of at least a cell, \[4, 4\], .* got \[3, 32\]: "),
    ]


@pytest.mark.parametrize("number", range(12))
def test_images_of_another_scale_are_refused(number):
    x, error, said = wrong_images()[number]
    encoder = Encoder(nn.Conv2d(3, 4, 4, 4), ["output"], name="tiny", image_size=16)
    with pytest.raises(error, match=said):
        encoder.features(x)


def test_what_augmentation_makes_is_taken():
    """The strongest of the bundles, on images of two values, before anything is cut off."""
    steps = [
        RandAdjustContrast(prob=1.0, gamma=(0.5, 2.0)),
        RandScaleIntensityFixedMean(prob=1.0, factors=0.3),
        RandShiftIntensity(prob=1.0, offsets=0.1),
        RandGaussianNoise(prob=1.0, std=0.5),
    ]
    augment = Compose(steps).set_random_state(0)
    encoder = Encoder(nn.Conv2d(3, 4, 4, 4), ["output"], name="tiny", image_size=16)
    x = torch.stack([augment(each.sign()) for each in images(20)])
    assert x.abs().max() > 1.5
    assert bool(encoder(x).isfinite().all())
