"""Images a second through a frozen encoder, in float32 and bfloat16, and what that changes.

    python -m benchmarks.speed.encoders --data DATA/isic2017_256 [--threads 1 2] [--images 32] [--repeats 3]

Training images go through EfficientNet-Lite0 and its principal components, all settings in turns, several times. For
one thread the rate is that of the processor's time, which other programs on the machine disturb little; for
several it is that of the clock, which says nothing on a machine that is busy: its load is written beside it. What the
precision changes is the root mean square of the difference of the latents, which themselves have variance 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.bundles import RESULTS
from monai_diffclf.representations import RepresentationSpace, make_encoder

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv and images")
    for name, default in (("images", 32), ("size", 224), ("repeats", 3), ("components", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--output", type=Path, default=RESULTS / "encoders.json")
    args = parser.parse_args()
    images = training_images(args.data, args.images, args.size)
    encoder = make_encoder("efficientnet_lite0")
    plain = make_encoder("efficientnet_lite0")
    spaces = {name: RepresentationSpace(encoder, args.components, amp_dtype=dtype) for name, dtype in DTYPES.items()}
    spaces["float32"].fit([images])
    spaces["bfloat16"].components.load_state_dict(spaces["float32"].components.state_dict())
    rates: dict[str, list[float]] = {}
    for _ in range(args.repeats):
        for threads in args.threads:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                rates.setdefault(f"float32_channels_first_{threads}", []).append(rate(plain, images, threads))
            for name, space in spaces.items():
                rates.setdefault(f"{name}_{threads}", []).append(rate(space.encode, images, threads))
    exact, rounded = (spaces[name].encode(images) for name in DTYPES)
    report = {
        "encoder": encoder.name,
        "version": encoder.version,
        "size": args.size,
        "images": len(images),
        "grid": list(exact.shape[2:]),
        "components": args.components,
        "explained": round(spaces["float32"].components.explained, 4),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
        "images_per_second": {name: summary(values) for name, values in rates.items()},
        "bfloat16_rms": round(float((exact - rounded).square().mean().sqrt()), 4),
        "batch_of_one_rms": round(float((exact[:1] - spaces["float32"].encode(images[:1])).square().mean().sqrt()), 7),
        "batch_of_one_bfloat16_rms": round(
            float((rounded[:1] - spaces["bfloat16"].encode(images[:1])).square().mean().sqrt()), 7
        ),
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    print(args.output)


def training_images(folder: Path, count: int, size: int) -> torch.Tensor:
    """The first training images of a folder, in [-1, 1]."""
    with (folder / "labels.csv").open(newline="") as table:
        names = [row["file"] for row in csv.DictReader(table) if row["split"] == "train"][:count]
    pictures = [
        Image.open(folder / name).convert("RGB").resize((size, size), Image.Resampling.BILINEAR) for name in names
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return pixels.permute(0, 3, 1, 2) / 127.5 - 1


def rate(encode: Any, images: torch.Tensor, threads: int) -> float:
    """Images a second in batches of 16: of the processor's time on one thread, of the clock on several."""
    clock = time.process_time if threads == 1 else time.perf_counter
    encode(images[:4])
    start = clock()
    for batch in images.split(16):
        encode(batch)
    return len(images) / (clock() - start)


def summary(values: list[float]) -> dict[str, float]:
    named = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 1) for name, value in named.items()}


if __name__ == "__main__":
    main()
