"""Train a pixel bundle on with the contrastive term, as the protocol's ``diffusion_contrastive`` does.

    python -m benchmarks.evidence.contrastive isic2017_64 --strengths 3 20 --epochs 60 --condition longer --weights FILE
    python -m benchmarks.evidence.contrastive pneumoniamnist_28 --strengths 20 --epochs 20 --seeds 0 1 2
    python -m benchmarks.evidence.contrastive isic2017_64 --strengths 20 --epochs 16 --condition preconditioned

From the shipped weights; with the condition ``preconditioned`` from those that ``benchmarks.accuracy.preconditioning``
has trained on the development part. The bundle of ``isic2017_64`` ships other weights since: its others begin with a
FILE, the weights of its version 0.4.0, which the history has. The strength with the largest macro AUC on validation
images goes to where `KeptRunMethod` looks for it; what was tried, epoch by epoch, to
``benchmarks/results/evidence/chosen.json``. A training that was stopped goes on, one that is there is not repeated. No
test image is read.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks.evidence.conditions import PRECONDITIONED
from benchmarks.evidence.data import DATA_ROOT
from benchmarks.evidence.methods.bundles import PIXELS, kept_run
from benchmarks.evidence.methods.networks import CHOSEN, read_chosen
from benchmarks.evidence.methods.stored import FORMER
from benchmarks.evidence.protocol import data_settings
from benchmarks.evidence.run import WORK, training_folder
from monai_diffclf.bundle import find_bundle
from monai_diffclf.networks.model_description import read_model_note
from monai_diffclf.report.training_curve import read_training_curve
from monai_diffclf.run import run_bundle
from monai_diffclf.storage.atomic_file import replace_text

SETTINGS: dict[str, Any] = {
    "batch_size": 32,
    "learning_rate": 4e-4,
    "contrastive_range": [1.5, 6.0],
    "val_interval": 5,
}
_PRECONDITIONED = {"denoiser#precondition": True, "val_interval": 4}


def tried_folder(data: str, strength: float, seed: int, condition: str = "") -> Path:
    """Where a training lies."""
    kind = f"_{PRECONDITIONED}" if condition == PRECONDITIONED else ""
    return WORK / "contrastive" / "tried" / f"{data}{kind}_strength{strength:g}_seed{seed}"


def kept_folder(data: str, condition: str, seed: int) -> Path:
    """Where `KeptRunMethod` looks for the run of a condition."""
    return kept_run(data, "contrastive", seed, training_folder(data, "final", "diffusion_contrastive", condition, seed))


def train(
    data: str, strength: float, seed: int, epochs: int, condition: str, weights: Path | None = None
) -> dict[str, Any]:
    """Train, or read what a finished training left: its settings, and the macro AUC on validation by epoch."""
    name, folder = PIXELS[data], tried_folder(data, strength, seed, condition)
    settings = {**SETTINGS, "contrastive_weight": float(strength), "max_epochs": epochs, "seed": seed}
    settings |= _PRECONDITIONED if condition == PRECONDITIONED else {}
    images = {"dataset_dir": DATA_ROOT / data_settings(data)["folder"]}
    typed = {"label_type": "index"} if data.startswith("isic") else {}
    if _finished(folder) != epochs:
        first = {"initial_weights": weights or _first_weights(name, condition)}
        network = {"denoiser#precondition": False} if name in FORMER and condition != PRECONDITIONED else {}
        run_bundle(name, ["train.json"], {**images, **network, **settings, "output_dir": folder, **first, **typed})
    curve, note = read_training_curve(folder), read_model_note(folder / "model.pt")
    if curve is None:
        raise ValueError(
            f"{folder}: expected the events of a training, there are none; train it anew in an empty folder"
        )
    measured = zip(curve.validated.tolist(), curve.quality.tolist(), strict=True)
    return {
        "settings": settings,
        "auc": {str(epoch): round(value, 4) for epoch, value in measured},
        "best": {"epoch": note["epoch"], "auc": round(note["value"], 4), "weights": note["weights"]},
    }


def _first_weights(name: str, condition: str) -> Path:
    """The weights to begin with where none are named.

    Raises:
        ValueError: when those that were compared are not shipped any more.
    """
    if condition == PRECONDITIONED:
        return WORK / "preconditioning" / "with" / "model.pt"
    if name in FORMER:
        raise ValueError(f"weights: expected --weights FILE, those of {FORMER[name].name} from the history, got none")
    return find_bundle(name) / "models" / "model.pt"


def _finished(folder: Path) -> int:
    """The last epoch that a training has validated."""
    curve = read_training_curve(folder) if folder.is_dir() else None
    return 0 if curve is None else int(curve.validated.max(initial=0))


def choose(
    data: str, strengths: list[float], seed: int, epochs: int, condition: str, weights: Path | None = None
) -> None:
    """Train with each strength, keep the best for the evaluation, and write down all of them."""
    tried = {strength: train(data, strength, seed, epochs, condition, weights) for strength in strengths}
    best = max(tried, key=lambda strength: tried[strength]["best"]["auc"])
    kept = kept_folder(data, condition, seed)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tried_folder(data, best, seed, condition), kept, dirs_exist_ok=True)
    with FileLock(CHOSEN.with_suffix(".lock")):
        content = read_chosen()
        own = {"strength": best, "tried": list(tried.values())}
        content[f"diffusion_contrastive/{data}/{condition}/seed_{seed}"] = own
        replace_text(CHOSEN, json.dumps(content, indent=1) + "\n")
    print(f"strength {best:g}: {tried[best]['best']}; {kept}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(PIXELS))
    parser.add_argument("--strengths", type=float, nargs="+", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--condition", choices=("primary", "longer", PRECONDITIONED), default="primary")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights to begin with")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        choose(args.data, args.strengths, seed, args.epochs, args.condition, args.weights)


if __name__ == "__main__":
    main()
