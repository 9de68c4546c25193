"""The tiny autoencoder: diffusers' own, where both have the same weights."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.networks.nets import TinyAutoencoder


def test_is_the_network_of_diffusers(device):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    other = diffusers.AutoencoderTiny(latent_channels=4).eval().to(device)
    ours = TinyAutoencoder(4).to(device)
    for part in ("encoder", "decoder"):
        weights = getattr(other, part).state_dict()
        numbered = {name.removeprefix("layers."): value for name, value in weights.items()}
        if part == "decoder":  # diffusers limits latents outside of its numbered layers
            numbered = {f"{int(n.split('.')[0]) + 1}.{n.split('.', 1)[1]}": value for n, value in numbered.items()}
        getattr(ours, part).load_state_dict(numbered)
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    with torch.no_grad():
        latents = ours.encode(images)
        torch.testing.assert_close(latents, other.encode(images).latents, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(5 * latents), other.decode(5 * latents).sample, rtol=1e-5, atol=1e-5)
        assert torch.equal(ours(images), ours.decode(latents))


def test_has_the_published_number_of_weights():
    def count(network):
        return sum(each.numel() for each in network.parameters())

    assert count(TinyAutoencoder(4)) == 2_445_063
    assert count(TinyAutoencoder(32, normalised=True)) == 2_677_027  # both files of TAEF2


@pytest.mark.parametrize(("name", "value"), [("latent_channels", 0), ("features", 2.5), ("latent_channels", True)])
def test_refuses_sizes_that_are_none(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got {value!r}"):
        TinyAutoencoder(**{name: value})
