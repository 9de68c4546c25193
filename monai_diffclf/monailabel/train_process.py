# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A training in a process of its own beside the server: ``python -m monai_diffclf.monailabel.train_process PLAN``.

It trains through the bundle's own ``train.json``, then judges the new and the served weights on the labels that were
held back. What it writes lies in the plan's folder; whether anything of it is served is for the server to say.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from ..bundle import open_bundle
from ..metrics import SUBGROUP_METRICS, bootstrap_interval, paired_difference_interval
from ..networks import network_hash
from ..run import run_bundle
from ..run.options import read_config
from ..storage.atomic_file import replace_text
from .bundle_model import BundleModel

__all__ = [
    "LOG",
    "PROGRESS",
    "RESULT",
    "TrainPlan",
    "judge_weights",
    "main",
    "settings_of",
    "start_process",
    "why_failed",
]

PLAN, LOG, PROGRESS, RESULT, RUN = "plan.json", "training.log", "progress.json", "result.json", "run"
STEPS, STEPS_ANEW = 150, 600
"""Steps of a training where nobody says how many epochs: from weights that know the classes, and from none."""

SLOWER = 0.1  # the rate of the bundle's training, from none, would undo what the weights know
WARM_UP = 0.1
NICE = 5  # requests come first


@dataclass(frozen=True)
class TrainPlan:
    """What a training is told; paths as text, as the plan is a JSON file.

    Args:
        bundle: folder of the bundle.
        served: folder of the served weights; "" for the bundle's own.
        table: CSV table of the images: image, label, split, patient.
        num_train: how many of them train.
        held_back: path, class and group of each image to judge by.
        pretrained: whether to begin with the served weights.
        settings: max_epochs, learning_rate, seed, device; None for what suits the number of labels.
        parent: process whose end ends the training.
    """

    bundle: str
    served: str
    table: str
    num_train: int
    held_back: list[tuple[str, int, str]]
    pretrained: bool
    settings: dict[str, Any]
    parent: int

    def save(self, path: Path) -> None:
        """Write it."""
        replace_text(path, json.dumps(asdict(self), indent=1) + "\n")


def start_process(plan: TrainPlan, folder: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start the process of a training.

    Args:
        plan: what it is told.
        folder: where it writes, see `TrainedWeights.begin`.
        lock: open file of the lock on it, which the process holds too, so that none begins there while it runs.
    """
    plan.save(folder / PLAN)
    words = [sys.executable, "-m", "monai_diffclf.monailabel.train_process", str(folder / PLAN)]
    with open(folder / LOG, "wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=[lock])  # noqa: S603


def why_failed(folder: Path, code: int) -> str:
    """Why a process failed: its own line, else the last one; of one that was killed, the signal."""
    if code < 0:
        return f"the process was killed by signal {-code}, of which 9 is often a lack of memory; start it again"
    log = folder / LOG
    lines = (
        [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    )
    ours = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (ours or lines or [f"the process ended with exit code {code}"])[-1][:500]


def settings_of(plan: TrainPlan, output: Path) -> dict[str, Any]:
    """What to set in the bundle's ``train.json``, as far as it has such ids.

    Raises:
        ValueError: when the bundle has no ``train.json``, or one that reads no data set.
    """
    bundle = Path(plan.bundle)
    if not (bundle / "configs" / "train.json").is_file():
        raise ValueError(f"train: the bundle {bundle.name} has no configs/train.json, so that it cannot be trained")
    config = read_config([bundle / "configs" / "train.json"])
    inference = read_config([bundle / "configs" / "inference.json"])
    if "@dataset_dir" not in str((config.get("train") or {}).get("datalist")):
        raise ValueError(f"train: {bundle.name} is trained on images that it makes or reads by itself, not on labels")
    batch = min(int(config["batch_size"]), plan.num_train)
    each = max(1, plan.num_train // batch)
    epochs = plan.settings["max_epochs"] or -(-(STEPS if plan.pretrained else STEPS_ANEW) // each)
    rate = plan.settings["learning_rate"] or float(config["learning_rate"]) * (SLOWER if plan.pretrained else 1.0)
    wanted = {
        "dataset_dir": plan.table,
        "data_name": "labels of readers",
        "image_column": "image",
        "label_column": "label",
        "label_type": "name",
        "split_column": "split",
        "patient_column": "patient",
        "output_dir": str(output),
        "seed": plan.settings["seed"],
        "device": plan.settings["device"],
        "max_epochs": epochs,
        "val_interval": epochs,  # once, at the end: the labels to judge by choose no epoch
        "batch_size": batch,
        "learning_rate": rate,
        "warmup_steps": min(int(config.get("warmup_steps", 0)), int(WARM_UP * epochs * each)),
        "initial_weights": str(_weights(plan)) if plan.pretrained else None,
        "resize": inference.get("resize"),  # images must be read as they will be
    }
    found = {name: value for name, value in wanted.items() if value is not None and name in config}
    handlers = config["train"].get("named_handlers", {})
    if "samples" in handlers:
        found["train#named_handlers#samples#interval"] = epochs + 1  # nobody looks at images drawn from the model here
    if "checkpoint" in handlers:
        found["train#named_handlers#checkpoint#interval"] = epochs  # nor goes on with a training that was stopped
    return found


def judge_weights(
    labels: NDArray[np.int64], new: NDArray[np.float64], served: NDArray[np.float64], groups: Sequence[str]
) -> dict[str, Any]:
    """Macro AUC of new and of served weights and their difference, with intervals by resampling patients.

    Args:
        labels: class of each image held back [N].
        new: probabilities by the new weights [N, K].
        served: by the served ones [N, K].
        groups: patient of each image.

    Example:
        >>> labels, good = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
        >>> found = judge_weights(labels, good, good[:, ::-1], ["a", "b", "c", "d"])
        >>> found["new"]["value"], found["served"]["value"], found["difference"]["value"]
        (1.0, 0.0, 1.0)
    """
    auc = SUBGROUP_METRICS["auc"]
    more: dict[str, Any] = {"groups": list(groups), "num_resamples": 1000, "seed": 0}
    return {
        "metric": "macro AUC",
        "images": len(labels),
        "new": bootstrap_interval(auc, labels, new, strata=labels, **more)._asdict(),
        "served": bootstrap_interval(auc, labels, served, strata=labels, **more)._asdict(),
        "difference": paired_difference_interval(auc, labels, new, served, **more)._asdict(),
    }


def probabilities(model: BundleModel, paths: Sequence[str], device: str) -> NDArray[np.float64]:
    """Class probabilities of image files [N, K] by a bundle's classifier, before calibration."""
    network, inferer = model.network(device), model.inferer(device=device)
    found = []
    with torch.inference_mode():
        for start in range(0, len(paths), 16):
            images = torch.stack([model.read(path).as_tensor() for path in paths[start : start + 16]])
            found.append(inferer(images.to(device), network).double().cpu())
    result: NDArray[np.float64] = torch.cat(found).numpy()
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as a plan says; the exit code is 0 when the result is written."""
    (path,) = map(Path, sys.argv[1:] if arguments is None else arguments)
    plan = TrainPlan(**json.loads(path.read_text(encoding="utf-8")))
    folder, run = path.parent, path.parent / RUN
    try:
        if arguments is None:
            os.nice(NICE)
        _train(plan, folder, run)
        replace_text(folder / PROGRESS, json.dumps({"step": "judging"}))
        device = plan.settings["device"] or BundleModel(plan.bundle).device
        files, labels, groups = zip(*plan.held_back, strict=True)
        new = BundleModel(plan.bundle, run)
        old = BundleModel(plan.bundle, plan.served or None)
        result = judge_weights(
            np.asarray(labels), probabilities(new, files, device), probabilities(old, files, device), groups
        )
        result["network"] = network_hash(new.network(device))
    except (ValueError, RuntimeError, TypeError, OSError) as found:
        error: BaseException = found
        while error.__cause__ is not None:  # MONAI wraps what a component says
            error = error.__cause__
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 1
    replace_text(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return 0


def _train(plan: TrainPlan, folder: Path, run: Path) -> None:
    space = _weights(plan).with_name("representation.pt")
    if plan.pretrained and space.is_file():  # the weights know the features of this one
        run.mkdir(parents=True)
        shutil.copyfile(space, run / space.name)
    settings = settings_of(plan, run)
    replace_text(folder / PROGRESS, json.dumps({"step": "starting", "max_epochs": settings["max_epochs"]}))

    def follow(parser: ConfigParser) -> None:
        trainer: Engine = parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, check_parent)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, tell)

    def check_parent(_: Engine) -> None:
        if os.getppid() != plan.parent:
            raise RuntimeError("the server has ended")

    def tell(engine: Engine) -> None:
        output: Any = engine.state.output
        loss = float(output["loss"]) if isinstance(output, dict) and "loss" in output else None
        state = {"step": "training", "epoch": engine.state.epoch, "max_epochs": engine.state.max_epochs, "loss": loss}
        replace_text(folder / PROGRESS, json.dumps(state))

    run_bundle(plan.bundle, ["train.json"], settings, ready=follow, progress=False)
    if not (run / "model.pt").is_file():
        raise RuntimeError("train: the training ended without weights; see its log")


def _weights(plan: TrainPlan) -> Path:
    """The file of the served weights."""
    return Path(plan.served) / "model.pt" if plan.served else Path(str(open_bundle(plan.bundle).get("checkpoint")))


if __name__ == "__main__":
    sys.exit(main())
