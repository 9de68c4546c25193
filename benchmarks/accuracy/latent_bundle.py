r"""The bundle chest_xray_latent_diffusion on the official test images, opened once.

    python -m benchmarks.accuracy.latent_bundle --data DATA --autoencoder DATA/weights_taef2 [--validate [--run RUN]]

Protocol, written before the test images are read. Chest X-rays at 128 px, normal or pneumonia; training, validation and
test images are those of `kermany_cxr_224` in docs/protocol.md. The network, the length of the training, the epoch (by
the AUC of a few draws), the rule with its weighting (by the AUC of 51 draws), and the temperature (by the log-loss) are
chosen on the 299 validation images; with ``--validate`` what the shipped weights, or those of RUN, reach there goes to
``latent_bundle_validation.json``, and no test image is read.

The test images are judged by the shipped weights and settings as they are, once. Primary: AUC of normal against
pneumonia with a 95 % interval by patients. Beside it: the AUC of the other decisions, made of the same draws, accuracy
and balanced accuracy at the bundle's own decision, and the calibration error (15 bins) of its probabilities, to which
nothing is fitted but the temperature; intervals likewise. Counterfactuals of the first 20 test images of each class by
name, from the class that the bundle finds to the other, with the bundle's settings: the share that the bundle itself
takes for the other class once they are decoded (`flips`), and how much of the image they change. Nothing is compared
with another method. Data of Kermany et al. were looked at before, see the protocol.

The opening is in the ledger as `diffusion_representation`, condition `latent_bundle`; it is no result of that method.
With a result file the program refuses to run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.bundles import RESULTS
from benchmarks.evidence.data import DATA_ROOT, Images, load_test
from benchmarks.evidence.ledger import LEDGER, open_test
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.data.kermany_cxr import TWO_CLASSES, load_kermany_cxr
from monai_diffclf.metrics import (
    SUBGROUP_METRICS,
    bootstrap_interval,
    expected_calibration_error,
    negative_log_likelihood,
    roc_auc,
)
from monai_diffclf.networks import network_hash
from monai_diffclf.storage.atomic_file import replace_text

NAME, DATA, METHOD, SEED = "chest_xray_latent_diffusion", "kermany_cxr_224", "diffusion_representation", 0
DECISIONS = {
    "mean_uniform": ("mean", "uniform"),
    "mean_min_snr": ("mean", "min_snr"),
    "mean_elbo": ("mean", "elbo"),
    "vote": ("vote", "uniform"),
}
TEMPERATURES = [round(float(t), 2) for t in np.geomspace(0.05, 50, 61)]
EDITED, EXAMPLES = 20, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA_ROOT, help="folder of the data sets")
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--validate", action="store_true", help="read no test image")
    parser.add_argument("--run", type=Path, help="with --validate: folder of a training, in place of what is shipped")
    parser.add_argument("--bundle", default=NAME, help="the bundle, by its name or folder")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--output", type=Path, default=RESULTS / "latent_bundle.json")
    args = parser.parse_args()
    if args.run is not None and not args.validate:
        raise ValueError("run: expected none without --validate: the shipped weights are judged")
    if args.output.exists() and not args.validate:
        raise ValueError(f"output: {args.output} is there, the test images were read for it; give another file")
    files = ("inference.json", "counterfactuals.json")
    bundle = open_bundle(
        args.bundle, *files, run=args.run, device="cpu", progress=False, autoencoder=str(args.autoencoder)
    )
    if args.validate:
        found = {"settings": _settings(bundle), **chosen_on(bundle, args.data)}
        replace_text(args.output.with_stem(f"{args.output.stem}_validation"), json.dumps(found, indent=1) + "\n")
        print(json.dumps(found, indent=1))
        return
    opening = open_test(DATA, METHOD, SEED, _settings(bundle), condition="latent_bundle", ledger=args.ledger)
    test = load_test(opening, args.data)
    report = {
        "data": "kermany_cxr_224 at 128 px, normal or pneumonia, official test set",
        "settings": _settings(bundle),
        "opening": opening.line(),
        "test": judged(bundle, test, args.data),
    }
    replace_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _settings(bundle: Bundle) -> dict[str, Any]:
    inferer = bundle.inferer
    return {
        "weights": network_hash(bundle.network),
        "space": inferer.latent_space.version,
        "draws": inferer.num_draws,
        "rule": inferer.rule,
        "weighting": str(inferer.weighting),
        "temperature": inferer.temperature,
    }


def errors_of(
    bundle: Bundle, keys: Sequence[str], root: Path, batch: int = 16
) -> tuple[DenoisingErrors, dict[str, float]]:
    """Errors of all draws, and the processor seconds an image took, encoding and all."""
    parts, spent = [], {"encoding": 0.0, "in_all": 0.0}
    for first in tqdm(range(0, len(keys), batch), desc=NAME, unit="batch"):
        pixels = bundle.read([root / DATA / key for key in keys[first : first + batch]])
        start = time.process_time()
        if first == 0:  # once more, to be timed by itself
            bundle.inferer.latent_space.encode(pixels)
            spent["encoding"] = (time.process_time() - start) / len(pixels)
            start = time.process_time()
        parts.append(bundle.classify(pixels).errors)
        spent["in_all"] += (time.process_time() - start) / len(keys)
    return DenoisingErrors.concatenate(parts), spent


def scores(errors: DenoisingErrors) -> dict[str, NDArray[np.float64]]:
    """For each decision a number an image [N], the larger, the more it speaks for pneumonia."""
    found = {}
    for name, (rule, weighting) in DECISIONS.items():
        result = classify_errors(errors, rule, weighting=weighting)
        mean = result.mean_error[:, 0] - result.mean_error[:, 1]
        found[name] = (mean if rule == "mean" else result.vote_share[:, 1]).double().numpy()
    return found


def chosen_on(bundle: Bundle, root: Path) -> dict[str, Any]:
    """AUC of every decision on validation images, and the temperature of the best one with the smallest log-loss."""
    items = load_kermany_cxr(root / DATA, "validation", classes=TWO_CLASSES)
    labels = np.array([item["label"] for item in items])
    errors, _ = errors_of(bundle, [item["key"] for item in items], root)
    aucs = {name: float(roc_auc(labels, values)) for name, values in scores(errors).items()}
    best = max(aucs, key=aucs.__getitem__)
    rule, weighting = DECISIONS[best]
    losses = {}
    for t in TEMPERATURES:
        result = classify_errors(errors, rule, weighting=weighting, temperature=t)
        losses[t] = float(negative_log_likelihood(labels, result.probabilities.double().numpy()))
    temperature = min(losses, key=losses.__getitem__)
    return {
        "images": len(labels),
        "auc": aucs,
        "decision": best,
        "temperature": temperature,
        "log_loss": losses[temperature],
    }


def judged(bundle: Bundle, test: Images, root: Path) -> dict[str, Any]:
    """What the protocol asks of the test images."""
    labels = (test.labels > 0).astype(np.int64)
    errors, spent = errors_of(bundle, test.keys.tolist(), root)
    inferer = bundle.inferer
    own = classify_errors(errors, inferer.rule, weighting=inferer.weighting, temperature=inferer.temperature)
    p, found = own.probabilities.double().numpy(), own.predicted.numpy()
    by = {"strata": labels, "groups": test.groups}
    aucs = {
        f"auc_{name}": bootstrap_interval(roc_auc, labels, values, **by)._asdict()
        for name, values in scores(errors).items()
    }
    examples = [int(row) for k in (0, 1) for row in np.flatnonzero(labels == k)[:EXAMPLES]]
    return {
        "images": len(labels),
        "auc": aucs[f"auc_{_decision(bundle)}"],
        **aucs,
        "accuracy": bootstrap_interval(_share, labels == found, **by)._asdict(),
        "balanced_accuracy": bootstrap_interval(SUBGROUP_METRICS["balanced_accuracy"], labels, p, **by)._asdict(),
        "calibration_error": bootstrap_interval(expected_calibration_error, labels, p, **by)._asdict(),
        "seconds_an_image": spent,
        "counterfactuals": edited(bundle, test, found, root),
        "examples": {str(test.keys[row]): float(p[row, 1]) for row in examples},
    }


def _decision(bundle: Bundle) -> str:
    """The name of the bundle's own decision."""
    own = (bundle.inferer.rule, str(bundle.inferer.weighting))
    return next(name for name, decision in DECISIONS.items() if decision == own or own[0] == decision[0] == "vote")


def _share(right: NDArray[np.bool_]) -> float:
    return float(np.mean(right))


def edited(bundle: Bundle, test: Images, found: NDArray[np.int64], root: Path) -> dict[str, Any]:
    """Whether decoded counterfactuals of some images are taken for the class they were made for."""
    rows = np.concatenate([np.flatnonzero((test.labels > 0) == k)[:EDITED] for k in (False, True)])
    images = bundle.read([root / DATA / test.keys[row] for row in rows])
    source = torch.from_numpy(found[rows])
    start = time.process_time()
    pair = bundle.get("counterfactuals")(
        images, bundle.network, source=source, target=1 - source, inferer=bundle.inferer
    )
    spent = time.process_time() - start
    after = bundle.classify(pair.counterfactual).predicted
    return {
        "images": len(rows),
        "flips": int((after != source).sum()),
        "share_of_flips": float((after != source).double().mean()),
        "mean_change": float((pair.counterfactual - images).abs().mean() / 2),
        "seconds_an_image": spent / len(rows),
    }


if __name__ == "__main__":
    main()
