"""How much faster two workers classify an archive than one process: wall clock of whole commands, one thread a worker.

    python -m benchmarks.speed.archive [--images 624] [--draws 51] [--repeats 3] [--ways one ray] [--output FILE.json]

Each repeat runs ``monai-diffclf classify`` on the same images three times, one after the other: in one process, by Ray
on two workers, and in two processes of torchrun; their order turns from repeat to repeat. Times are from start to end
of the command, with start-up, maps and report. The ratios are taken within a repeat. All must write the same files,
byte by byte. Images are noise: their content does not matter to the time. The load of the machine before each command
is recorded: with other work on it, the ratios say little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.bundles import RESULTS

WAYS = {"one": [], "ray": ["--ray", "--workers", "2"], "torchrun": ["--num-processes", "2"]}


def write_images(folder: Path, count: int, size: int) -> None:
    """Grey pictures of noise."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")


def classify(images: Path, output: Path, bundle: str, draws: int, way: str) -> float:
    """Run the command; returns its seconds."""
    command = [sys.executable, "-m", "monai_diffclf", "classify", str(images), "--bundle", bundle, "--device", "cpu"]
    command += ["--draws", str(draws), "--output", str(output), "--no-progress", *WAYS[way]]
    command += ["--set", "calibrated=False"]  # which was fitted for one number of draws
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def measure(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """All repeats."""
    write_images(folder / "images", args.images, 28)
    rows: list[dict[str, float]] = []
    loads: list[float] = []
    same = True
    for repeat in range(args.repeats):
        row = {}
        names = args.ways[repeat % len(args.ways) :] + args.ways[: repeat % len(args.ways)]
        for way in names:
            loads.append(os.getloadavg()[0])
            row[way] = classify(folder / "images", folder / f"{way}_{repeat}", args.bundle, args.draws, way)
            print(f"repeat {repeat + 1}: {way} {row[way]:.1f} s (load before {loads[-1]:.1f})", flush=True)
        whole = contents(folder / f"one_{repeat}")
        same = same and all(contents(folder / f"{way}_{repeat}") == whole for way in names)
        rows.append(row)
    ratios = {way: [row["one"] / row[way] for row in rows] for way in args.ways if way != "one"}
    return {
        "bundle": args.bundle,
        "images": args.images,
        "draws": args.draws,
        "cores": os.cpu_count(),
        "load_before": [round(load, 2) for load in loads],
        "seconds": [{way: round(seconds, 1) for way, seconds in row.items()} for row in rows],
        "same_files": same,
        "times_faster": {
            way: {"median": round(median(found), 2), "from": round(min(found), 2), "to": round(max(found), 2)}
            for way, found in ratios.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 624), ("draws", 51), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="which; one is needed")
    parser.add_argument("--bundle", default="pneumonia_xray_diffusion")
    parser.add_argument("--output", type=Path, default=RESULTS / "archive.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args)
    args.output.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["times_faster"]))


if __name__ == "__main__":
    main()
