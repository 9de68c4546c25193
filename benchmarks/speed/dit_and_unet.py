"""A DiT and a U-Net of equal operations on grey images of 64 px: the time of a call and of a training step.

    python -m benchmarks.speed.dit_and_unet [--repeats 15] [--threads 1]

Both see two levels of Haar coefficients, 16 channels of 16 x 16, as `new-bundle` makes it at 64 px; the U-Net is the
one that it chooses, the DiT cuts these into 64 patches of 2 x 2 and has as many operations an evaluation, within 3 %.
Times are taken in turns; a ratio is that of the two times of one turn. Results go to
``benchmarks/results/dit_and_unet.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import RESULTS
from benchmarks.speed.profile_network import seconds
from monai_diffclf.networks.nets import DiT, WaveletDiffusionUNet, WaveletNetwork
from monai_diffclf.recipe.network_settings import network_settings
from monai_diffclf.storage.atomic_file import replace_text

SIZE, CLASSES, BATCHES = 64, 2, (1, 64)


def make_unet() -> nn.Module:
    """The U-Net that `new-bundle` chooses for grey images of 64 px, for two classes and the null class.

    Without its preconditioning, which came later and costs next to nothing.
    """
    chosen, _ = network_settings((SIZE, SIZE), 1)
    settings = {name.removeprefix("denoiser#"): value for name, value in chosen.items()} | {"precondition": False}
    return WaveletDiffusionUNet(
        2, 1, num_head_channels=32, norm_num_groups=16, num_class_embeds=CLASSES + 1, **settings
    )


def make_dit() -> nn.Module:
    """A DiT with the U-Net's operations on the same coefficients."""
    inner = DiT(
        2, 16, input_size=16, patch_size=2, hidden_size=HIDDEN, num_layers=LAYERS, num_heads=HEADS,
        num_class_embeds=CLASSES + 1,
    )  # fmt: skip
    return WaveletNetwork(inner, levels=2)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"unet": make_unet, "dit": make_dit}
HIDDEN, LAYERS, HEADS = 128, 7, 4


def inputs(batch: int) -> dict[str, torch.Tensor]:
    """Images, timesteps and labels of a call."""
    return {
        "x": torch.randn(batch, 1, SIZE, SIZE),
        "timesteps": torch.randint(0, 1000, (batch,)),
        "class_labels": torch.arange(batch) % CLASSES,
    }


def operations(network: nn.Module) -> int:
    """Floating-point operations of one evaluation."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(**inputs(1))
    return counter.get_total_flops()


def step_of(network: nn.Module, given: dict[str, torch.Tensor]) -> Callable[[], None]:
    """A function that goes forward and back."""

    def step() -> None:
        network.zero_grad()
        network(**given).square().mean().backward()

    return step


def spread(ratios: list[float]) -> dict[str, float]:
    """Median, and the middle 90 %, of ratios."""
    low, middle, high = np.percentile(ratios, [5, 50, 95])
    return {"median": float(middle), "low": float(low), "high": float(high)}


def measure(repeats: int) -> dict[str, Any]:
    """Operations, parameters, and the times of both networks in turns."""
    torch.manual_seed(0)
    networks = {name: make().eval() for name, make in NETWORKS.items()}
    found: dict[str, Any] = {
        name: {
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "mflop_an_evaluation": operations(network) / 1e6,
        }
        for name, network in networks.items()
    }
    device = torch.device("cpu")
    for batch in BATCHES:
        given = inputs(batch)
        for what in ("call", "step"):
            calls: dict[str, Callable[[], object]] = {}
            for name, network in networks.items():
                calls[name] = step_of(network, given) if what == "step" else _call(network, given)
            for call in calls.values():
                call()
            turns = [{name: seconds(call, device) for name, call in calls.items()} for _ in range(repeats)]
            for name in networks:
                found[name][f"{what}_of_{batch}_ms"] = float(np.median([1e3 * turn[name] for turn in turns]))
            found[f"dit_over_unet_{what}_of_{batch}"] = spread([turn["dit"] / turn["unet"] for turn in turns])
    return found


def _call(network: nn.Module, given: dict[str, torch.Tensor]) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return network(**given)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    about = {"machine": platform.machine(), "threads": args.threads, "repeats": args.repeats, "precision": "float32"}
    found = {**about, **measure(args.repeats)}
    replace_text(RESULTS / "dit_and_unet.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
