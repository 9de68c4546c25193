"""How long a bundle on features takes from images to its report: encode and train, evaluate, report.

    python -m benchmarks.speed.features_pipeline --data DATA/isic2017_256 --work FOLDER [--epochs N]

The three commands of a user, on the bundle skin_lesion_features with its own settings, one after another, with as many
threads as the machine has cores. The test set of ISIC 2017 stays closed: in its place 600 training images, mirrored, so
that as many images are read, encoded and scored; what the run reaches on them means nothing and is not kept. To reach:
less than 20 minutes on 2 cores. Seconds of each command, the start of Python and its libraries among them, go to
``benchmarks/results/features_pipeline.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from benchmarks.bundles import RESULTS
from monai_diffclf.storage.atomic_file import replace_text

BUNDLE, TEST = "skin_lesion_features", 600


def stand_in(data: Path, folder: Path) -> Path:
    """A folder of the same size as ISIC 2017, with mirrored training images in the place of its test images."""
    with open(data / "labels.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "test"]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        if not (folder / row["file"]).exists():
            (folder / row["file"]).symlink_to((data / row["file"]).resolve())
    train, mirrored = [row for row in rows if row["split"] == "train"], []
    for row in train[:: max(1, len(train) // TEST)][:TEST]:  # from all of the table, so that every class is there
        name = f"images/mirrored_{Path(row['file']).name}"
        ImageOps.mirror(Image.open(data / row["file"])).save(folder / name, quality=92)
        mirrored.append({**row, "file": name, "split": "test"})
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows + mirrored)
    return folder


def seconds_of(*words: object) -> float:
    """Wall seconds of a command of the package; an error ends the program."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "monai_diffclf", *map(str, words), "--no-progress"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2017 with labels.csv")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, help="for a trial; default: the bundle's")
    parser.add_argument("--output", type=Path, default=RESULTS / "features_pipeline.json")
    args = parser.parse_args()
    if (args.work / "run").exists():
        raise SystemExit(f"work: expected a folder without a run, or features were encoded already; got {args.work}")
    data, run = stand_in(args.data, args.work / "data"), args.work / "run"
    epochs = [] if args.epochs is None else ["--epochs", args.epochs]
    steps: dict[str, list[Any]] = {
        "train": ["train", BUNDLE, "--data", data, "--output", run, *epochs],
        "evaluate": ["evaluate", BUNDLE, "--data", data, "--run", run],
        "report": ["report", BUNDLE, "--data", data, "--run", run],
    }
    seconds: dict[str, float] = {}
    for name, words in steps.items():
        seconds[name] = seconds_of(*words)
        print(name, round(seconds[name], 1), flush=True)
    about = {"bundle": BUNDLE, "cores": os.cpu_count(), "epochs": args.epochs, "test_images": TEST}
    result = {"about": about, "seconds": seconds, "minutes_in_all": sum(seconds.values()) / 60}
    replace_text(args.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
