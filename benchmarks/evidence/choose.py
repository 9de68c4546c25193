"""Choose learning rate and augmentation of a network from scratch on the selection images of a data set.

    python -m benchmarks.evidence.choose resnet18 pneumoniamnist_28 [--epochs 10]

Trains each candidate for a few epochs with seed 0 on the development part and writes the best to
``benchmarks/results/evidence/chosen.json``. No test image is read.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import torch
from filelock import FileLock

from benchmarks.evidence.data import load
from benchmarks.evidence.methods.networks import CHOSEN, NetworkMethod, read_chosen
from benchmarks.evidence.protocol import ROOT, content_hash
from monai_diffclf.storage.atomic_file import replace_text

RATES, AUGMENTATIONS = (1e-3, 3e-4), ("recipe", "light")


def choose(architecture: str, data: str, epochs: int, work: Path) -> None:
    train, validation = load(data, "development")
    tried = []
    for rate, augmentation in itertools.product(RATES, AUGMENTATIONS):
        changes = {"learning_rate": rate, "augmentation": augmentation}
        method = NetworkMethod(architecture, data, most_epochs=epochs, **changes)
        folder = work / "choose" / content_hash(method.settings)[:12]
        curve = [row["auc"] for row in method.fit(train, validation, 0, folder).facts["history"]]
        tried.append({**changes, "epochs": epochs, "auc": max(curve), "curve": curve})
        print(json.dumps(tried[-1]), flush=True)
    best = max(tried, key=lambda row: row["auc"])
    with FileLock(CHOSEN.with_suffix(".lock")):
        content = read_chosen()
        settings = {name: best[name] for name in ("learning_rate", "augmentation")}
        content[f"{architecture}/{data}"] = {"settings": settings, "tried": tried}
        replace_text(CHOSEN, json.dumps(content, indent=1) + "\n")
    print(CHOSEN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=("resnet18", "densenet121"))
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "evidence")
    args = parser.parse_args()
    torch.set_num_threads(1)
    choose(args.architecture, args.data, args.epochs, args.work)


if __name__ == "__main__":
    main()
