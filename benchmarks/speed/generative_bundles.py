"""What the generative bundles of MONAI's model zoo cost as classifiers, by counting: weights, operations, memory, time.

    python -m benchmarks.speed.generative_bundles [--share 0.4] [--draws 25] [--classes 2]

The networks are built in their published sizes on the device `meta`, without weights. Counted are their parameters, the
floating point operations of one evaluation and of one image's encoding (a multiplication and an addition are two), and
the bytes of tensors alive at most in float32, in a call of one evaluation and while an image is encoded. From these
follow:

* **time**: operations over the peak of a card times the share of it that is reached. The peaks are the makers' figures
  for dense bfloat16 (``--set amp=true``); the share is an assumption, not a measurement;
* **memory**: the weights, and the more of an evaluation's tensors and the encoding's.

Text encoders run once before and are not counted; nor are the allocator's gaps and what the driver holds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import RESULTS
from benchmarks.speed.cards import PEAK
from benchmarks.speed.live_memory import LiveMemory

UNET = {
    "out_channels": 3,
    "channels": (256, 512, 768),
    "num_res_blocks": 2,
    "attention_levels": (False, True, True),
    "num_head_channels": (0, 512, 768),
    "with_conditioning": True,
}
AUTOENCODER = {
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 3,
    "channels": (64, 128, 128, 128),
    "num_res_blocks": 2,
    "attention_levels": (False,) * 4,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
MAISI_UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "num_channels": (64, 128, 256, 512),
    "attention_levels": (False, False, True, True),
    "num_head_channels": (0, 0, 32, 32),
    "num_res_blocks": 2,
    "include_spacing_input": True,
    "num_class_embeds": 128,
    "resblock_updown": True,
    "include_fc": True,
}
MAISI_AUTOENCODER = {
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 4,
    "num_channels": (64, 128, 256),
    "num_res_blocks": (2, 2, 2),
    "attention_levels": (False,) * 3,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
    "num_splits": 2,
    "dim_split": 1,
}


def build(name: str) -> tuple[torch.nn.Module, torch.nn.Module, dict[str, torch.Tensor], torch.Tensor]:
    """Network, autoencoder, arguments of one evaluation and an image, all on `meta`."""
    with torch.device("meta"):
        steps = torch.empty(1)
        if name == "cxr":
            network = DiffusionModelUNet(2, in_channels=3, cross_attention_dim=1024, **UNET)
            inputs = {"x": torch.empty(1, 3, 64, 64), "timesteps": steps, "context": torch.empty(1, 77, 1024)}
            return network, AutoencoderKL(2, **AUTOENCODER), inputs, torch.empty(1, 1, 512, 512)
        if name == "brain":
            network = DiffusionModelUNet(
                3, in_channels=7, cross_attention_dim=4, resblock_updown=True, upcast_attention=True, **UNET
            )
            inputs = {"x": torch.empty(1, 7, 20, 28, 20), "timesteps": steps, "context": torch.empty(1, 1, 4)}
            return network, AutoencoderKL(3, **AUTOENCODER), inputs, torch.empty(1, 1, 160, 224, 160)
        inputs = {
            "x": torch.empty(1, 4, 64, 64, 64),
            "timesteps": steps,
            "class_labels": torch.empty(1, dtype=torch.int64),
            "spacing_tensor": torch.empty(1, 3),
        }
        autoencoder = AutoencoderKlMaisi(3, **MAISI_AUTOENCODER)
        return DiffusionModelUNetMaisi(3, **MAISI_UNET), autoencoder, inputs, torch.empty(1, 1, 256, 256, 256)


@torch.no_grad()
def describe(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything of one bundle."""
    network, autoencoder, inputs, image = build(name)
    weights = sum(each.numel() for module in (network, autoencoder) for each in module.parameters())
    with FlopCounterMode(display=False) as evaluation, LiveMemory() as call:
        network.eval()(**inputs)
    with FlopCounterMode(display=False) as encoding, LiveMemory() as encoded:
        autoencoder.eval().encode(image)
    flops = evaluation.get_total_flops()
    total = encoding.get_total_flops() + args.draws * args.classes * flops
    return {
        "image": list(image.shape[2:]),
        "million_parameters": weights / 1e6,
        "tflop_an_evaluation": flops / 1e12,
        "tflop_to_encode": encoding.get_total_flops() / 1e12,
        "gb_of_weights": 4 * weights / 1e9,
        "gb_of_an_evaluation": call.peak / 1e9,
        "gb_to_encode": encoded.peak / 1e9,
        "gb": (4 * weights + max(call.peak, encoded.peak)) / 1e9,
        "seconds_an_image": {card: total / (peak * args.share) for card, peak in PEAK.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.4, help="share of a card's peak that is reached")
    for name, default in (("draws", 25), ("classes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, default=RESULTS / "generative_bundles.json")
    args = parser.parse_args()
    results: dict[str, Any] = {
        "share_of_peak": args.share,
        "draws": args.draws,
        "classes": args.classes,
        "peak_tflops": {name: peak / 1e12 for name, peak in PEAK.items()},
        "torch": torch.__version__,
    }
    results["bundles"] = {name: describe(name, args) for name in ("cxr", "brain", "maisi")}
    args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
