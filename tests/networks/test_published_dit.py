"""Published weights of diffusion transformers, by a second implementation and by diffusers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as functional
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.networks import Denoiser, load_published_dit
from monai_diffclf.networks.nets import DiT
from monai_diffclf.networks.published_dit import _settings

HIDDEN, HEADS, LAYERS, CHANNELS, PATCH, SIDE, CLASSES = 384, 6, 2, 4, 2, 8, 5


def original_state(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random weights under the names of Peebles and Xie's files."""
    shapes = {
        "x_embedder.proj.weight": (HIDDEN, CHANNELS, PATCH, PATCH),
        "x_embedder.proj.bias": (HIDDEN,),
        "t_embedder.mlp.0.weight": (HIDDEN, 256),
        "t_embedder.mlp.0.bias": (HIDDEN,),
        "t_embedder.mlp.2.weight": (HIDDEN, HIDDEN),
        "t_embedder.mlp.2.bias": (HIDDEN,),
        "y_embedder.embedding_table.weight": (CLASSES + 1, HIDDEN),
        "final_layer.adaLN_modulation.1.weight": (2 * HIDDEN, HIDDEN),
        "final_layer.adaLN_modulation.1.bias": (2 * HIDDEN,),
        "final_layer.linear.weight": (PATCH**2 * 2 * CHANNELS, HIDDEN),
        "final_layer.linear.bias": (PATCH**2 * 2 * CHANNELS,),
    }
    for n in range(LAYERS):
        for layer, outputs, inputs in (
            ("attn.qkv", 3 * HIDDEN, HIDDEN),
            ("attn.proj", HIDDEN, HIDDEN),
            ("mlp.fc1", 4 * HIDDEN, HIDDEN),
            ("mlp.fc2", HIDDEN, 4 * HIDDEN),
            ("adaLN_modulation.1", 6 * HIDDEN, HIDDEN),
        ):
            shapes |= {f"blocks.{n}.{layer}.weight": (outputs, inputs), f"blocks.{n}.{layer}.bias": (outputs,)}
    state = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return state | {"pos_embed": positions()[None]}


def positions() -> torch.Tensor:
    """Sines and cosines of the column, then of the row."""
    cells, rows = SIDE // PATCH, []
    waves = [10000 ** (-i / (HIDDEN / 4)) for i in range(HIDDEN // 4)]
    for y in range(cells):
        for x in range(cells):
            rows.append([f(place * wave) for place in (x, y) for f in (math.sin, math.cos) for wave in waves])
    return torch.tensor(rows)


def original_dit(w: dict[str, torch.Tensor], x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The published network, written down a second time, token by token and patch by patch."""

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(value: torch.Tensor) -> torch.Tensor:
        return (value - value.mean(-1, keepdim=True)) / (value.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()

    angles = t[:, None] * torch.tensor([10000 ** (-i / 128) for i in range(128)])
    c = linear(
        "t_embedder.mlp.2", functional.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1)))
    )
    c = functional.silu(c + w["y_embedder.embedding_table.weight"][y])
    cells = SIDE // PATCH
    patches = [
        x[:, :, r * PATCH : (r + 1) * PATCH, s * PATCH : (s + 1) * PATCH].flatten(1)
        for r in range(cells)
        for s in range(cells)
    ]
    h = torch.stack(patches, 1) @ w["x_embedder.proj.weight"].flatten(1).T + w["x_embedder.proj.bias"]
    h = h + w["pos_embed"]
    for n in range(LAYERS):
        b1, s1, g1, b2, s2, g2 = linear(f"blocks.{n}.adaLN_modulation.1", c)[:, None].chunk(6, 2)
        q, k, v = linear(f"blocks.{n}.attn.qkv", norm(h) * (1 + s1) + b1).chunk(3, 2)
        heads = []
        for q1, k1, v1 in zip(*(each.split(HIDDEN // HEADS, 2) for each in (q, k, v)), strict=True):
            heads.append((q1 @ k1.transpose(1, 2) / math.sqrt(HIDDEN // HEADS)).softmax(2) @ v1)
        h = h + g1 * linear(f"blocks.{n}.attn.proj", torch.cat(heads, 2))
        hidden = functional.gelu(linear(f"blocks.{n}.mlp.fc1", norm(h) * (1 + s2) + b2), approximate="tanh")
        h = h + g2 * linear(f"blocks.{n}.mlp.fc2", hidden)
    shift, scale = linear("final_layer.adaLN_modulation.1", c)[:, None].chunk(2, 2)
    tokens = linear("final_layer.linear", norm(h) * (1 + scale) + shift)
    out = torch.zeros(len(x), 2 * CHANNELS, SIDE, SIDE)
    for place in range(cells**2):
        r, s = divmod(place, cells)
        patch = tokens[:, place].reshape(-1, PATCH, PATCH, 2 * CHANNELS).permute(0, 3, 1, 2)
        out[:, :, r * PATCH : (r + 1) * PATCH, s * PATCH : (s + 1) * PATCH] = patch
    return out


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return original_state(torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def call() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.randn(3, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0, 400, 999]), torch.tensor([0, 2, CLASSES])


@pytest.mark.parametrize("kept", ["a state dict", "torch", "safetensors"])
def test_weights_under_the_original_names_predict_the_same(kept, state, call, tmp_path):
    source = state
    if kept == "torch":
        source = tmp_path / "DiT.pt"
        torch.save(state, source)
    elif kept == "safetensors":
        source = tmp_path / "DiT.safetensors"
        pytest.importorskip("safetensors.torch").save_file(state, source)
    network = load_published_dit(source)
    assert network.grid == (4, 4) and network.out_channels == 2 * CHANNELS and network.num_class_embeds == CLASSES + 1
    assert len(network.conditions) == 1 and not network.training
    x, t, y = call
    with torch.no_grad():
        torch.testing.assert_close(network(x, t, class_labels=y), original_dit(state, x, t, y), rtol=1e-4, atol=1e-4)


def test_classifies_by_epsilon_without_the_variance(state, call):
    x, t, y = call[0], call[1], torch.tensor([0, 2, CLASSES - 1])
    network = load_published_dit(state)
    scheduler = DDPMScheduler(1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02, prediction_type="epsilon")
    with torch.no_grad():
        predicted = Denoiser(network, scheduler, CLASSES).predict(x, t, y)
        expected = original_dit(state, x, t, y)[:, :CHANNELS]
    torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alike", [True, False])
def test_weights_of_diffusers_predict_the_same(alike, call):
    diffusers = pytest.importorskip("diffusers", reason="diffusers, the second library, is not installed")
    torch.manual_seed(0)
    twin = diffusers.DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HIDDEN // HEADS,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        num_layers=LAYERS,
        sample_size=SIDE,
        patch_size=PATCH,
        num_embeds_ada_norm=CLASSES,
    ).eval()
    for name, weight in twin.named_parameters():
        if name.startswith(("proj_out", "transformer_blocks")):
            torch.nn.init.normal_(weight, std=0.05)
    first = twin.transformer_blocks[0].norm1.emb
    for block in twin.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # the frequencies that the weights were trained with
        if alike:
            block.norm1.emb.load_state_dict(first.state_dict())
    network = load_published_dit(twin.state_dict(), input_size=SIDE)
    assert len(network.conditions) == (1 if alike else LAYERS)
    x, t, y = call
    with torch.no_grad():
        expected = twin(x, timestep=t, class_labels=y).sample
        torch.testing.assert_close(network(x, t, class_labels=y), expected, rtol=1e-4, atol=1e-4)


def changed(state, **values):
    names = {name.replace("__", "."): value for name, value in values.items()}
    return {name: value for name, value in {**state, **names}.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks__1__attn__qkv__weight": torch.zeros(384, 384)}, r"is blocks.1.attn.qkv.weight: .*\[1152, 384\]"),
        ({"blocks__0__mlp__fc2__bias": None}, "differs is blocks.0.mlp.linear2.bias: expected .* got none"),
        ({"extra__weight": torch.zeros(1)}, "the weights hold extra.weight"),
        ({"pos_embed": torch.zeros(1, 16, 384)}, "other positions"),
        ({"x_embedder__proj__bias": None}, "x_embedder.proj.bias is missing"),
        ({"x_embedder__proj__weight": torch.zeros(100, 4, 2, 2)}, "published hidden sizes .*, got 100"),
        ({"x_embedder__proj__weight": None}, "expected the weights of a published DiT, with x_embedder"),
    ],
    ids=str,
)
def test_another_architecture_is_refused_by_its_first_layer(change, said, state):
    with pytest.raises(ValueError, match=said):
        load_published_dit(changed(state, **change))


def test_another_size_than_that_of_the_positions_is_refused(state):
    with pytest.raises(ValueError, match="input_size: expected None or 8, .* got 16"):
        load_published_dit(state, input_size=16)


def test_every_published_size_is_recognised():
    """Without numbers: the weights of a network of ours under the original names, on the meta device."""
    for name, size, patch in [("S", 32, 8), ("B", 32, 4), ("L", 32, 4), ("XL", 64, 2)]:
        with torch.device("meta"):
            network = DiT.sized(name, patch, input_size=size, num_class_embeds=1001, learn_variance=True)
        settings = _settings(network.state_dict(), network.positions, None)
        with torch.device("meta"):
            again = DiT(**settings)
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }
        assert again.input_size == (size, size)
