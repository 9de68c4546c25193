"""What the cost of Stable Diffusion is counted with: closed forms, and the published numbers of parameters."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra diffusers is not installed")

from benchmarks.bundles import RESULTS
from benchmarks.speed import stable_diffusion
from benchmarks.speed.live_memory import LiveMemory, fused_attention

PUBLISHED = {
    "Stable Diffusion 1.5": 859_520_964,
    "Stable Diffusion 2.1": 865_910_724,
    "SDXL": 2_567_463_684,
    "Stable Diffusion 3 medium": 2_028_328_000,
}


def test_live_memory_is_that_of_the_tensors_held():
    with LiveMemory() as memory:
        first = torch.empty(100, device="meta")
        second = first + 1
        view = second.view(10, 10)
        del second
        third = view * 2
        assert (memory.now, memory.peak) == (1200, 1200), "a view holds its storage"
        del view
        assert memory.now == 800
        del first, third
    assert (memory.now, memory.peak) == (0, 1200)


def test_live_memory_of_a_training_step():
    layer = torch.nn.Linear(8, 8, device="meta")
    with LiveMemory() as memory:
        images = torch.empty(4, 8, device="meta")
        layer(images).sum().backward()
    assert memory.now == 4 * (4 * 8 + 8 * 8 + 8), "the images, and the gradients of weight and bias"


def test_fused_attention_holds_no_square_of_tokens():
    query = torch.empty(1, 1, 1000, 4, device="meta", requires_grad=True)
    with fused_attention(), LiveMemory() as memory:
        made = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        made.sum().backward()
    assert query.grad.shape == query.shape
    assert memory.peak < 10 * 4 * query.numel()
    with LiveMemory() as plain:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert plain.peak >= 4 * 1000 * 1000, "and PyTorch has its own back"


def test_operations_of_a_convolution():
    layer = torch.nn.Conv2d(3, 5, 3, padding=1, device="meta", dtype=torch.bfloat16)
    images = torch.empty(2, 3, 16, 16, device="meta")
    assert stable_diffusion.operations(layer, {"input": images}) == 2 * 2 * 16 * 16 * 5 * 3 * 9


@pytest.mark.parametrize(
    "name", [next(iter(PUBLISHED)), *(pytest.param(name, marks=pytest.mark.slow) for name in list(PUBLISHED)[1:])]
)
def test_networks_have_their_published_sizes(name):
    assert stable_diffusion.count(stable_diffusion.build(name)) == PUBLISHED[name]


def test_the_stored_counts_are_of_the_published_sizes():
    stored = json.loads((RESULTS / "stable_diffusion.json").read_text(encoding="utf-8"))
    assert {name: each["parameters"] for name, each in stored["models"].items()} == PUBLISHED
    for each in stored["models"].values():
        small, large = each["256"], each["512"]
        assert 2 < large["tflop"] / small["tflop"] < 5, "four times the pixels; attention grows faster, prompts do not"
        assert large["lora_gb"] < large["full_gb"]
        seconds = (102 * large["tflop"] + large["encode_tflop"]) / (989 * stored["share_of_peak"])
        assert large["seconds_an_image"]["H100"] == pytest.approx(seconds)
