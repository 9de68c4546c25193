"""Statistics of images: closed forms, what they do not depend on, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.fft import dctn

from monai_diffclf.uncertainty import image_statistics, latent_statistics


def test_values_of_a_ramp(device):
    ramp = torch.linspace(-1, 1, 256, dtype=torch.float64).reshape(1, 1, 16, 16).to(device)
    mean, spread, *order = image_statistics(ramp)["values"][0].cpu().tolist()
    assert mean == pytest.approx(0, abs=1e-12) and spread == pytest.approx(float(ramp.std(unbiased=False)))
    assert order == pytest.approx([-1, -0.9, -0.5, 0, 0.5, 0.9, 1], abs=1 / 128)


def test_detail_of_a_ramp():
    ramp = torch.linspace(-1, 1, 17)[:16].expand(1, 1, 16, 16).double()
    detail = image_statistics(ramp)["detail"][0].tolist()
    step = math.log(0.125**2)
    # Nothing along the first axis or along both; along the second all steps alike, and twice as long at each scale.
    assert detail[2] == pytest.approx(step) and detail[3] == pytest.approx(0, abs=1e-9)
    assert detail[0] == detail[4] == pytest.approx(math.log(1e-8))
    assert [detail[7], detail[10]] == pytest.approx([step + math.log(4), step + math.log(16)])


def test_spectrum_is_the_cosine_transform():
    image = torch.randn(1, 1, 12, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    energy = dctn(image[0, 0].numpy(), norm="ortho") ** 2
    spectrum = image_statistics(image)["spectrum"][0]
    # The bands begin with the mean alone, then the first frequency.
    assert float(spectrum[0]) == pytest.approx(math.log(energy[0, 1]))
    ratio = torch.exp(image_statistics(2 * image)["spectrum"][0] - spectrum)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 4.0))


@pytest.mark.parametrize("size", [(8, 11), (28, 28), (8, 9, 16)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_for_itself(size, channels, device):
    images = torch.rand(3, channels, *size, generator=torch.Generator().manual_seed(0)).to(device)
    together = image_statistics(images)
    assert ("colour" in together) == (channels == 3)
    for name, values in image_statistics(images[1:2]).items():
        assert values.dtype == torch.float64 and values.device == images.device
        torch.testing.assert_close(values[0], together[name][1])
        assert bool(torch.isfinite(values).all())
    assert all(len(values) == 0 for values in image_statistics(images[:0]).values())


def test_constant_images_are_finite():
    assert all(bool(torch.isfinite(x).all()) for x in image_statistics(torch.zeros(1, 3, 8, 8)).values())


def test_latents():
    latents = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    found = latent_statistics(latents)["latents"]
    torch.testing.assert_close(found[:, :3], latents.mean((2, 3)))
    torch.testing.assert_close(found[:, 3:].exp(), latents.var((2, 3), unbiased=False))
    tokens = latent_statistics(latents.flatten(2))["latents"]
    assert torch.equal(tokens, found)


def test_refused():
    with pytest.raises(ValueError, match=r"images: expected \[B, C, \*spatial\] of at least 8 pixels a side"):
        image_statistics(torch.zeros(1, 1, 7, 8))
    with pytest.raises(ValueError, match="images: expected finite values, got NaN or infinity"):
        image_statistics(torch.full((1, 1, 8, 8), torch.nan))
