"""Any network in wavelet space; the networks of Favero et al. have the published numbers of parameters."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.networks import Denoiser, check_uses_classes, fast_inference
from monai_diffclf.networks.layers.haar import haar_forward
from monai_diffclf.networks.nets import DiT, WaveletDiffusionUNet, WaveletNetwork

TOKENS = {
    "channels": (4, 8),
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "num_head_channels": 4,
    "with_conditioning": True,
    "cross_attention_dim": 8,
    "num_class_tokens": 3,
}


def randomised(network):
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return network.eval()


def count(make) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in make().parameters())


def unet_of_favero() -> WaveletDiffusionUNet:
    levels = [False, False, False, True, False]
    sizes = {"channels": [128, 128, 256, 512, 1024], "attention_levels": levels, "num_res_blocks": 2}
    heads = {"num_head_channels": [16, 16, 32, 64, 128], "norm_num_groups": 32}
    return WaveletDiffusionUNet(
        2, 3, **sizes, **heads, with_conditioning=True, cross_attention_dim=512, num_class_tokens=3
    )


def test_the_unet_of_favero_et_al_has_its_number_of_parameters():
    # diffusers' U-Net of these settings, 275,840,268 with the projection of the context, and three embeddings.
    assert count(unet_of_favero) == 275_840_268 + 3 * 512


def test_the_unet_of_favero_et_al_is_that_of_diffusers_layer_by_layer():
    diffusers = pytest.importorskip("diffusers", reason="diffusers, the second library, is not installed")
    with torch.device("meta"):
        own = unet_of_favero()
        theirs = diffusers.UNet2DConditionModel(
            sample_size=128,
            in_channels=12,
            out_channels=12,
            block_out_channels=(128, 128, 256, 512, 1024),
            layers_per_block=2,
            cross_attention_dim=512,
            encoder_hid_dim=512,
            encoder_hid_dim_type="text_proj",
            down_block_types=("DownBlock2D",) * 3 + ("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D") + ("UpBlock2D",) * 3,
        )
    shapes = [sorted(tuple(w.shape) for w in network.parameters()) for network in (own, theirs)]
    ours = [shape for shape in shapes[0] if shape != (3, 512)]
    assert len(ours) == len(shapes[0]) - 1
    # Layers of 1 x 1 are convolutions in one library and linear in the other.
    flat = [sorted(tuple(n for n in shape if n > 1) for shape in each) for each in (ours, shapes[1])]
    assert flat[0] == flat[1]


def test_the_dit_of_favero_et_al_has_its_number_of_parameters():
    settings = {"in_channels": 12, "input_size": 128, "num_class_embeds": 1001, "shared_embedding": False}
    assert count(lambda: WaveletNetwork(DiT.sized("B", 4, **settings))) == 147_698_112


@pytest.mark.parametrize("dims", [2, 3])
def test_is_the_network_in_wavelet_space(dims, device):
    inner = DiT(dims, 2**dims, 4, 2, hidden_size=16, num_layers=1, num_heads=2, num_class_embeds=3)
    network = randomised(WaveletNetwork(inner, spatial_dims=dims)).to(device)
    images = torch.randn(2, 1, *(8,) * dims, generator=torch.Generator().manual_seed(0)).to(device)
    call = {"timesteps": torch.tensor([7, 900]).to(device), "class_labels": torch.tensor([0, 2]).to(device)}
    with torch.no_grad():
        out = haar_forward(network(images, **call), spatial_dims=dims)
        torch.testing.assert_close(out, inner(haar_forward(images, spatial_dims=dims), **call), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast_inference(network)(images, **call), network(images, **call))
    check_uses_classes(Denoiser(network, DDPMScheduler(100), 2, device=device), images, null_class=True)


def test_class_tokens_are_the_context(device):
    network = randomised(WaveletDiffusionUNet(2, 1, **TOKENS)).to(device)
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(device)
    times, labels = torch.tensor([7, 900]).to(device), torch.tensor([0, 2]).to(device)
    with torch.no_grad():
        out = network(images, times, class_labels=labels)
        token = network.class_token.project(network.class_token.class_embedding.weight[labels])[:, None]
        plain = network.unet(haar_forward(images), timesteps=times, context=token)
        torch.testing.assert_close(haar_forward(out), plain, rtol=1e-4, atol=1e-4)
        fast = fast_inference(network)(images, times, class_labels=labels)
        torch.testing.assert_close(fast, out, rtol=1e-4, atol=1e-4)
    check_uses_classes(Denoiser(network, DDPMScheduler(100), 2, device=device), images, null_class=True)
    with pytest.raises(ValueError, match="expected class embeddings for labels 0 to 4, got 3"):
        check_uses_classes(Denoiser(network, DDPMScheduler(100), 4, device=device), images, null_class=True)


def test_bad_settings_and_calls_are_refused():
    with pytest.raises(TypeError, match="network: expected an nn.Module, got int"):
        WaveletNetwork(3)
    with pytest.raises(ValueError, match="spatial_dims: expected 2 or 3, got 1"):
        WaveletNetwork(torch.nn.Identity(), spatial_dims=1)
    with pytest.raises(ValueError, match="num_class_tokens: expected with_conditioning=True"):
        WaveletDiffusionUNet(2, 1, **{**TOKENS, "with_conditioning": False})
    with pytest.raises(ValueError, match="the class reaches the network twice"):
        WaveletDiffusionUNet(2, 1, **TOKENS, num_class_embeds=3)
    with pytest.raises(ValueError, match="class_labels: expected labels"):
        WaveletDiffusionUNet(2, 1, **TOKENS)(torch.zeros(1, 1, 8, 8), torch.tensor([1]))
