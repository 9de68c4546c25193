"""What the networks of Favero et al. cost: operations that are counted, and memory and time that follow from them.

    python -m benchmarks.speed.published_networks [--step unet|dit [--bfloat16]]

Operations and the memory of saved activations are counted on the meta device, without computing anything. Times are
ESTIMATES: operations over a stated share of a card's peak. With ``--step`` one training step of a whole network, batch
1, is made on the CPU, with ``--bfloat16`` in mixed precision (autocast), and its peak memory is recorded. Results go to
``benchmarks/results/published_networks.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import BUNDLES
from benchmarks.speed.cards import PEAK
from monai_diffclf.bundle import open_bundle

RESULTS = Path(__file__).parents[1] / "results" / "published_networks.json"
BUNDLE = BUNDLES / "chexpert_effusion_diffusion"
FILES = {"unet": ["train.json"], "dit": ["train.json", "dit.json"]}
# Peak in TFLOP/s of dense products (makers' data sheets), and the share of it that is assumed.
CARDS: dict[str, dict[str, Any]] = {
    "H100": {"what": "H100 SXM, bfloat16", "peak_tflops": PEAK["H100"] / 1e12, "share": 0.35, "memory_gb": 80},
    "24 GB": {
        "what": "RTX 4090, 24 GB, float16",
        "peak_tflops": PEAK["RTX 4090"] / 1e12,
        "share": 0.35,
        "memory_gb": 24,
    },
    "CPU": {"what": "16 cores of 2.5 GHz with AVX-512, float32", "peak_tflops": 2.56, "share": 0.4},
}
TRAIN, TEST, DRAWS, CLASSES, BATCH = 16_324, 2_040, 501, 2, 128


def make(name: str, device: str) -> nn.Module:
    """The network of the bundle's configuration."""
    opened = open_bundle(BUNDLE, *FILES[name], device="cpu")
    with torch.device(device):
        network: nn.Module = opened.get("denoiser")
    return network


def call(network: nn.Module, device: str) -> torch.Tensor:
    """One evaluation of one image."""
    x = torch.zeros(1, 3, 256, 256, device=device)
    one = torch.ones(1, dtype=torch.int64, device=device)
    prediction: torch.Tensor = network(x, timesteps=one, class_labels=one)
    return prediction


def count(name: str) -> dict[str, Any]:
    """Parameters, operations of an evaluation and of a training step of one image, and its saved activations."""
    network = make(name, "meta").train()
    for module in network.modules():  # positions that are computed and not learned
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = buffer.to("meta")
    saved: dict[int, int] = {}
    weights = {id(weight) for weight in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights and not isinstance(tensor, nn.Parameter):
            saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as forward, torch.no_grad():
        call(network, "meta")
    with FlopCounterMode(display=False) as both, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call(network, "meta").sum().backward()
    return {
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "forward_gflop": forward.get_total_flops() / 1e9,
        "step_gflop": both.get_total_flops() / 1e9,
        "activations_mb": sum(saved.values()) / 1e6,
    }


def estimate(counted: dict[str, Any]) -> dict[str, Any]:
    """Hours an epoch and to score the test set, and memory of training: weights, gradients, Adam's two, average."""
    fixed = 5 * 4 * counted["parameters"] / 1e9
    found = {}
    for name, card in CARDS.items():
        rate = card["peak_tflops"] * card["share"] * 1e3  # GFLOP/s
        small = 1 if name == "CPU" else 2  # half precision halves the activations
        activations = counted["activations_mb"] / 1e3 / small
        fits = BATCH if "memory_gb" not in card else max(0, int((0.9 * card["memory_gb"] - fixed) / activations))
        found[name] = {
            "epoch_hours": TRAIN * counted["step_gflop"] / rate / 3600,
            "test_hours": TEST * DRAWS * CLASSES * counted["forward_gflop"] / rate / 3600,
            "largest_batch": min(BATCH, fits),
            "training_memory_gb": fixed + min(BATCH, fits) * activations,
        }
    return found


def step(name: str, dtype: torch.dtype | None = None) -> dict[str, float]:
    """One training step of the whole network on the CPU, batch 1, float32 or with calls in reduced precision."""
    network = make(name, "cpu").train()
    begin, processor = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        prediction = call(network, "cpu")
    prediction.float().square().mean().backward()
    seconds, spent = time.perf_counter() - begin, time.process_time() - processor
    if not all(weight.grad is not None for weight in network.parameters()):
        raise RuntimeError(f"{name}: expected a gradient of every weight")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    threads = torch.get_num_threads()
    return {"seconds": seconds, "processor_seconds": spent, "peak_memory_gb": peak, "threads": threads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", choices=sorted(FILES), help="make one training step of this network instead")
    parser.add_argument("--bfloat16", action="store_true", help="with --step: in mixed precision")
    args = parser.parse_args()
    chosen = args.step
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if chosen is not None:
        kind, dtype = ("cpu_step_bfloat16", torch.bfloat16) if args.bfloat16 else ("cpu_step", None)
        results.setdefault(chosen, {})[kind] = step(chosen, dtype)
    else:
        for name in FILES:
            counted = count(name)
            results[name] = {**results.get(name, {}), "counted": counted, "estimated": estimate(counted)}
        results["assumed"] = {"cards": CARDS, "train": TRAIN, "test": TEST, "draws": DRAWS, "batch": BATCH}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
