"""An equivalent network for inference: the same predictions, the given network untouched."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.conditioning import one_hot_context
from monai_diffclf.networks.fast_blocks import Norm, UpsampleConvolution
from monai_diffclf.networks.fast_inference import FastNetwork, FastUNet, fast_inference
from monai_diffclf.networks.nets import WaveletDiffusionUNet

SMALL = {
    "channels": (8, 16),
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "num_head_channels": 8,
}
CROSS = {"with_conditioning": True, "cross_attention_dim": 3}
CASES = {
    "classes": (2, {"num_class_embeds": 3}, (16, 16)),
    "no classes": (2, {}, (16, 16)),
    "odd sizes": (2, {"num_class_embeds": 3}, (14, 22)),
    "three levels": (
        2,
        {"channels": (8, 16, 8), "attention_levels": (True, False, True), "num_res_blocks": (2, 1, 2)},
        (12, 20),
    ),
    "residual resampling": (2, {"resblock_updown": True, "num_class_embeds": 3}, (16, 12)),
    "combined linear": (2, {"use_combined_linear": True}, (16, 16)),
    "no projection": (2, {"include_fc": False}, (16, 16)),
    "fused attention": (2, {"use_flash_attention": True}, (16, 16)),
    "cross-attention": (2, {**CROSS, "transformer_num_layers": 2, "upcast_attention": True}, (16, 16)),
    "cross-attention, residual resampling": (2, {**CROSS, "resblock_updown": True}, (12, 20)),
    "3D": (3, {"num_class_embeds": 3}, (8, 8, 12)),
    "3D, cross-attention": (3, {**CROSS, "resblock_updown": True}, (8, 12, 8)),
}


def randomise(network, device="cpu"):
    """Eval mode, and random weights everywhere: MONAI starts some at zero, which would hide what they do."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        spread = 0.2 if weight.ndim < 2 or "embed" in name else weight[0].numel() ** -0.5
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weight.data = centre + spread * torch.randn(weight.shape, generator=generator)
    return network.to(device).eval()


def make(spatial_dims=2, device="cpu", **settings):
    return randomise(DiffusionModelUNet(spatial_dims, 1, 1, **{**SMALL, **settings}), device)


def make_inputs(network, size, batch=3, device="cpu", tokens=1):
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "x": torch.randn(batch, 1, *size, generator=generator),
        "timesteps": torch.randint(0, 1000, (batch,), generator=generator),
    }
    unet = getattr(network, "unet", network)
    if unet.num_class_embeds is not None:
        inputs["class_labels"] = torch.arange(batch) % 3
    if unet.with_conditioning:
        inputs["context"] = torch.randn(batch, tokens, 3, generator=generator)
    return {name: value.to(device) for name, value in inputs.items()}


def assert_same(prediction, expected):
    assert expected.std() > 0.03
    assert prediction.shape == expected.shape
    assert prediction.dtype == expected.dtype
    torch.testing.assert_close(prediction, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """No TensorFloat-32 on GPUs, which rounds to 1e-3."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("case", CASES)
def test_predicts_the_same(case, device):
    spatial_dims, settings, size = CASES[case]
    network = make(spatial_dims, device, **settings)
    inputs = make_inputs(network, size, device=device)
    fast = fast_inference(network)
    assert isinstance(fast.network, FastUNet)
    with torch.inference_mode():
        assert_same(fast(**inputs), network(**inputs))


@pytest.mark.parametrize("tokens", [1, 4])
def test_context_of_any_length(tokens, device):
    network = make(device=device, **CROSS)
    inputs = make_inputs(network, (16, 16), device=device, tokens=tokens)
    with torch.inference_mode():
        assert_same(fast_inference(network)(**inputs), network(**inputs))


def test_without_context_the_image_attends_to_itself(device):
    network = make(device=device, with_conditioning=True, cross_attention_dim=16)
    inputs = {name: value for name, value in make_inputs(make(), (16, 16), device=device).items() if name != "context"}
    with torch.inference_mode():
        assert_same(fast_inference(network)(**inputs), network(**inputs))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_wavelet_network(spatial_dims, device):
    network = randomise(WaveletDiffusionUNet(spatial_dims, 1, num_class_embeds=3, **SMALL), device)
    inputs = make_inputs(network, (16,) * spatial_dims, device=device)
    fast = fast_inference(network)
    assert isinstance(fast.network.unet, FastUNet)
    with torch.inference_mode():
        expected = network(**inputs)
        assert_same(fast(**inputs), expected)
        x, timesteps, labels = inputs.values()
        assert_same(fast(x, timesteps, None, labels), expected)


def test_residuals_of_a_controlnet(device):
    network = make(device=device)
    inputs = make_inputs(network, (8, 8), device=device)
    with torch.inference_mode():
        skips = [network.conv_in(inputs["x"])]
        shapes = [(8, 8, 8), (8, 8, 8), (8, 4, 4), (16, 4, 4)]
        skips = tuple(torch.full((3, *shape), 0.3, device=device) for shape in shapes)
        inputs |= {
            "down_block_additional_residuals": skips,
            "mid_block_additional_residual": torch.full((3, 16, 4, 4), 0.5, device=device),
        }
        assert_same(fast_inference(network)(**inputs), network(**inputs))


def test_reduced_precision_runs(device):
    network = make(device=device, num_class_embeds=3)
    inputs = make_inputs(network, (16, 16), device=device)
    fast = fast_inference(network)
    with torch.inference_mode():
        exact = network(**inputs)
        with torch.autocast(device, dtype=torch.bfloat16):
            prediction = fast(**inputs)
    assert (prediction.float() - exact).abs().max() < 0.1 * exact.std()
    double = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.inference_mode():
        assert_same(fast.double()(**double), network.double()(**double))


def test_the_given_network_is_untouched(device):
    network = make(device=device, num_class_embeds=3)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    strides = [weight.stride() for weight in network.parameters()]
    inputs = make_inputs(network, (16, 16), device=device)
    fast = fast_inference(network)
    with torch.inference_mode():
        expected = fast(**inputs)
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert [weight.stride() for weight in network.parameters()] == strides
        assert all(weight.requires_grad for weight in network.parameters())
        for weight in network.parameters():  # the copy does not follow
            weight.zero_()
        torch.testing.assert_close(fast(**inputs), expected)  # a GPU may choose another kernel
    assert not any(weight.requires_grad for weight in fast.parameters())
    assert not any(module.training for module in fast.modules())


def test_inputs_are_untouched(device):
    network = make(device=device, attention_levels=(True, True))
    inputs = make_inputs(network, (16, 16), device=device)
    before = copy.deepcopy(inputs)
    fast_inference(network)(**inputs)
    assert all(torch.equal(value, before[name]) for name, value in inputs.items())


def test_classifies_the_same(device):
    network = make(device=device, **CROSS)
    inferer = DiffusionClassifierInferer(
        DDPMScheduler(100), num_classes=2, num_draws=5, conditioning=one_hot_context(2), batch_size=8
    )
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
    expected = inferer.compute_errors(images, network).values
    errors = inferer.compute_errors(images, fast_inference(network)).values
    torch.testing.assert_close(errors, expected, rtol=1e-4, atol=1e-5)


def test_norm_of_values_far_from_zero():
    # The mean is 1000 times the spread: sums of squares would lose all digits of the variance.
    norm = randomise(nn.GroupNorm(2, 8, eps=1e-6))
    x = 1000 + torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    shift = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    expected = norm.double()(x.double() + shift.double()[..., None, None])
    norm.float()
    y = Norm(norm, activate=False)(x.contiguous(memory_format=torch.channels_last), shift)
    torch.testing.assert_close(y.double(), expected, rtol=1e-3, atol=1e-3)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_upsampling_and_convolution_as_one(kind):
    convolution = randomise(kind(3, 5, 3, padding=1)).double()
    x = torch.randn(2, 3, *(4, 5, 3)[: convolution.weight.ndim - 2], dtype=torch.float64)
    expected = convolution(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(UpsampleConvolution(convolution)(x), expected)


class Unknown(nn.Module):
    """A network that the package knows nothing of."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, timesteps, scale=1.0):
        return self.convolution(x) * scale + timesteps.view(-1, 1, 1, 1)


def test_an_unknown_network_keeps_its_code():
    network = Unknown().eval()
    fast = fast_inference(network)
    x, timesteps = torch.rand(2, 1, 6, 6), torch.tensor([1, 2])
    with torch.inference_mode():
        assert_same(fast(x, timesteps, scale=2.0), network(x, timesteps, scale=2.0))
    assert isinstance(fast.network, Unknown)


class LowRank(nn.Module):
    """A linear layer with an addition, as adapters for fine-tuning put in the place of another."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.addition = layer, nn.Linear(layer.in_features, layer.out_features)

    def forward(self, x):
        return self.layer(x) + self.addition(x)


@pytest.mark.parametrize("change", ["layer", "hook", "subclass"])
def test_a_changed_unet_keeps_its_code(change):
    network = make()
    block = network.middle_block.resnet_1
    if change == "layer":
        block.time_emb_proj = LowRank(block.time_emb_proj).eval()
    elif change == "hook":
        block.register_forward_hook(lambda module, arguments, output: 2 * output)
    else:
        network.__class__ = type("Own", (DiffusionModelUNet,), {})
    inputs = make_inputs(network, (16, 16))
    fast = fast_inference(network)
    assert isinstance(fast.network, DiffusionModelUNet)
    with torch.inference_mode():
        assert_same(fast(**inputs), network(**inputs))


class Recorder(nn.Module):
    """Keeps the batch sizes it is called with, and writes every prediction into the same memory."""

    def __init__(self):
        super().__init__()
        self.sizes, self.memory = [], torch.zeros(64, 1, 4, 4)

    def forward(self, x, timesteps, class_labels=None, residuals=()):
        self.sizes.append(len(x))
        assert all(len(value) == len(x) for value in (timesteps, class_labels, *residuals))
        return torch.add(x, (timesteps + class_labels).view(-1, 1, 1, 1), out=self.memory[: len(x)])


def test_batches_are_filled_up_to_a_size_seen_before():
    recorder = Recorder().eval()
    fast = FastNetwork(recorder, fill_up=True).eval()
    predictions, expected = [], []
    for batch in (8, 5, 8, 3, 20, 2):
        x, labels = torch.rand(batch, 1, 4, 4), torch.arange(batch) % 2
        predictions.append(fast(x, torch.arange(batch), class_labels=labels, residuals=(x,)))
        expected.append(x + (torch.arange(batch) + labels).view(-1, 1, 1, 1))
    assert recorder.sizes == [8, 8, 8, 3, 20, 3]
    for prediction, values in zip(predictions, expected, strict=True):
        assert torch.equal(prediction, values)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [True, "reduce-overhead"])
def test_compiled(mode, device):
    network = make(device=device, num_class_embeds=3)
    fast = fast_inference(network, compile=mode)
    with torch.inference_mode():
        for batch in (4, 3, 4):
            inputs = make_inputs(network, (8, 8), batch, device)
            assert_same(fast(**inputs), network(**inputs))
    assert fast.batch_sizes == {4}


def test_refuses_gradients():
    network = make()
    inputs = make_inputs(network, (8, 8))
    fast = fast_inference(network)
    x = inputs.pop("x").requires_grad_()
    with pytest.raises(ValueError, match="x: expected no gradients, but x requires them; differentiate the plain"):
        fast(x, **inputs)
    with pytest.raises(ValueError, match="x: expected no gradients"):
        torch.func.vjp(lambda x: fast(x, **inputs), x.detach())
    with torch.no_grad():
        assert not fast(x, **inputs).requires_grad


def test_refuses():
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode; call network.eval()"):
        fast_inference(make().train())
    partly = make()
    partly.middle_block.train()
    with pytest.raises(ValueError, match="network: expected eval mode"):
        fast_inference(partly)
    with pytest.raises(TypeError, match="network: expected an nn.Module, got function"):
        fast_inference(lambda x: x)
    with pytest.raises(ValueError, match="compile: expected True, False or one of .*, got 'fast'"):
        fast_inference(make(), compile="fast")
    network = make(num_class_embeds=3)
    inputs = make_inputs(network, (8, 8))
    labels = inputs.pop("class_labels")
    with pytest.raises(ValueError, match="class_labels: expected labels"):
        fast_inference(network)(**inputs)
    with pytest.raises(ValueError, match="context: expected None, as the network was built with with_conditioning=F"):
        fast_inference(network)(**inputs, class_labels=labels, context=torch.zeros(3, 1, 3))
