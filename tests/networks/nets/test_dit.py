"""The diffusion transformer: published sizes, closed forms, other libraries, and all that networks are asked for."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer
from monai_diffclf.networks import (
    Denoiser,
    RetimedNetwork,
    check_uses_classes,
    describe_model,
    fast_inference,
    load_weights,
    tune_batch,
)
from monai_diffclf.networks.layers.adaptive_blocks import Attention, sincos_positions
from monai_diffclf.networks.nets import DiT
from monai_diffclf.networks.schedulers import VPSDE, SDEProcess

TINY = {"hidden_size": 16, "num_layers": 2, "num_heads": 2}


def make(dims: int = 2, channels: int = 1, size=8, patch=2, *, random: bool = True, **settings) -> DiT:
    torch.manual_seed(0)
    network = DiT(dims, channels, size, patch, **{**TINY, "num_class_embeds": 3, **settings})
    if random:  # the zeros that training starts from would hide what reaches the output
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return network.eval()


def count(**settings) -> int:
    with torch.device("meta"):
        network = DiT.sized(**settings)
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "patch", "millions"),
    [("S", 2, 33.0), ("B", 2, 130.5), ("B", 4, 130.5), ("L", 2, 458.1), ("XL", 2, 675.1)],
)
def test_has_the_published_number_of_parameters(name, patch, millions):
    # Those of ImageNet with its null class and a variance, counting the fixed positions of the 32 x 32 latent.
    found = count(name=name, patch_size=patch, num_class_embeds=1001, learn_variance=True)
    cells, hidden = (32 // patch) ** 2, {"S": 384, "B": 768, "L": 1024, "XL": 1152}[name]
    assert round((found + cells * hidden) / 1e6, 1) == millions
    if name == "XL":
        assert found + cells * hidden == 675_129_632


def test_has_the_number_of_parameters_of_favero_et_al():
    # 147.7 million on 12 x 128 x 128, with diffusers' embeddings for each block and 1,001 rows.
    settings = {"name": "B", "patch_size": 4, "in_channels": 12, "input_size": 128, "num_class_embeds": 1001}
    assert round(count(**settings, shared_embedding=False) / 1e6, 1) == 147.7
    assert round(count(**settings) / 1e6, 1) == 130.6


@pytest.mark.parametrize("dims", [2, 3])
def test_positions_are_those_of_monai(dims):
    grid = (3, 5, 2)[:dims]
    expected = build_sincos_position_embedding(list(grid), 24, spatial_dims=dims)[0].detach()
    own = sincos_positions(grid, 24)
    if dims == 2:
        torch.testing.assert_close(own, expected)
    else:  # the same waves, MONAI's 3D has the axes in another order
        assert {tuple(row) for row in own.T.round(decimals=5).tolist()} == {
            tuple(row) for row in expected.T.round(decimals=5).tolist()
        }
    # Channels that the axes do not share evenly are zeros.
    assert sincos_positions((4, 4, 4), 16)[:, 12:].abs().sum() == 0


@pytest.mark.parametrize(("cross", "tokens"), [(False, 7), (True, 3)])
def test_attention_is_that_of_torch(cross, tokens, device):
    torch.manual_seed(0)
    own = Attention(12, 3, context_size=12 if cross else None).to(device).eval()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).to(device).eval()
    x, context = torch.randn(2, 7, 12, device=device), torch.randn(2, tokens, 12, device=device)
    with torch.no_grad():
        weights = torch.cat([own.to_q.weight, own.to_kv.weight]) if cross else own.qkv.weight
        biases = torch.cat([own.to_q.bias, own.to_kv.bias]) if cross else own.qkv.bias
        theirs.in_proj_weight.copy_(weights)
        theirs.in_proj_bias.copy_(biases)
        theirs.out_proj.load_state_dict(own.out_proj.state_dict())
        key = context if cross else x
        expected = theirs(x, key, key, need_weights=False)[0]
        for differentiable in (False, True):
            torch.testing.assert_close(own(x, context, differentiable=differentiable), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_new_network_predicts_zeros_and_its_blocks_are_the_identity(dims, device):
    network = make(dims, 2, (8, 4, 4)[:dims], (2, 1, 2)[:dims], random=False).to(device)
    x = torch.randn(2, 2, *network.input_size, device=device)
    out = network(x, torch.tensor([3, 700], device=device), class_labels=torch.tensor([0, 2], device=device))
    assert out.shape == x.shape
    assert out.abs().max() == 0
    h = torch.randn(2, 5, 16, device=device)
    assert torch.equal(network.blocks[0](h, torch.randn(2, 16, device=device), None, differentiable=False), h)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_patches_find_their_way_back(dims):
    """With the transposed embedding as the last layer, a network of no blocks' effect returns each patch in place."""
    size, patch = (6, 4, 8)[:dims], (3, 2, 4)[:dims]
    network = make(dims, 2, size, patch, num_layers=1)
    x = torch.randn(3, 2, *size)
    cells = x
    for axis, width in enumerate(patch):  # [B, C, *grid, *patch]
        cells = cells.unfold(2 + axis, width, width)
    tokens = cells.flatten(2, 1 + dims).flatten(3).permute(0, 2, 3, 1).flatten(2)
    assert torch.equal(network._to_image(tokens), x)
    # The embedding sees the same patches in the same order.
    weight = network.embed.weight.flatten(2).transpose(1, 2).flatten(1)
    expected = tokens @ weight.T + network.embed.bias
    torch.testing.assert_close(network.embed(x).flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_an_image_with_patches_of_one_pixel():
    image = make(2, 3, (4, 5), 1, pos_embed_type="learnable")
    tokens = make(1, 3, 20, 1)
    state = image.state_dict()
    state["embed.weight"] = state["embed.weight"][..., 0]
    tokens.load_state_dict(state)
    x = torch.randn(2, 3, 4, 5)
    call = {"timesteps": torch.tensor([5, 600]), "class_labels": torch.tensor([0, 2])}
    with torch.no_grad():
        torch.testing.assert_close(tokens(x.flatten(2), **call), image(x, **call).flatten(2), rtol=1e-4, atol=1e-5)


def test_without_positions_the_order_of_tokens_does_not_matter():
    network = make(1, 3, 6, 1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 3, 6)
    call = {"timesteps": torch.tensor([5, 600]), "class_labels": torch.tensor([0, 2])}
    with torch.no_grad():
        assert (network(x, **call)[..., order] - network(x[..., order], **call)).abs().max() > 1e-3
        network.positions.zero_()
        torch.testing.assert_close(network(x, **call)[..., order], network(x[..., order], **call), rtol=1e-4, atol=1e-5)


def test_one_embedding_for_all_blocks_is_that_of_each_where_they_are_the_same():
    shared, own = make(), make(shared_embedding=False)
    state = shared.state_dict()
    first = {name: value for name, value in state.items() if name.startswith("conditions.0.")}
    state |= {name.replace("conditions.0.", "conditions.1."): value for name, value in first.items()}
    own.load_state_dict(state)
    x, call = torch.randn(2, 1, 8, 8), {"timesteps": torch.tensor([5, 600]), "class_labels": torch.tensor([0, 2])}
    with torch.no_grad():
        assert torch.equal(shared(x, **call), own(x, **call))


def test_conditions_reach_the_output(device):
    network = make(num_class_embeds=3, cross_attention_dim=4).to(device)
    x = torch.ones(2, 1, 8, 8, device=device)
    times, labels = torch.tensor([5.0, 5.0], device=device), torch.tensor([1, 1], device=device)
    context = torch.zeros(2, 3, 4, device=device)

    def apart(times=times, labels=labels, context=context):
        out = network(x, times, context=context, class_labels=labels)
        return float((out[0] - out[1]).abs().max().detach())

    assert apart() < 1e-5
    assert apart(times=torch.tensor([5.0, 5.5], device=device)) > 1e-4
    assert apart(labels=torch.tensor([1, 2], device=device)) > 1e-3
    assert apart(context=torch.stack([context[0], context[0] + 1])) > 1e-3


def test_dropout_acts_in_training_only():
    network = make(dropout=0.5)
    x, call = torch.ones(1, 1, 8, 8), {"timesteps": torch.tensor([5]), "class_labels": torch.tensor([1])}
    assert torch.equal(network(x, **call), network(x, **call))
    network.train()
    assert not torch.equal(network(x, **call), network(x, **call))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_can_be_differentiated_twice(dims):
    network = make(dims, 1, (4, 4, 2)[:dims], (2, 2, 1)[:dims]).double()
    x = torch.randn(1, 1, *network.input_size, dtype=torch.float64, requires_grad=True)
    call = {"timesteps": torch.tensor([300]), "class_labels": torch.tensor([1])}

    def scalar(x):
        return network(x, **call).square().mean()

    assert torch.autograd.gradcheck(scalar, (x,))
    assert torch.autograd.gradgradcheck(scalar, (x,))


def test_every_weight_learns(device):
    network = make(cross_attention_dim=4).to(device).train()
    x = torch.randn(2, 1, 8, 8, device=device)
    context = torch.randn(2, 3, 4, device=device)
    labels = torch.tensor([0, 2], device=device)
    network(x, torch.tensor([5, 9], device=device), context=context, class_labels=labels).square().mean().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_classifies_and_is_faster_to_call_or_the_same(dims, device):
    network = make(dims, 2, (4, 4, 4)[:dims], 2).to(device)
    scheduler = DDPMScheduler(100, schedule="cosine", prediction_type="v_prediction")
    images = torch.randn(3, 2, *network.input_size, generator=torch.Generator().manual_seed(0)).to(device)
    check_uses_classes(Denoiser(network, scheduler, 2, device=device), images, null_class=True)
    if dims > 1:
        inferer = DiffusionClassifierInferer(scheduler, 2, num_draws=3)
        result = inferer.classify(images, network, error_maps=True)
        assert result.error_maps.shape == (3, 2, *network.input_size)
        torch.testing.assert_close(
            result.error_maps.flatten(2).mean(2).double(), result.mean_error, rtol=1e-4, atol=1e-6
        )
    fast = fast_inference(network)
    call = {
        "timesteps": torch.tensor([5, 50, 99], device=device),
        "class_labels": torch.tensor([0, 1, 2], device=device),
    }
    with torch.no_grad():
        torch.testing.assert_close(fast(images, **call), network(images, **call), rtol=1e-4, atol=1e-5)
    tuning = tune_batch(network, images.shape[1:], batch_sizes=(2, 4), threads=[1], seconds=0.05)
    assert tuning.batch_size in (2, 4)


def test_has_a_likelihood():
    network, scheduler = make(size=4), DDPMScheduler(100, schedule="cosine_log_snr", prediction_type="v_prediction")
    score = RetimedNetwork(network, scheduler, SDEProcess(VPSDE())).eval()
    inferer = ScoreClassifierInferer(VPSDE(), num_classes=2, num_steps=8, exact_divergence=True)
    result = inferer.classify(torch.rand(2, 1, 4, 4), score)
    assert bool(torch.isfinite(result.log_likelihood).all())
    assert bool((result.log_likelihood[:, 0] != result.log_likelihood[:, 1]).all())


@pytest.mark.parametrize(
    ("embeds", "said"), [(2, "expected class embeddings for labels 0 to 2, got 2"), (None, "num_class_embeds is None")]
)
def test_too_few_classes_are_refused(embeds, said):
    network = make(num_class_embeds=embeds)
    with pytest.raises(ValueError, match=said):
        check_uses_classes(Denoiser(network, DDPMScheduler(100), 3), torch.zeros(1, 1, 8, 8))


def test_a_new_network_is_accepted_with_its_ties():
    network = make(random=False)
    check_uses_classes(Denoiser(network, DDPMScheduler(100), 2), torch.zeros(1, 1, 8, 8))


def test_a_variance_is_ignored():
    network, without = make(learn_variance=True), make()
    x, call = torch.randn(2, 1, 8, 8), {"timesteps": torch.tensor([5, 600]), "class_labels": torch.tensor([0, 2])}
    assert network(x, **call).shape == (2, 2, 8, 8)
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("out.")}
    # Rows of the last layer go patch by patch, the channels last.
    state |= {name: value[0::2] for name, value in network.state_dict().items() if name.startswith("out.")}
    without.load_state_dict(state)
    denoiser = Denoiser(network, DDPMScheduler(1000), 3)
    with torch.no_grad():
        torch.testing.assert_close(denoiser.predict(x, call["timesteps"], call["class_labels"]), without(x, **call))


def test_weights_are_saved_described_and_loaded(tmp_path):
    network, other = make(), make(size=16)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    again = make(random=False)
    load_weights(again, tmp_path / "model.pt")
    assert all(torch.equal(a, b) for a, b in itertools.zip_longest(again.parameters(), network.parameters()))
    described = [
        describe_model(each, classes=["a", "b"], channels=1, image_size=8) for each in (network, make(patch=4))
    ]
    assert described[0]["network"]["class"] == "DiT"
    assert described[0]["network"]["shapes"] != described[1]["network"]["shapes"]
    assert other.grid == (8, 8)
    copied = copy.deepcopy(network)
    assert torch.equal(copied.positions, network.positions)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_is_close(dtype, device):
    network = make(random=False).to(device)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    x = torch.randn(2, 1, 8, 8, device=device)
    call = {"timesteps": torch.tensor([5, 600], device=device), "class_labels": torch.tensor([0, 2], device=device)}
    with torch.no_grad():
        expected = network(x, **call)
        with torch.autocast(torch.device(device).type, dtype=dtype):
            found = network(x, **call)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dims": 4}, "spatial_dims: expected 1, 2 or 3, got 4"),
        ({"patch": 3}, r"patch_size: expected a divisor of input_size along each axis, got \[3, 3\] for \[8, 8\]"),
        ({"size": (8, 8, 8)}, "input_size: expected one number or one for each of 2 axes"),
        ({"size": 0}, "input_size: expected a positive integer, got 0"),
        ({"hidden_size": 15}, "hidden_size: expected a multiple of num_heads, 2, got 15"),
        ({"num_layers": 0}, "num_layers: expected a positive integer, got 0"),
        ({"dropout": 1.0}, r"dropout: expected a probability in \[0, 1\), got 1.0"),
        ({"mlp_ratio": 0}, "mlp_ratio: expected a positive number, got 0"),
        ({"num_class_embeds": 0}, "num_class_embeds: expected a positive integer, got 0"),
        ({"pos_embed_type": "fourier"}, r"pos_embed_type: expected None or one of \['sincos', 'learnable'\]"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        make(**change)


def test_bad_calls_are_refused():
    network, x, times = make(), torch.zeros(1, 1, 8, 8), torch.tensor([1])
    with pytest.raises(ValueError, match=r"x: expected the size that the network was built for, \[B, 1, 8, 8\]"):
        network(torch.zeros(1, 1, 8, 10), times, class_labels=times)
    with pytest.raises(ValueError, match="class_labels: expected labels"):
        network(x, times)
    with pytest.raises(ValueError, match="context: expected None"):
        network(x, times, context=torch.zeros(1, 1, 4), class_labels=times)
    with pytest.raises(ValueError, match=r"context: expected tokens \[B, S, 4\]"):
        make(cross_attention_dim=4)(x, times, class_labels=times)
    with pytest.raises(ValueError, match="name: expected one of"):
        DiT.sized("M")
