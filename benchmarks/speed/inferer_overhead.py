"""How much time `compute_errors` takes over the bare network calls it makes, at the same batch size.

    python -m benchmarks.speed.inferer_overhead [--images 16] [--draws 16] [--batch-size 256] [--repeats 5]
        [--threads 1]

Both are timed in turn within one run on the network of the pneumonia bundle; printed is one JSON object with the ratio
of the medians. The bare calls get ready-made noisy images, timesteps and labels: no classifier can do without them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.bundles import BUNDLES, read_config
from monai_diffclf.inferers import DiffusionClassifierInferer

BUNDLE = BUNDLES / "pneumonia_xray_diffusion"


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 16), ("draws", 16), ("batch-size", 256), ("repeats", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    config = read_config(BUNDLE)
    network = config.get_parsed_content("denoiser").to(device).eval()
    inferer = DiffusionClassifierInferer(
        config.get_parsed_content("scheduler"), num_classes=2, num_draws=args.draws, batch_size=args.batch_size
    )
    images = torch.rand(args.images, 1, 32, 32, device=device) * 2 - 1
    total = args.images * args.draws * 2
    noisy = torch.randn(total, 1, 32, 32, device=device)
    timesteps = torch.randint(0, 1000, (total,), device=device)
    labels = torch.arange(total, device=device) % 2

    @torch.inference_mode()
    def bare() -> None:
        for chunk in torch.arange(total, device=device).split(args.batch_size):
            network(x=noisy[chunk], timesteps=timesteps[chunk], class_labels=labels[chunk])

    def ours() -> None:
        inferer.compute_errors(images, network)

    bare(), ours()
    pairs = [(seconds(bare, device), seconds(ours, device)) for _ in range(args.repeats)]
    times = [statistics.median(column) for column in zip(*pairs, strict=True)]
    print(
        json.dumps(
            {
                "network_evaluations": total,
                "batch_size": args.batch_size,
                "device": device.type,
                "threads": args.threads,
                "bare_seconds": round(times[0], 4),
                "compute_errors_seconds": round(times[1], 4),
                "ratio": round(times[1] / times[0], 4),
                "ratio_of_each_repeat": [round(b / a, 4) for a, b in pairs],
            }
        )
    )


if __name__ == "__main__":
    main()
