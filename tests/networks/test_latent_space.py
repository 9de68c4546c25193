"""Latent spaces: what is encoded, how maps come back to image pixels, and what is refused."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.networks import LatentSpace, PixelSpace
from monai_diffclf.networks.latent_space import (
    GivenLatents,
    check_decodes,
    check_latent_space,
    decode,
    encode,
    maps_in_pixels,
    mask_in_latents,
    spread_map,
)
from tests.latent_spaces import Blocks, EncodesOnly, Tokens


def test_pixels_are_the_default():
    images = torch.rand(2, 1, 4, 4)
    space = check_latent_space(None)
    assert isinstance(space, PixelSpace)
    assert isinstance(space, LatentSpace)
    assert encode(space, images) is images
    assert decode(space, images, purpose="samples") is images
    assert (space.stride, space.version) == (1, "pixels")


def test_encoding_there_and_back():
    images, space = torch.rand(3, 2, 8, 6), Blocks()
    latents = encode(space, images)
    assert latents.shape == (3, 8, 4, 3)
    torch.testing.assert_close(decode(space, latents, purpose="samples"), images)


def test_encoding_has_no_graph_and_the_images_type():
    layer = torch.nn.Conv2d(1, 3, 2, stride=2).double()

    class Layer(EncodesOnly):
        def encode(self, images):
            return layer(images.double())

    latents = encode(Layer(), torch.rand(2, 1, 4, 4))
    assert not latents.requires_grad
    assert latents.dtype == torch.float32


def test_encoding_there_and_back_does_not_depend_on_the_autocast_around():
    layer = torch.nn.Conv2d(1, 1, 3, padding=1)

    class Layer(EncodesOnly):
        def encode(self, images):
            return layer(images)

        decode = encode

    images = torch.rand(2, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found, drawn = encode(Layer(), images), decode(Layer(), images, purpose="samples")
    assert torch.equal(found, layer(images))
    assert torch.equal(drawn, layer(images))


@pytest.mark.parametrize(
    ("grid", "stride", "size"),
    [
        ((4, 4), 2, (8, 8)),
        ((3, 4), (2, 3), (6, 12)),
        ((4, 4), 2, (7, 8)),
        ((2, 2), 3, (9, 9)),
        ((2, 3, 2), 2, (4, 6, 4)),
    ],
)
def test_maps_keep_their_sum(grid, stride, size):
    maps = torch.rand(2, 3, *grid, dtype=torch.float64)
    spread = spread_map(maps, stride, size)
    assert spread.shape == (2, 3, *size)
    axes = tuple(range(2, 2 + len(grid)))
    torch.testing.assert_close(spread.sum(axes), maps.sum(axes))


def test_a_latent_pixel_lies_on_its_footprint():
    maps = torch.zeros(1, 3, 4)
    maps[0, 1, 2] = 12.0
    spread = spread_map(maps, (2, 3), (6, 12))
    expected = torch.zeros(1, 6, 12)
    expected[0, 2:4, 6:9] = 2.0
    assert torch.equal(spread, expected)


def test_what_no_latent_pixel_covers_is_zero():
    spread = spread_map(torch.ones(1, 2, 2), 3, (7, 7))
    assert float(spread.sum()) == pytest.approx(4)
    assert not bool(spread[:, 6].any() or spread[:, :, 6].any())


def test_pixel_maps_are_left_as_they_are():
    maps = torch.rand(2, 2, 5, 5)
    assert spread_map(maps, 1, (5, 5)) is maps


def test_a_mask_covers_every_latent_pixel_it_touches():
    mask = torch.zeros(1, 1, 4, 6)
    mask[..., 3, 2] = 0.5
    expected = torch.zeros(1, 1, 2, 2)
    expected[..., 1, 0] = 0.5
    assert torch.equal(mask_in_latents(mask, (2, 3), (2, 2)), expected)
    assert torch.equal(mask_in_latents(mask, 1, (4, 6)), mask)


def test_refuses_what_is_no_latent_space():
    class Half:
        def encode(self, images):
            return images

    with pytest.raises(TypeError, match="latent_space: expected .* got Half without stride, version"):
        check_latent_space(Half())
    for stride in (0, -1, 1.5, True, (), (2, 0)):
        space = EncodesOnly()
        space.stride = stride
        with pytest.raises(ValueError, match="latent_space: expected a stride of positive integers"):
            check_latent_space(space)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda x: x[:1], ValueError, r"expected latents \[2, c, \*grid\]"),
        (lambda x: x.flatten(1), ValueError, r"expected latents \[2, c, \*grid\]"),
        (lambda x: x / 0, ValueError, r"expected finite latents, got NaN or infinity for image\(s\) \[0, 1\]"),
        (lambda x: x.long(), TypeError, "expected floating point latents from encode, got torch.int64"),
        (lambda x: None, TypeError, "expected floating point latents from encode, got NoneType"),
    ],
)
def test_refuses_what_an_encoder_gives(made, error, message):
    space = EncodesOnly()
    space.encode = made
    with pytest.raises(error, match=message):
        encode(space, torch.rand(2, 1, 4, 4))


def test_says_what_needs_a_way_back():
    with pytest.raises(ValueError, match="expected one with decode, which counterfactuals need, got EncodesOnly"):
        check_decodes(EncodesOnly(), "counterfactuals")
    with pytest.raises(ValueError, match="which samples need"):
        decode(EncodesOnly(), torch.zeros(1, 4, 2, 2), purpose="samples")


def test_refuses_latent_pixels_outside_the_image():
    with pytest.raises(ValueError, match="expected every latent pixel inside the image"):
        spread_map(torch.ones(1, 4, 4), 2, (6, 8))
    with pytest.raises(ValueError, match="expected a stride for each of 2 spatial axes"):
        spread_map(torch.ones(1, 4, 4), (2, 2, 2), (8, 8))


def test_tokens_are_latents_of_a_space_that_lays_them_on_the_image():
    space, images = Tokens(), torch.rand(2, 1, 4, 6)
    tokens = encode(space, images)
    assert tokens.shape == (2, 4, 7)
    maps = torch.rand(2, 3, 7, dtype=torch.float64)
    pixels = maps_in_pixels(space, maps, (4, 6))
    assert pixels.shape == (2, 3, 4, 6)
    torch.testing.assert_close(pixels.sum((2, 3)), maps.sum(2))
    space.spread = lambda maps, size: maps
    with pytest.raises(ValueError, match=r"latent_space: expected maps of the image's size \[4, 6\], got \[2, 3, 7\]"):
        maps_in_pixels(space, maps, (4, 6))


def test_maps_of_other_spaces_lie_on_footprints():
    maps = torch.rand(2, 2, 3)
    assert torch.equal(maps_in_pixels(Blocks(), maps, (4, 6)), spread_map(maps, 2, (4, 6)))
    assert maps_in_pixels(GivenLatents(), maps, (4, 6)) is maps, "of which no image is known"


@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 4, 3, 3)])
def test_given_latents_are_taken_as_they_are(shape):
    latents, space = torch.rand(shape), GivenLatents("somewhere")
    assert encode(space, latents) is latents
    assert check_latent_space(space).version == "somewhere"
