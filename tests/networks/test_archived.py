"""monai-generative 0.2.3 as it is: its networks, autoencoders and schedulers beside MONAI's own."""

from __future__ import annotations

from importlib import util

import monai.networks.nets as monai_nets
import monai.networks.schedulers as monai_schedulers
import pytest
import torch

from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import AutoencoderSpace, Denoiser, import_generative, load_generative_checkpoint
from monai_diffclf.networks.schedulers import NoiseProcess, TableProcess

pytestmark = [
    pytest.mark.skipif(util.find_spec("generative") is None, reason="the extra generative is not installed"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SCHEDULES = {"beta_start": 0.0015, "beta_end": 0.0205, "schedule": "scaled_linear_beta"}
UNET = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 3,
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "num_head_channels": (0, 8),
}
AUTOENCODER = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 3,
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "attention_levels": (False, False),
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
CLASSES = {"class_labels": {"num_class_embeds": 3}, "crossattn": {"with_conditioning": True, "cross_attention_dim": 3}}


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights throughout: the last layer of a U-Net begins as zeros."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=generator)
    return network.eval()


def old_unet(conditioning: str) -> torch.nn.Module:
    import_generative()
    from generative.networks.nets import DiffusionModelUNet

    return randomised(DiffusionModelUNet(**UNET, num_channels=(4, 8), **CLASSES[conditioning]))


def new_unet(conditioning: str, old: torch.nn.Module) -> torch.nn.Module:
    fc = conditioning == "crossattn"  # which monai-generative applies in its cross-attention only
    network = monai_nets.DiffusionModelUNet(**UNET, channels=(4, 8), **CLASSES[conditioning], include_fc=fc)
    load_generative_checkpoint(network, old.state_dict())
    return network.eval()


def autoencoders() -> tuple[torch.nn.Module, torch.nn.Module]:
    import_generative()
    from generative.networks.nets import AutoencoderKL

    old = randomised(AutoencoderKL(**AUTOENCODER, num_channels=(4, 8)))
    new = monai_nets.AutoencoderKL(**AUTOENCODER, channels=(4, 8))
    new.load_old_state_dict(dict(old.state_dict()))
    return old, new.eval()


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_schedulers_have_the_same_tables(name, kind):
    import_generative()
    import generative.networks.schedulers as archived

    old, new = (
        getattr(source, name)(100, prediction_type=kind, **SCHEDULES) for source in (archived, monai_schedulers)
    )
    ours, theirs = NoiseProcess.of(old), NoiseProcess.of(new)
    steps = torch.arange(100)
    assert isinstance(ours, TableProcess) and ours.prediction_type == theirs.prediction_type == kind
    assert torch.equal(ours.log_snr(steps), theirs.log_snr(steps))
    x, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0, 20, 60, 99])
    torch.testing.assert_close(ours.add_noise(x, noise, levels), old.add_noise(x, noise, levels))


@pytest.mark.parametrize("conditioning", CLASSES)
def test_errors_are_those_of_the_same_weights_in_monai(conditioning, device):
    import_generative()
    from generative.networks.schedulers import DDIMScheduler

    old = old_unet(conditioning)
    new = new_unet(conditioning, old)
    first, second = (autoencoder.to(device) for autoencoder in autoencoders())
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)).to(device)
    values = []
    for network, autoencoder, kind in (
        (old, first, DDIMScheduler),
        (new, second, monai_schedulers.DDIMScheduler),
    ):
        space = AutoencoderSpace(autoencoder, scaling_factor=0.3)
        scheduler = kind(100, prediction_type="v_prediction", **SCHEDULES)
        inferer = DiffusionClassifierInferer(
            scheduler, num_draws=5, conditioning=conditioning, latent_space=space, rule="mean"
        )
        result = inferer.classify(images, network.to(device))
        torch.testing.assert_close(
            result.probabilities.sum(1), torch.ones(2, device=device).double(), check_dtype=False
        )
        values.append(result.errors.values)
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-6)
    assert float((values[0][:, 0] - values[0][:, 1]).abs().max()) > 1e-4


def test_denoiser_takes_it(device):
    import_generative()
    from generative.networks.schedulers import DDPMScheduler

    denoiser = Denoiser(old_unet("class_labels").to(device), DDPMScheduler(100), device=device)
    noisy, labels = torch.randn(2, 3, 8, 8).to(device), torch.tensor([0, 1], device=device)
    assert denoiser.clean(noisy, torch.tensor(50, device=device), labels).shape == noisy.shape


def test_vqvae_of_the_package_encodes(device):
    import_generative()
    from generative.networks.nets import VQVAE

    network = VQVAE(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_channels=(4, 4),
        num_res_channels=4,
        num_res_layers=1,
        downsample_parameters=((2, 4, 1, 1), (2, 4, 1, 1)),
        upsample_parameters=((2, 4, 1, 1, 0), (2, 4, 1, 1, 0)),
        num_embeddings=8,
        embedding_dim=4,
    ).to(device)
    images = torch.rand(2, 1, 16, 16, device=device)
    space = AutoencoderSpace(network)
    with torch.no_grad():
        expected = network.encode_stage_2_inputs(images)
    assert torch.equal(space.encode(images), expected) and space.stride == 4


def test_refuses_what_is_no_scheduler():
    with pytest.raises(TypeError, match="expected a monai.networks.schedulers.Scheduler, got Linear"):
        NoiseProcess.of(torch.nn.Linear(1, 1))
