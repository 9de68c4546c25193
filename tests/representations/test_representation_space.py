"""Representations as latent spaces: shapes, maps on the image, precision, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from monai_diffclf.explain import CounterfactualGenerator
from monai_diffclf.inferers import DiffusionClassifierInferer, provenance
from monai_diffclf.networks import LatentSpace, maps_in_pixels
from monai_diffclf.networks.latent_space import check_latent_space, encode
from monai_diffclf.representations import Encoder, LatentDataset, RepresentationSpace
from tests.representations.test_encoder import wrong_images

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", prediction_type="v_prediction")


def tiny(spatial_dims: int = 2, **settings) -> Encoder:
    torch.manual_seed(0)
    conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    network = nn.Sequential(conv(3, 8, 4, 4), nn.Tanh(), conv(8, 12, 2, 2), nn.Tanh())
    return Encoder(network, ["1", "3"], name="tiny", spatial_dims=spatial_dims, image_size=16, **settings)


def images(count: int = 12, size: tuple[int, ...] = (16, 24), channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def fitted(spatial_dims: int = 2, size: tuple[int, ...] = (16, 24), **settings) -> RepresentationSpace:
    space = RepresentationSpace(tiny(spatial_dims), num_components=3, **settings)
    return space.fit(images(size=size).split(5))


class Denoiser(nn.Module):
    """Knows that latents of class k are all k."""

    def forward(self, x, timesteps, context=None, class_labels=None):
        return class_labels.view(-1, *[1] * (x.ndim - 1)).expand_as(x).float()


@pytest.mark.parametrize("global_token", [False, True])
@pytest.mark.parametrize(("dims", "size"), [(2, (16, 24)), (3, (8, 16, 8))])
def test_is_a_latent_space(dims, size, global_token, device):
    space, x = fitted(dims, size, global_token=global_token), images(4, size).to(device)
    assert isinstance(space, LatentSpace)
    assert check_latent_space(space) is space
    latents = encode(space, x)
    grid = tuple(length // 4 for length in size)
    expected = (3, 1 + math.prod(grid)) if global_token else (3, *grid)
    assert latents.shape == (4, *expected) == (4, *space.latent_shape())
    assert latents.device == x.device
    assert latents.dtype == torch.float32
    assert (space.grid, space.image_size, space.stride) == (grid, size, 4)


def test_latents_of_the_training_images_have_variance_one():
    for whitening in (0.0, 0.5, 1.0):
        latents = fitted(whitening=whitening).encode(images())
        assert latents.transpose(0, 1).flatten(1).mean(1).abs().max() < 1e-5
        assert float(latents.square().mean()) == pytest.approx(1, rel=0.01)
    each = latents.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(each, torch.ones(3), rtol=1e-4, atol=0)
    tokens = fitted(whitening=1.0, global_token=True).encode(images())
    torch.testing.assert_close(tokens[..., 0].var(0), torch.ones(3), rtol=1e-4, atol=0)


def test_the_global_token_comes_first_and_cells_in_the_order_of_pixels():
    tokens, plain = (fitted(global_token=token).encode(images()) for token in (True, False))
    torch.testing.assert_close(tokens[..., 1:], plain.flatten(2))


@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16])
def test_an_image_is_the_same_in_any_batch(amp_dtype):
    space, x = fitted(amp_dtype=amp_dtype, batch_size=4), images(9)
    tolerance = {"rtol": 1e-4, "atol": 0.05 if amp_dtype else 1e-4}
    together = space.encode(x)
    for part in (slice(0, 1), slice(3, 9)):
        torch.testing.assert_close(space.encode(x[part]), together[part], **tolerance)
    assert space.encode(x[:0]).shape == (0, 3, 4, 6)


def test_a_grey_image_is_one_of_three_equal_channels():
    space, grey = fitted(), images(3, channels=1)
    torch.testing.assert_close(space.encode(grey), space.encode(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("global_token", [False, True])
def test_maps_lie_on_the_image_and_keep_their_sum(global_token):
    space = fitted(global_token=global_token)
    shape = space.latent_shape()[1:]
    maps = torch.rand(2, 5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    pixels = maps_in_pixels(space, maps, (16, 24))
    assert pixels.shape == (2, 5, 16, 24)
    torch.testing.assert_close(pixels.sum((2, 3)), maps.flatten(2).sum(2))
    one = torch.zeros(shape)
    one.flatten()[7 + global_token] = 16.0  # row 1, column 1 of 4 x 6 cells
    expected = torch.zeros(16, 24)
    expected[4:8, 4:8] = 1
    torch.testing.assert_close(maps_in_pixels(space, one, (16, 24)), expected)


def test_the_share_of_the_global_token_is_spread_over_the_image():
    space = fitted(global_token=True)
    maps = torch.zeros(25)
    maps[0] = 16 * 24
    torch.testing.assert_close(space.spread(maps, (16, 24)), torch.ones(16, 24))
    with pytest.raises(ValueError, match="expected maps over a global token and the cells"):
        space.spread(torch.zeros(24), (16, 24))


@pytest.mark.parametrize("global_token", [False, True])
def test_classifies_with_maps(global_token, device):
    space = fitted(global_token=global_token)
    scheduler = DDPMScheduler(100, schedule="cosine", prediction_type="sample")
    plain = {"map_weighting": None, "map_smoothing": 0}
    inferer = DiffusionClassifierInferer(scheduler, num_draws=5, rule="mean", latent_space=space, **plain)
    x = images(3).to(device)
    result = inferer.classify(x, Denoiser().eval(), error_maps=True)
    latents = space.encode(x)
    near = (latents - 1).square().flatten(1).mean(1) < latents.square().flatten(1).mean(1)
    assert torch.equal(result.predicted, near.long())
    assert result.error_maps.shape == (3, 2, 16, 24)
    cells = latents[0, 0].numel()
    torch.testing.assert_close(result.error_maps.double().sum((2, 3)), cells * result.mean_error, rtol=1e-4, atol=1e-5)
    assert provenance(inferer, Denoiser())["latent_space"] == space.version


def test_stays_frozen_and_in_eval_mode():
    encoder = tiny()
    encoder.network.append(nn.Dropout(0.9))
    encoder.train()
    space = RepresentationSpace(encoder, 3).fit([images()])
    first = space.encode(images(2))
    encoder.train()
    assert torch.equal(space.train().encode(images(2)), first)
    assert not any(module.training for module in space.modules())
    assert not any(weight.requires_grad for weight in space.parameters())


def test_the_version_is_of_all_that_changes_a_latent():
    versions = [
        fitted().version,
        fitted(whitening=0.5).version,
        fitted(global_token=True).version,
        fitted(amp_dtype=torch.bfloat16).version,
        RepresentationSpace(tiny(), 2).fit([images()]).version,
        RepresentationSpace(tiny(), 3).fit([images(11)]).version,
        RepresentationSpace(tiny(std=0.4), 3).fit([images()]).version,
    ]
    assert len(set(versions)) == len(versions)
    assert fitted().version == versions[0]
    assert RepresentationSpace(tiny(), 3, batch_size=2).fit([images()]).encode(images()).shape == (12, 3, 4, 6)


CHANGES = {
    "in place": lambda weight: weight.mul_(2),
    "past autograd": lambda weight: weight.data.mul_(2),
    "as an array": lambda weight: np.multiply(weight.numpy(), 2, out=weight.numpy()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_version_follows_weights_that_others_train(change):
    encoder = tiny()
    space = RepresentationSpace(encoder, 3).fit([images()])
    other = space.in_precision(torch.bfloat16)
    before, latents = (space.version, other.version), space.encode(images(2))
    assert (space.version, other.version) == before
    with torch.no_grad():
        CHANGES[change](encoder.network[0].weight.detach())
    assert not torch.equal(space.encode(images(2)), latents)
    assert space.version != before[0] and other.version != before[1]
    encoder.network[0].weight.data.div_(2)
    assert space.version == before[0]


def test_latents_kept_are_not_those_of_a_network_trained_since(tmp_path):
    encoder = tiny()
    space = RepresentationSpace(encoder, 3).fit([images()])
    settings = {"views": 0, "cache_dir": tmp_path, "progress": False}
    data = [{"image": image, "label": 0} for image in images(2)]
    LatentDataset(data, None, space, **settings)
    with torch.no_grad():
        encoder.network[0].weight.neg_()
    with pytest.raises(ValueError, match="cache_dir: expected latents made with these settings.*space: made with"):
        LatentDataset(data, None, space, **settings)


@pytest.mark.parametrize("global_token", [False, True])
def test_latents_do_not_depend_on_the_autocast_around(global_token):
    for amp_dtype in (None, torch.bfloat16):
        space, x = fitted(amp_dtype=amp_dtype, global_token=global_token), images()
        expected = space.encode(x)
        with torch.autocast("cpu", torch.bfloat16):
            latents = space.encode(x)
            again = fitted(amp_dtype=amp_dtype, global_token=global_token)
        assert latents.dtype == torch.float32 and torch.equal(latents, expected)
        assert again.version == space.version
    assert space.encode(images().double()[:0]).dtype == space.encode(images().double()).dtype == torch.float32
    exact = fitted(global_token=global_token)
    reduced = exact.in_precision(torch.bfloat16)
    assert reduced.version != exact.version == fitted(global_token=global_token).version
    assert not torch.equal(reduced.encode(x), exact.encode(x)) and exact.amp_dtype is None


def test_what_was_made_in_inference_mode_is_fitted_again():
    with torch.inference_mode():
        space = fitted()
    assert space.version == fitted().version
    assert space.fit([images(9)]).version == RepresentationSpace(tiny(), 3).fit([images(9)]).version


@pytest.mark.parametrize("number", range(12))
def test_images_of_another_scale_are_refused(number):
    x, error, said = wrong_images()[number]
    space = RepresentationSpace(tiny(), 3)
    if error is ValueError or not isinstance(x, np.ndarray):  # arrays may be fitted to, as of a loader
        with pytest.raises(error, match=said):
            space.fit([x])
        with pytest.raises(error, match=said):
            space.fit([{"image": x}])
    with pytest.raises(error, match=said):
        fitted().encode(x)


def test_weights_stay_in_float32():
    for change in (RepresentationSpace.half, RepresentationSpace.double, lambda space: space.encoder.half()):
        space = fitted()
        change(space)
        for ask in (lambda: space.encode(images()), lambda: space.fit([images()])):  # noqa: B023 (asked at once)
            with pytest.raises(ValueError, match="latent_space: expected weights in float32, got torch.float(16|64)"):
                ask()
    assert torch.equal(fitted().half().float().to(torch.float32).encode(images()).isfinite().all(), torch.tensor(True))


def test_refuses():
    with pytest.raises(ValueError, match=r"batches: expected images as 'image', got a dictionary of \['label'"):
        RepresentationSpace(tiny(), 3).fit([{"pixels": images(), "label": 1}])
    space = RepresentationSpace(tiny(), 3)
    with pytest.raises(
        ValueError, match=r"latent_space: expected a representation with principal components, call fit"
    ):
        space.encode(images())
    with pytest.raises(ValueError, match="call fit"):
        space.version  # noqa: B018
    with pytest.raises(ValueError, match=r"num_components: expected at most \d+, the directions"):
        RepresentationSpace(tiny(), 15).fit([images(2, (8, 8))])
    with pytest.raises(ValueError, match="num_components: expected at most the 20 features, got 21"):
        RepresentationSpace(tiny(), 21)
    with pytest.raises(ValueError, match="batches: expected images of one size"):
        space.fit([images(), images(size=(16, 16))])
    with pytest.raises(
        ValueError, match=r"images: expected \[B, C, \*spatial\] with 2 spatial axes and 1 or 3 channels"
    ):
        fitted().encode(images(channels=2))
    with pytest.raises(TypeError, match="encoder: expected an Encoder, see make_encoder, got Linear"):
        RepresentationSpace(nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"whitening: expected an exponent in \[0, 1\], got '0.5'"):
        RepresentationSpace(tiny(), 3, whitening="0.5")
    with pytest.raises(ValueError, match="amp_dtype"):
        RepresentationSpace(tiny(), amp_dtype=torch.float64)
    with pytest.raises(
        ValueError, match="expected one with decode, which counterfactuals need, got RepresentationSpace"
    ):
        CounterfactualGenerator(SCHEDULER, latent_space=fitted())
