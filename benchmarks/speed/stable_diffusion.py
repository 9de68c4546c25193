"""What Stable Diffusion costs as a classifier and in training, by counting: weights, operations, memory, time.

    python -m benchmarks.speed.stable_diffusion [--share 0.4] [--draws 51] [--classes 2] [--batch 8]

The networks and autoencoders are built in their published sizes on the device `meta`, without weights. Counted are
their parameters, the floating point operations of one evaluation (a multiplication and an addition are two) and the
bytes of tensors alive at most, in bfloat16, with attention that is fused. From these follow:

* **time**: operations over the peak of a card times the share of it that is reached. The peaks are the makers' figures
  for dense bfloat16 with sums in float32; the share is an assumption, not a measurement;
* **memory to classify**: the weights of network and autoencoder, and the more of what one call of ``--batch``
  evaluations holds and what encoding four images does;
* **memory to train** at one image a step, without gradient checkpointing: by LoRA of rank 8 with all else frozen in
  bfloat16, weights, two moments of the adapters, and what forward and backward pass hold, gradients among it; the whole
  network the same in float32.

Text encoders run once before and are not counted; nor are the allocator's gaps and what the driver holds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import RESULTS
from benchmarks.speed.cards import PEAK
from benchmarks.speed.live_memory import LiveMemory, fused_attention
from monai_diffclf.pipelines import add_lora
from monai_diffclf.pipelines.networks import PipelineNetwork, TextTransformer, TextUNet

STRIDE, SIZES, RANK, ENCODED = 8, (256, 512), 8, 4

VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD3 = {
    "sample_size": 128,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
V21 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
MODELS: dict[str, dict[str, Any]] = {
    "Stable Diffusion 1.5": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "Stable Diffusion 2.1": V21,
    "SDXL": XL,
    "Stable Diffusion 3 medium": SD3,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.4, help="share of a card's peak that is reached")
    for name, default in (("draws", 51), ("classes", 2), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, default=RESULTS / "stable_diffusion.json")
    args = parser.parse_args()
    diffusers.logging.set_verbosity_error()
    results: dict[str, Any] = {
        "share_of_peak": args.share,
        "draws": args.draws,
        "classes": args.classes,
        "batch": args.batch,
        "lora_rank": RANK,
        "peak_tflops": {name: peak / 1e12 for name, peak in PEAK.items()},
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }
    results["models"] = {name: describe(name, args) for name in MODELS}
    args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def describe(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything of one model."""
    network, autoencoder = build(name), build_autoencoder(name)
    weights, of_autoencoder = count(network), count(autoencoder)
    made: dict[str, Any] = {"parameters": weights, "autoencoder_parameters": of_autoencoder}
    for size in SIZES:
        inputs, images = network_inputs(network, size, 1), torch.empty(1, 3, size, size, device="meta")
        flops, encoding = operations(network, inputs), operations(autoencoder.encode, {"x": images})
        evaluations = args.draws * args.classes
        total = encoding + evaluations * flops
        with torch.no_grad(), fused_attention(), LiveMemory() as call:
            network(**network_inputs(network, size, args.batch))
        with torch.no_grad(), fused_attention(), LiveMemory() as encoded:
            autoencoder.encode(torch.empty(ENCODED, 3, size, size, device="meta", dtype=torch.bfloat16))
        made[str(size)] = {
            "tflop": flops / 1e12,
            "encode_tflop": encoding / 1e12,
            "seconds_an_image": {card: total / (peak * args.share) for card, peak in PEAK.items()},
            "classify_gb": (2 * (weights + of_autoencoder) + max(call.peak, encoded.peak)) / 1e9,
        }
    for way, trained in (("lora", add_lora(network, rank=RANK)), ("full", build(name, torch.float32))):
        made[f"{way}_parameters"] = sum(each.numel() for each in trained.parameters() if each.requires_grad)
        for size in SIZES:
            made[str(size)][f"{way}_gb"] = train_memory(trained, size) / 1e9
    return made


def build(name: str, dtype: torch.dtype = torch.bfloat16) -> PipelineNetwork:
    """A network in its published size, without weights."""
    with torch.device("meta"):
        if name == "Stable Diffusion 3 medium":
            return TextTransformer(diffusers.SD3Transformer2DModel(patch_size=2, **MODELS[name]).to(dtype))
        return TextUNet(diffusers.UNet2DConditionModel(**MODELS[name]).to(dtype), STRIDE)


def build_autoencoder(name: str) -> Any:
    """Its autoencoder."""
    own = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False} if "3" in name else {}
    with torch.device("meta"):
        return diffusers.AutoencoderKL(**VAE, **own).to(torch.bfloat16).eval()


def count(network: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(each.numel() for each in network.parameters())


def network_inputs(network: PipelineNetwork, size: int, batch: int) -> dict[str, torch.Tensor]:
    """What one call of a network takes, for images of some size."""
    weight = next(network.parameters())  # for its dtype
    tokens = 77 + 256 if network.part == "transformer" else 77
    channels = network.config.in_channels
    made = {
        "x": weight.new_empty(batch, channels, size // STRIDE, size // STRIDE),
        "timesteps": torch.empty(batch, device="meta"),
        "context": weight.new_empty(batch, tokens, network.widths["context"]),
    }
    if "text_embeds" in network.widths:
        made["text_embeds"] = weight.new_empty(batch, network.widths["text_embeds"])
    return {name: value.detach() for name, value in made.items()}


def operations(function: Any, inputs: dict[str, torch.Tensor]) -> int:
    """Floating point operations of a call; a multiplication and an addition are two."""
    dtype = torch.bfloat16
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(**given)
    return int(counter.get_total_flops())


def train_memory(network: PipelineNetwork, size: int) -> int:
    """Bytes to train on one image a step: weights, two moments in float32, and what a step holds with its gradients."""
    inputs = network_inputs(network, size, 1)
    with fused_attention(), LiveMemory() as memory:
        network(**inputs).float().square().mean().backward()
    network.zero_grad()
    weights = sum(each.numel() * each.element_size() for each in network.parameters())
    moments = sum(8 * each.numel() for each in network.parameters() if each.requires_grad)
    return weights + moments + memory.peak


if __name__ == "__main__":
    main()
