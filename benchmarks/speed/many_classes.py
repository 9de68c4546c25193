"""How much memory the classification of 64 images with 500 draws and 1,000 classes takes, beside the network.

    python -m benchmarks.speed.many_classes [--images 64] [--draws 500] [--classes 1000] [--batch-size 8192]

The network returns its input, so that what is measured is the errors (4 bytes each), their index and the decision.
Writes the growth of the process's memory to ``benchmarks/results/many_classes.json``, in megabytes.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import torch
from monai.networks.schedulers import DDPMScheduler

from benchmarks.bundles import RESULTS
from benchmarks.speed.inferer_overhead import Identity
from monai_diffclf.inferers import DiffusionClassifierInferer

PAGE = 4096


def resident() -> float:
    """Memory of this process now, in megabytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 64), ("draws", 500), ("classes", 1000), ("batch-size", 8192)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network, scheduler = Identity().eval(), DDPMScheduler(1000, prediction_type="epsilon")
    images = torch.rand(args.images, 1, 4, 4)
    DiffusionClassifierInferer(scheduler, 3, num_draws=4).classify(images[:2], network)
    inferer = DiffusionClassifierInferer(scheduler, args.classes, num_draws=args.draws, batch_size=args.batch_size)
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    inferer.classify(images, network)
    done.set()
    watcher.join()
    report = {**vars(args), "megabytes_before": round(before), "megabytes_added": round(peak - before)}
    (RESULTS / "many_classes.json").write_text(json.dumps(report) + "\n", encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
