"""Whether reading images keeps ahead of training, for the bundles with the networks of Favero et al.

    python -m benchmarks.speed.loading [--images 200]

Synthetic films and lesions of 320 px are written as JPEG, as CheXpert-v1.0-small distributes its films, and read by the
transforms of the bundle's own training: decoding, resizing to 256 px, scaling. Measured is the processor's time an
image of one process, which other programs disturb little, after a first round that is not counted. A training step of
128 images takes, ESTIMATED, the counted operations over a stated share of a card's peak
(``benchmarks/results/published_networks.json``). Workers read side by side with training: a step waits for what reading
takes longer than the step. Results go to ``benchmarks/results/loading.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.storage.atomic_file import replace_text

NAMES = ("chexpert_effusion_diffusion", "isic_melanoma_diffusion")
NETWORKS = RESULTS / "published_networks.json"
BATCH, WORKERS, SIDE = 128, (1, 2, 4, 8), 320


def write_images(folder: Path, count: int, *, colour: bool) -> list[dict[str, Any]]:
    """Smooth random pictures of 320 px with some grain, as JPEG; items of a datalist."""
    items = []
    for n in range(count):
        rng = np.random.default_rng(n)
        shape = (SIDE, SIDE, 3) if colour else (SIDE, SIDE)
        smooth = gaussian_filter(rng.normal(0, 1, shape), (20, 20, 0) if colour else 20)
        pixels = 128 + 60 * smooth / np.abs(smooth).max() + rng.normal(0, 4, shape)
        path = folder / f"{n}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        items.append({"image": str(path), "label": n % 2})
    return items


def seconds_an_image(name: str, count: int) -> dict[str, float]:
    """Processor time an image of the bundle's training transforms: the median, and the middle 90 %."""
    opened = open_bundle(BUNDLES / name, "train.json", device="cpu", progress=False)
    transform = opened.get("train#preprocessing")
    with tempfile.TemporaryDirectory() as folder:
        items = write_images(Path(folder), count, colour=name.startswith("isic"))
        spent = []
        for round_number in range(2):
            for item in items:
                start = time.process_time()
                made = transform(dict(item))["image"]
                if round_number:
                    spent.append(time.process_time() - start)
    if tuple(made.shape) != (3, 256, 256):
        raise RuntimeError(f"expected images [3, 256, 256] of {name}, got {list(made.shape)}")
    low, high = np.percentile(spent, [5, 95])
    return {"median": statistics.median(spent), "low": float(low), "high": float(high)}


def waits(seconds: float, step: float) -> dict[str, float]:
    """By the number of workers, the share of the time between two steps that training waits for images.

    Example:
        >>> waits(0.002, 0.2)  # 128 images of 2 ms: 0.256 s with one worker, 0.128 s with two
        {'1': 0.21875, '2': 0.0, '4': 0.0, '8': 0.0}
    """
    found = {}
    for workers in WORKERS:
        reading = BATCH * seconds / workers
        found[str(workers)] = max(0.0, reading - step) / max(reading, step)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    args = parser.parse_args()
    networks = json.loads(NETWORKS.read_text())
    cards = networks["assumed"]["cards"]
    report: dict[str, Any] = {"images": args.images, "batch": BATCH}
    for name in NAMES:
        own = report[name] = {"seconds_an_image": seconds_an_image(name, args.images), "wait": {}}
        for network in ("unet", "dit"):
            for card, settings in cards.items():
                rate = settings["peak_tflops"] * settings["share"] * 1e3  # GFLOP/s
                step = BATCH * networks[network]["counted"]["step_gflop"] / rate
                found = {"step_seconds": step, "by_workers": waits(own["seconds_an_image"]["median"], step)}
                own["wait"][f"{network}, {card}"] = found
    replace_text(RESULTS / "loading.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
