"""Latents of autoencoders: MONAI's, diffusers' and a tiny one, held to what each library makes of them itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from monai.inferers import LatentDiffusionInferer
from monai.networks.nets import VQVAE, AutoencoderKL
from monai.networks.schedulers import DDPMScheduler
from PIL import Image

from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import AutoencoderSpace, LatentSpace, latent_scaling, load_autoencoder
from monai_diffclf.networks.nets import TinyAutoencoder
from monai_diffclf.representations.cross_fit import AlignedSpace
from monai_diffclf.sampling import sample_classes
from tests.tiny_unet import tiny_unet


def monai_kl(axes: int = 2, channels: int = 1) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        axes,
        in_channels=channels,
        out_channels=channels,
        num_res_blocks=(1, 1, 1),
        channels=(4, 4, 8),
        attention_levels=(False, False, False),
        latent_channels=3,
        norm_num_groups=2,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


def monai_vqvae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(
        2,
        1,
        1,
        channels=(4, 8),
        num_res_channels=(4, 8),
        num_res_layers=1,
        downsample_parameters=((2, 4, 1, 1), (2, 4, 1, 1)),
        upsample_parameters=((2, 4, 1, 1, 0), (2, 4, 1, 1, 0)),
        num_embeddings=8,
        embedding_dim=3,
    ).eval()


def images(count: int = 2, channels: int = 1, size: tuple[int, ...] = (16, 24)) -> torch.Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_monai_autoencoder_kl_is_encoded_to_its_mean(device):
    network, x = monai_kl().to(device), images().to(device)
    space = AutoencoderSpace(network, scaling_factor=0.3, shift_factor=0.1)
    assert isinstance(space, LatentSpace)
    assert (space.stride, space.channels) == (4, 1)
    with torch.no_grad():
        mean, _ = network.encode(x)
        latents = space.encode(x)
        torch.testing.assert_close(latents, (mean - 0.1) * 0.3)
        torch.testing.assert_close(space.decode(latents), network.decode(mean), rtol=1e-4, atol=1e-5)
    assert torch.equal(latents, space.encode(x)), "the same at every call"


def test_volumes(device):
    space = AutoencoderSpace(monai_kl(3).to(device))
    latents = space.encode(images(1, 1, (8, 12, 8)).to(device))
    assert latents.shape == (1, 3, 2, 3, 2)
    assert space.decode(latents).shape == (1, 1, 8, 12, 8)


def test_monai_vqvae_is_what_monais_own_inferer_diffuses():
    network, x = monai_vqvae(), images()
    space, seen = AutoencoderSpace(network, scaling_factor=0.7), {}

    class Spy(torch.nn.Module):
        def forward(self, x, timesteps, context=None):
            seen["noisy"] = x
            return x

    scheduler = DDPMScheduler(10)
    noise, timesteps = torch.zeros(2, 3, 4, 6), torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        LatentDiffusionInferer(scheduler, scale_factor=0.7)(x, network, Spy(), noise, timesteps)
        latents = space.encode(x)
        torch.testing.assert_close(latents * scheduler.alphas_cumprod[0].sqrt(), seen["noisy"])
        torch.testing.assert_close(space.decode(latents), network(x)[0])
        between = latents + 1e-3
        assert torch.equal(space.decode(between), space.decode(latents)), "quantised anew"
    assert space.stride == 4


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_folders_of_diffusers(kind, tmp_path, device):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    if kind == "AutoencoderKL":
        settings = {"block_out_channels": (4, 8), "norm_num_groups": 2, "scaling_factor": 1.5305, "shift_factor": 0.06}
        settings["down_block_types"], settings["up_block_types"] = (
            ("DownEncoderBlock2D",) * 2,
            ("UpDecoderBlock2D",) * 2,
        )
    else:
        channels = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
        settings = {**channels, "scaling_factor": 0.5}
    made = getattr(diffusers, kind)(**settings).eval()
    made.save_pretrained(tmp_path)
    space = AutoencoderSpace(load_autoencoder(tmp_path).to(device), channels=1)
    factors = (1.5305, 0.06) if kind == "AutoencoderKL" else (0.5, 0.0)
    assert (space.scaling_factor, space.shift_factor) == factors
    x = images().to(device)
    wide = x.expand(-1, 3, -1, -1)
    with torch.no_grad():
        made = made.to(device)
        code = made.encode(wide).latent_dist.mode() if kind == "AutoencoderKL" else made.encode(wide).latents
        latents = space.encode(x)
        torch.testing.assert_close(latents, (code - factors[1]) * factors[0], rtol=1e-4, atol=1e-5)
        drawn = made.decode(latents / factors[0] + factors[1]).sample
        torch.testing.assert_close(space.decode(latents), drawn.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert space.stride == (2 if kind == "AutoencoderKL" else 8)
    assert AutoencoderSpace(load_autoencoder(tmp_path)).version != space.version, "grey or not"


def tiny_folder(path, *, normalised: bool = True):
    torch.manual_seed(0)
    network = TinyAutoencoder(5, features=8, normalised=normalised)
    torch.save(network.encoder.state_dict(), path / "tae_encoder.pth")
    torch.save(network.decoder.state_dict(), path / "tae_decoder.pth")
    return network


@pytest.mark.parametrize("normalised", [True, False])
def test_folders_of_a_tiny_autoencoder(normalised, tmp_path):
    network, x = tiny_folder(tmp_path, normalised=normalised), images(channels=3)
    found = load_autoencoder(tmp_path)
    with torch.no_grad():
        assert torch.equal(found(x), network(x))


@pytest.mark.parametrize(("folder", "grey"), [("kermany_cxr_224/images", True), ("isic2017_256/images", False)])
def test_real_images_come_back(dataset, folder, grey, device):
    """At 128 px, where the mean PSNR is 34 dB on chest X-rays and 33 dB on dermoscopy, in a grey X-ray as in colour."""
    space = AutoencoderSpace(
        load_autoencoder(dataset("weights_taef2")).to(device), channels=1 if grey else 3, batch_size=3
    )
    root = dataset(folder.split("/")[0])
    files = sorted(each for each in root.rglob("*.jp*g"))[::200][:8]
    assert files, "no pictures in the folder"
    pictures = [np.array(Image.open(each).convert("L" if grey else "RGB").resize((128, 128))) for each in files]
    x = torch.tensor(np.stack(pictures)).float().to(device) / 127.5 - 1
    x = x[:, None] if grey else x.permute(0, 3, 1, 2)
    latents = space.encode(x)
    assert latents.shape == (len(files), 32, 16, 16)
    assert 0.7 < float(latents.std()) < 1.1
    error = ((space.decode(latents).clamp(-1, 1) - x) / 2).square().flatten(1).mean(1)
    assert float((-10 * error.log10()).mean()) > 31
    torch.testing.assert_close(latents[:2], space.encode(x[:2]), rtol=1e-3, atol=1e-3)


def test_scaling_of_many_batches_is_that_of_all_images():
    space = AutoencoderSpace(monai_kl(), scaling_factor=7.0, shift_factor=0.2)
    batches = [images(3), images(5) * 0.5, images(1)]
    codes = torch.cat([space.encode(each) / 7.0 for each in batches]).double()
    assert math.isclose(latent_scaling(space, batches), 1 / float(codes.std(correction=0)), rel_tol=1e-5)
    with pytest.raises(ValueError, match="batches: expected images with codes that differ, got 0"):
        latent_scaling(space, [])


def test_batches_and_precision_do_not_matter():
    x = images(5)
    one, many = (AutoencoderSpace(monai_kl(), batch_size=size) for size in (1, 8))
    torch.testing.assert_close(one.encode(x), many.encode(x), rtol=1e-4, atol=1e-5)
    assert one.encode(x[:0]).shape == (0, 3, 4, 6)
    half = AutoencoderSpace(monai_kl().bfloat16()).encode(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, many.encode(x), rtol=0.1, atol=0.1)


def test_the_version_knows_weights_and_factors():
    versions = {
        AutoencoderSpace(monai_kl()).version,
        AutoencoderSpace(monai_kl(), scaling_factor=0.5).version,
        AutoencoderSpace(monai_kl(), shift_factor=0.5).version,
    }
    other = monai_kl()
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert len(versions | {AutoencoderSpace(other).version}) == 4
    assert AutoencoderSpace(monai_kl()).version in versions


def test_the_version_follows_weights_that_are_trained_on():
    network = monai_kl()
    space = AutoencoderSpace(network)
    turned = AlignedSpace(space, torch.eye(3)[None], torch.zeros(1, 3), 1.0)
    before = space.version, turned.version
    assert (space.version, turned.version) == before
    with torch.no_grad():
        next(network.encoder.parameters()).mul_(3)
    assert space.version != before[0] and turned.version != before[1]


def test_classifies_and_draws(device):
    space = AutoencoderSpace(TinyAutoencoder(3, features=8).to(device), channels=1)
    scheduler = DDPMScheduler(100, schedule="scaled_linear_beta")
    network = tiny_unet(channels=3).to(device).eval()
    inferer = DiffusionClassifierInferer(scheduler, num_draws=3, latent_space=space)
    x = images(2, 1, (64, 64)).to(device)
    result = inferer.classify(x, network, error_maps=True)
    assert result.error_maps.shape == (2, 2, 64, 64)
    assert result.errors.num_elements == 3 * 8 * 8
    drawn = sample_classes(network, scheduler, torch.tensor([0, 1]), (3, 8, 8), num_classes=2, latent_space=space)
    assert drawn.shape == (2, 1, 64, 64)


def test_refuses_what_does_not_fit():
    with pytest.raises(TypeError, match="autoencoder: expected a network with encode and decode, got Identity without"):
        AutoencoderSpace(torch.nn.Identity())
    for settings, message in (
        ({"channels": 3}, "channels: expected 1, which the autoencoder takes, got 3"),
        ({"scaling_factor": 0.0}, "scaling_factor: expected a positive number, got 0.0"),
        ({"shift_factor": math.nan}, "shift_factor: expected a finite number, got nan"),
        ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            AutoencoderSpace(monai_kl(), **settings)
    with pytest.raises(ValueError, match="channels: expected 3, which the autoencoder takes, or 1, got 2"):
        AutoencoderSpace(monai_kl(channels=3), channels=2)
    space = AutoencoderSpace(monai_kl())
    with pytest.raises(ValueError, match=r"images: expected 1 channel\(s\)"):
        space.encode(images(channels=3))
    with pytest.raises(ValueError, match=r"images: expected a size that the autoencoder's stride \[4, 4\] divides"):
        space.encode(images(size=(16, 18)))
    with pytest.raises(ValueError, match="stride: expected one that leads from an image"):
        AutoencoderSpace(monai_kl(), stride=2).encode(images())


def test_refuses_folders_that_hold_something_else(tmp_path):
    with pytest.raises(ValueError, match="folder: expected a local folder with config.json and safetensors, or"):
        load_autoencoder(tmp_path)
    tiny_folder(tmp_path)
    torch.save({"0.weight": torch.ones(8, 3, 3, 3)}, tmp_path / "tae_encoder.pth")
    with pytest.raises(ValueError, match="folder: expected the weights of a tiny autoencoder .* got others"):
        load_autoencoder(tmp_path)
    torch.save({}, tmp_path / "other_encoder.pth")
    with pytest.raises(ValueError, match="folder: expected one .* got several"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="folder: expected an autoencoder, AutoencoderKL or AutoencoderTiny, in"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="got no safetensors; other files are not opened"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(ValueError, match="folder: expected a JSON object in"):
        load_autoencoder(tmp_path)


def test_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    monkeypatch.setattr("monai_diffclf._optional.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"needs the package diffusers; install it with: pip install 'monai-diffclf\[d"
    ):
        load_autoencoder(tmp_path)
