r"""A DiT beside a U-Net of equal operations on chest X-rays of 64 px, at equal training time.

    python -m benchmarks.accuracy.dit_against_unet --data DATA --work FOLDER [--validate]

Protocol, written before the test images are read. `kermany_cxr_64` of docs/protocol.md, normal against pneumonia;
training, validation and test images are those of there. Networks: those of `benchmarks.speed.dit_and_unet`, trained
with the same program for the same time of one processor, one training each (seed 0): v-prediction with min-SNR, batches
of 64 with both classes equally often, images turned (0.1 rad), scaled (10 %) and moved (3 %) at random, the last
averaged weights. Both are called in bfloat16 or float32 in training, whichever is faster on the machine for that
network; they classify in float32.

Chosen for each network on validation images, by the AUC: the learning rate, after trials of a tenth of the time, with
mean errors of 9 draws and min-SNR; and, after the training, the decision: mean of the draws with equal weights, with
min-SNR, or the vote. Primary: AUC of the chosen decision on the official 624 test images, with an interval by patients,
and the paired difference DiT less U-Net; the other decisions stand beside. 25 draws. Nothing is claimed but which of
the two learns more in this time; one training each says nothing of the spread over trainings.

Trainings are kept in FOLDER, and the same command goes on. With ``--validate`` the test images are not read; without
it they are opened once a network, which the ledger of docs/protocol.md records (`diffusion_pixels`, conditions
``equal_time/unet`` and ``equal_time/dit``), and with a result file the program refuses to run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.accuracy.equal_time import train_for
from benchmarks.bundles import RESULTS
from benchmarks.evidence.data import DATA_ROOT, Images, as_tensor, load, load_test
from benchmarks.evidence.ledger import LEDGER, Opening, open_test
from benchmarks.evidence.methods.networks import balanced_rows
from benchmarks.schedule import make_scheduler
from benchmarks.speed.dit_and_unet import NETWORKS, inputs, operations, step_of
from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.metrics import bootstrap_interval, paired_difference_interval, roc_auc
from monai_diffclf.storage.atomic_file import replace_text

DATA, METHOD, SEED = "kermany_cxr_64", "diffusion_pixels", 0
BATCH, DRAWS, TRIAL_DRAWS = 64, 25, 9
RATES = (5e-4, 1e-3, 2e-3)
DECISIONS = ("mean", "mean_min_snr", "vote")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA_ROOT, help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=200, help="processor time of each training")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--validate", action="store_true", help="stop before the test images")
    parser.add_argument("--output", type=Path, default=RESULTS / "dit_against_unet.json")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    args = parser.parse_args()
    if args.output.exists():
        raise ValueError(f"output: {args.output} is there, the test images were read for it; give another file")
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    train, validation = (binary(images) for images in load(DATA, "final", args.data))
    trained = {name: Training(name, train, validation, args).made() for name in NETWORKS}
    report: dict[str, Any] = {
        "data": "kermany_cxr_224 at 64 px, normal or pneumonia, official test set",
        "seed": SEED,
        "draws": args.draws,
        "training_images": len(train),
        "validation_images": len(validation),
        "networks": {name: settings for name, (_, settings) in trained.items()},
    }
    if not args.validate:
        report |= judged(trained, args)
        replace_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def binary(images: Images) -> Images:
    """Normal (0) or pneumonia (1), bacterial or viral."""
    return images.with_labels((images.labels > 0).astype(np.int64))


class Training:
    """The trials and the training of one network, each kept in the folder as soon as it is there."""

    def __init__(self, name: str, train: Images, validation: Images, args: argparse.Namespace) -> None:
        self.name, self.train, self.validation, self.args = name, train, validation, args
        self.pixels = as_tensor(train)

    def made(self) -> tuple[torch.nn.Module, dict[str, Any]]:
        """The trained network, and all that it was told and that was chosen for it."""
        precision = self._kept("precision", lambda: faster_precision(NETWORKS[self.name]))
        dtype = torch.bfloat16 if precision["chosen"] == "bfloat16" else None
        trials = {}
        for rate in RATES:
            network, _ = self._trained(f"trial_{rate:g}", self.args.seconds / 10, rate, dtype)
            aucs = self._kept(f"trial_{rate:g}", lambda: self._aucs(network, TRIAL_DRAWS))  # noqa: B023
            trials[f"{rate:g}"] = aucs["mean_min_snr"]
        rate = max(RATES, key=lambda each: trials[f"{each:g}"])
        network, details = self._trained("final", self.args.seconds, rate, dtype)
        aucs = self._kept("final", lambda: self._aucs(network, self.args.draws))
        settings = {
            "mflop_an_evaluation": operations(network) / 1e6,
            **details,
            "precision": precision,
            "rate": rate,
            "validation_auc_of_rates": trials,
            "validation_auc": aucs,
            "decision": max(DECISIONS, key=lambda each: aucs[each]),
        }
        return network, settings

    def _kept(self, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.args.work / f"{self.name}_{what}.json"
        if not path.is_file():
            replace_text(path, json.dumps(make(), indent=1) + "\n")
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def _trained(
        self, what: str, seconds: float, rate: float, dtype: torch.dtype | None
    ) -> tuple[torch.nn.Module, dict[str, Any]]:
        path = self.args.work / f"{self.name}_{what}.pt"
        torch.manual_seed(SEED)
        network = NETWORKS[self.name]()
        if path.is_file():
            stored = torch.load(path, weights_only=True)
            network.load_state_dict(stored["network"])
            return network.eval(), stored["details"]
        rng = np.random.default_rng(SEED)
        average, details = train_for(
            seconds, network, lambda: self._batch(rng), rate=rate, seed=SEED, name=path.stem, dtype=dtype
        )
        torch.save({"network": average.state_dict(), "details": details}, path)
        return average, details

    def _batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = balanced_rows(self.train.labels, rng, BATCH)[:BATCH]
        return moved(self.pixels[rows], rng), torch.from_numpy(self.train.labels[rows])

    def _aucs(self, network: torch.nn.Module, draws: int) -> dict[str, float]:
        found = scores(errors_of(network, self.validation, draws))
        return {name: float(roc_auc(self.validation.labels, values)) for name, values in found.items()}


def moved(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Images turned, scaled and moved a little, each otherwise; what comes in from outside repeats the border."""
    n = len(images)
    angle, scale = rng.uniform(-0.1, 0.1, n), rng.uniform(0.9, 1.1, n)
    shift = rng.uniform(-0.06, 0.06, (n, 2))  # of half a side: 3 % of the side
    affine = np.stack([scale * np.cos(angle), -scale * np.sin(angle), shift[:, 0]], 1)
    other = np.stack([scale * np.sin(angle), scale * np.cos(angle), shift[:, 1]], 1)
    matrices = torch.from_numpy(np.stack([affine, other], 1)).float()
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def faster_precision(make: Callable[[], torch.nn.Module], repeats: int = 5) -> dict[str, Any]:
    """In which precision a training step of a batch takes less time of the processor."""
    torch.manual_seed(SEED)
    step = step_of(make().train(), inputs(BATCH))
    times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for turn in range(repeats + 1):
        for name, spent in times.items():
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
                step()
            if turn:  # the first warms up
                spent.append(time.process_time() - start)
    found: dict[str, Any] = {f"step_seconds_{name}": statistics.median(spent) for name, spent in times.items()}
    return {**found, "chosen": min(times, key=lambda name: found[f"step_seconds_{name}"])}


def errors_of(network: torch.nn.Module, images: Images, draws: int) -> DenoisingErrors:
    """Errors of all draws, in float32."""
    inferer = DiffusionClassifierInferer(make_scheduler(), 2, num_draws=draws, batch_size=128, seed=SEED)
    return inferer.compute_errors(as_tensor(images), network)


def scores(errors: DenoisingErrors) -> dict[str, np.ndarray]:
    """For each decision a number an image [N], the larger, the more it speaks for pneumonia."""
    found = {"vote": classify_errors(errors, "vote").vote_share[:, 1]}
    for name, weighting in (("mean", "uniform"), ("mean_min_snr", "min_snr")):
        mean = classify_errors(errors, "mean", weighting=weighting).mean_error
        found[name] = mean[:, 0] - mean[:, 1]
    return {name: found[name].double().numpy() for name in DECISIONS}


def judged(trained: dict[str, tuple[torch.nn.Module, dict[str, Any]]], args: argparse.Namespace) -> dict[str, Any]:
    """Open the test images once for each network; AUC of both, and the difference of the chosen decisions."""
    found: dict[str, Any] = {"test": {}}
    chosen = {}
    for name, (network, settings) in trained.items():
        opening: Opening = open_test(DATA, METHOD, SEED, settings, condition=f"equal_time/{name}", ledger=args.ledger)
        test = binary(load_test(opening, args.data))
        start = time.process_time()
        own = scores(errors_of(network, test, args.draws))
        spent = (time.process_time() - start) / len(test)
        chosen[name] = own[settings["decision"]]
        found["test"][name] = {
            "opening": opening.line(),
            "seconds_an_image": spent,
            "decision": settings["decision"],
            "auc": _interval(test, own[settings["decision"]]),
            **{f"auc_{decision}": _interval(test, values) for decision, values in own.items()},
        }
        np.savez_compressed(args.work / f"{name}_test.npz", keys=test.keys, labels=test.labels, **own)
    found["test_images"] = len(test)
    found["dit_less_unet"] = paired_difference_interval(
        roc_auc, test.labels, chosen["dit"], chosen["unet"], groups=test.groups
    )._asdict()
    return found


def _interval(test: Images, values: np.ndarray) -> dict[str, float]:
    return bootstrap_interval(roc_auc, test.labels, values, strata=test.labels, groups=test.groups)._asdict()


if __name__ == "__main__":
    main()
