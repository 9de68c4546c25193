"""What the inferer adds to bare calls of the network, and what an evaluation costs where the network costs nothing.

    python -m benchmarks.speed.inferer_overhead [--threads N] [--repeats N] [--images N] [--draws N]

For colour images of 32, 64 and 128 px and calls of 64, 128 and 256 evaluations: time of `compute_errors` over that of
the same number of bare calls, pair by pair, with the network of the skin lesion bundle at one, two and three levels of
the wavelet (16 px inside). Then, at 64 px, microseconds an evaluation with a network that returns its input, before and
after random numbers are compiled. Writes ``benchmarks/results/inferer_overhead.json``. Times are those of this process
(processor time on a CPU), so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.networks.schedulers import DDPMScheduler

from benchmarks.bundles import RESULTS
from monai_diffclf.classification import philox
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.nets import WaveletDiffusionUNet

SIZES = {32: 1, 64: 2, 128: 3}
BATCHES = (64, 128, 256)
SCHEDULER = DDPMScheduler(1000, schedule="cosine", prediction_type="v_prediction")


class Identity(torch.nn.Module):
    """A network that costs nothing."""

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, class_labels: torch.Tensor) -> torch.Tensor:
        """The input."""
        return x


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Time of one call: of the processor, or on a GPU of the clock."""
    if device.type != "cuda":
        start = time.process_time()
        function()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def make_network(levels: int) -> torch.nn.Module:
    return WaveletDiffusionUNet(
        2,
        3,
        levels=levels,
        channels=(32, 64, 64),
        attention_levels=(False, False, True),
        num_res_blocks=1,
        norm_num_groups=16,
        num_head_channels=32,
        num_class_embeds=3,
    )


def overhead(pixels: int, batch: int, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """`compute_errors` over bare calls."""
    network = make_network(SIZES[pixels]).to(device).eval()
    images = torch.rand(args.images, 3, pixels, pixels, device=device) * 2 - 1
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=args.draws, batch_size=batch)
    total = args.images * args.draws * 2
    noisy = torch.randn(batch, 3, pixels, pixels, device=device)
    timesteps, labels = torch.randint(0, 1000, (batch,), device=device), torch.arange(batch, device=device) % 2

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(total // batch):
            network(x=noisy, timesteps=timesteps, class_labels=labels)

    def ours() -> None:
        inferer.compute_errors(images, network)

    bare(), ours()
    pairs = [(seconds(bare, device), seconds(ours, device)) for _ in range(args.repeats)]
    ratios = [after / before for before, after in pairs]
    return {
        "pixels": pixels,
        "batch_size": batch,
        "network_microseconds": round(statistics.median(before for before, _ in pairs) / total * 1e6, 1),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_of_each_repeat": [round(ratio, 4) for ratio in ratios],
    }


def identity(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Microseconds an evaluation where the network costs nothing, 3 x 64 x 64, two and eight classes."""
    images, rows = torch.rand(16, 3, 64, 64, device=device) * 2 - 1, []
    before = philox.COMPILE_AFTER
    for compiled in (False, True):
        philox.COMPILE_AFTER = 0 if compiled else before
        for classes in (2, 8):
            inferer = DiffusionClassifierInferer(SCHEDULER, classes, num_draws=16, batch_size=128)
            network = Identity().eval()
            inferer.compute_errors(images, network)
            total = len(images) * 16 * classes
            call = partial(inferer.compute_errors, images, network)
            times = [seconds(call, device) / total * 1e6 for _ in range(args.repeats)]
            rows.append(
                {
                    "classes": classes,
                    "random_numbers": "compiled" if compiled else "as they are",
                    "microseconds": round(statistics.median(times), 1),
                    "of_each_repeat": [round(value, 1) for value in times],
                }
            )
    philox.COMPILE_AFTER = before
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 8), ("draws", 32), ("repeats", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, default=RESULTS / "inferer_overhead.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = {
        "device": device.type,
        "threads": args.threads,
        "torch": torch.__version__,
        "overhead": [overhead(pixels, batch, args, device) for pixels in SIZES for batch in BATCHES],
        "identity_network": identity(args, device),
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
