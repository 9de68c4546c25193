"""Where the network of a bundle loses time against the machine's limit, and what `fast_inference` gains.

    python -m benchmarks.speed.profile_network [--bundle pneumonia_xray_diffusion ...] [--batch-size 64 256]
        [--repeats 5]

Prints one JSON object. Per bundle and batch size, on random images of the bundle's size and with the bundle's weights
where it ships them: floating-point operations an evaluation; evaluations and GFLOP a second of the plain network and of
the fast one, of a plain matrix product and of the plain network's convolutions alone, all timed in turns within one
run; the share of time by kind of operation; how far predictions and errors differ, and how many votes. With one thread
on a CPU the time is the processor's, so that other programs disturb it little.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import BUNDLES
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import load_weights
from monai_diffclf.networks.fast_blocks import Norm
from monai_diffclf.networks.fast_inference import fast_inference

MATRIX = 1024
# Parts of the names of operators, of the innermost that is known; the order matters.
KINDS = {
    "convolution": ("conv",),
    "SiLU": ("silu",),
    "group norm": ("group_norm", "fast_norm"),
    "attention": ("attention", "softmax", "bmm", "einsum"),
    "linear": ("addmm", "aten::mm", "linear"),
    "copies and layout": ("copy", "clone", "contiguous", "aten::cat", "aten::stack", "upsample"),
}


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Time of one call: the processor's for one thread on a CPU, else that of the clock."""
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def kind_of(event: Any) -> str:
    """The kind of an operator: of its own name, or else of the nearest operator that called it."""
    while event is not None:
        for kind, parts in KINDS.items():
            if any(part in event.name for part in parts):
                return kind
        event = event.cpu_parent
    return "other"


def shares(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Share of the operators' own time by kind."""
    forward = Norm.forward

    def labelled(*args: Any) -> torch.Tensor:
        with record_function("fast_norm"):
            return forward(*args)

    cuda = device.type == "cuda"
    with mock.patch.object(Norm, "forward", labelled):
        call()
        with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiled:
            for _ in range(3):
                call()
    times: dict[str, float] = defaultdict(float)
    for event in profiled.events():
        times[kind_of(event)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    total = sum(times.values())
    return {kind: round(times[kind] / total, 4) for kind in (*KINDS, "other")}


def flop(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def convolutions_alone(network: nn.Module, call: Callable[[], object]) -> Callable[[], None]:
    """A function that makes the network's convolutions on ready-made inputs of the same shape, channels last."""
    calls: list[tuple[nn.Module, torch.Tensor]] = []

    def keep(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        x = torch.randn_like(args[0])
        calls.append((module, x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x))

    kinds = (nn.Conv2d, nn.Conv3d)
    handles = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, kinds)]
    call()
    for handle in handles:
        handle.remove()

    def run() -> None:
        for module, x in calls:
            module(x)

    return run


def measure(network: nn.Module, shape: tuple[int, ...], batch_size: int, repeats: int) -> dict[str, Any]:
    """Time the plain network, the fast one, its convolutions and a matrix product in turns."""
    device = next(network.parameters()).device
    fast = fast_inference(network)
    inputs = {
        "x": torch.randn(batch_size, *shape, device=device),
        "timesteps": torch.randint(0, 1000, (batch_size,), device=device),
        "class_labels": torch.arange(batch_size, device=device) % 2,
    }
    matrix = torch.randn(MATRIX, MATRIX, device=device)
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: network(**inputs),
        "fast": lambda: fast(**inputs),
        "convolutions": convolutions_alone(network, lambda: network(**inputs)),
        "matrix_product": lambda: [matrix @ matrix for _ in range(10)],
    }
    operations = {name: flop(call) for name, call in calls.items()}
    rounds = [{name: seconds(call, device) for name, call in calls.items()} for _ in range(repeats)]
    times = {name: statistics.median(each[name] for each in rounds) for name in calls}
    expected, prediction = network(**inputs), fast(**inputs)
    ratios = [each["plain"] / each["fast"] for each in rounds]
    return {
        "batch_size": batch_size,
        "mflop_per_evaluation": {name: round(operations[name] / batch_size / 1e6, 2) for name in ("plain", "fast")},
        "evaluations_per_second": {name: round(batch_size / times[name], 1) for name in ("plain", "fast")},
        "gflop_per_second": {name: round(operations[name] / times[name] / 1e9, 2) for name in calls},
        "fraction_of_matrix_product": {
            name: round(operations[name] / times[name] * times["matrix_product"] / operations["matrix_product"], 3)
            for name in ("plain", "fast", "convolutions")
        },
        "speed_fast_over_plain": round(statistics.median(ratios), 3),
        "speed_of_each_repeat": [round(ratio, 3) for ratio in ratios],
        "share_of_time": {name: shares(calls[name], device) for name in ("plain", "fast")},
        "largest_difference": float((expected - prediction).abs().max()),
        "allclose": torch.allclose(prediction, expected, rtol=1e-4, atol=1e-5),
    }


def compare_errors(config: Bundle, network: nn.Module, images: torch.Tensor, draws: int) -> dict[str, Any]:
    """Difference of all errors of some images, and the votes that it changes."""
    inferer = DiffusionClassifierInferer(config.get("scheduler"), num_classes=2, num_draws=draws, batch_size=64)
    plain = inferer.compute_errors(images, network).values
    fast = inferer.compute_errors(images, fast_inference(network)).values
    return {
        "images": len(images),
        "draws": draws,
        "largest_difference": float((plain - fast).abs().max()),
        "largest_relative_difference": float(((plain - fast).abs() / plain).max()),
        "smallest_margin": float((plain[:, 0] - plain[:, 1]).abs().min()),
        "votes_changed": int((plain.argmin(1) != fast.argmin(1)).sum()),
    }


@torch.inference_mode()
def profile_bundle(bundle: Path, batch_sizes: list[int], repeats: int, draws: int, threads: int) -> dict[str, Any]:
    config = open_bundle(bundle, "train.json")
    torch.manual_seed(0)
    network = config.get("denoiser").eval()
    weights = bundle / "models" / "model.pt"
    if weights.is_file():
        load_weights(network, weights)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu")
    sizes = [8 * -(-size // 8) for size in config.get("image_size")]
    shape = (config.get("channels"), *sizes)
    images = torch.rand(4, *shape, device=next(network.parameters()).device) * 2 - 1
    return {
        "bundle": bundle.name,
        "weights": weights.is_file(),
        "image": list(shape),
        "threads": threads,
        "batches": [measure(network, shape, size, repeats) for size in batch_sizes],
        "errors_fast_against_plain": compare_errors(config, network, images, draws),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--bundle", nargs="+", default=["pneumonia_xray_diffusion"], help="names of folders in bundles/"
    )
    parser.add_argument("--batch-size", nargs="+", type=int, default=[64, 256])
    for name, default in (("repeats", 5), ("draws", 51), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--machine", default=platform.machine(), help="words for the machine, kept in the output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    bundles = [
        profile_bundle(BUNDLES / name, args.batch_size, args.repeats, args.draws, args.threads) for name in args.bundle
    ]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    took = round(time.perf_counter() - start, 1)
    print(json.dumps({"machine": args.machine, "device": device, "seconds": took, "bundles": bundles}, indent=1))


if __name__ == "__main__":
    main()
