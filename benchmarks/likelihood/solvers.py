"""What the likelihood costs: solvers and surrogates against the adaptive RK45 of the published method, in one run.

    python -m benchmarks.likelihood.solvers agreement --data DATA
    python -m benchmarks.likelihood.solvers timing --data DATA

DATA holds pneumoniamnist.npz. The reference is written after the description of Sarker et al. (ISBI 2025), with the
label bound in: the probability flow in t from 1e-5 to 1 by SciPy's RK45 at tolerance 1e-5, one class after the other,
the images of a batch in one state that goes through NumPy at every evaluation, one probe. The probe is ours, so that
all differences are the solver's.

``agreement`` counts network evaluations a class (with a derivative, for the likelihoods; without, for the denoising
classifiers) and how often the class is that of the reference: the shipped solver and the denoising classifiers on all
test images, other solvers on a part of them. ``timing`` measures wall clock, as ratios within the run; it needs a quiet
machine. Both write into ``benchmarks/results/likelihood.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import (
    Classification,
    CurtailedVote,
    DenoisingErrors,
    DifferenceModel,
    PredictiveCurtailment,
    SequentialTest,
    StagedElimination,
    StoppingRule,
    UniformDequantization,
    VoteModel,
    classify_errors,
    image_keys,
    replay,
)
from monai_diffclf.classification.philox import ImageRandom
from monai_diffclf.data import load_datalist
from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks import load_weights

BATCH = 32  # images in one state of the reference, as the published code trains
SHIPPED = ("multistep", 20)
SOLVERS = [("multistep", 16), ("multistep", 32), ("rk4", 5), ("rk4", 16), ("heun", 10), ("heun", 64)]
DRAWS = 101


class Model:
    """A bundle's network and its test images, dequantised once for all methods."""

    def __init__(self, bundle: Path, data: Path, device: str) -> None:
        config = open_bundle(bundle, "train.json", dataset_dir=str(data))
        self.network = load_weights(config.get("score"), bundle / "models" / "model.pt").to(device)
        self.sde, self.device = config.get("sde"), device
        items = load_datalist(data, "test", classes=config.get("classes"), patients=config.get("patients"))
        read = config.get("validate#preprocessing")
        images = torch.stack([torch.as_tensor(np.asarray(read(item)["image"])).float() for item in items])
        self.labels = np.array([item["label"] for item in items])
        self.images = UniformDequantization()(images).float().to(device)

    def inferer(self, **settings: Any) -> ScoreClassifierInferer:
        """An inferer of the bundle's SDE."""
        return ScoreClassifierInferer(self.sde, batch_size=2048, **settings)


def published(model: Model, images: torch.Tensor, batch: int = BATCH) -> tuple[np.ndarray, float]:
    """log p(x | k) [n, K] as the published method finds it, and its network evaluations a class and image."""
    random = ImageRandom(image_keys(images), seed=0, purpose=b"divergence", device=images.device)
    first = torch.zeros(len(images), dtype=torch.int64)
    probes = random.sign(torch.arange(len(images)), first, images.shape[1:])
    values, spent = np.empty((len(images), 2)), 0
    bar = tqdm(total=2 * math.ceil(len(images) / batch), desc="RK45", unit="batch")
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        for label in range(2):
            values[part, label], count = published_batch(model, images[part], probes[part], label)
            spent += count * len(images[part])
            bar.update()
    bar.close()
    return values, spent / (2 * len(images))


def published_batch(model: Model, images: torch.Tensor, probes: torch.Tensor, label: int) -> tuple[np.ndarray, int]:
    """One class's log-likelihoods of a batch [b], and the solver's evaluations."""
    count, elements = len(images), images[0].numel()
    labels = torch.full((count,), label, device=images.device)

    def flow(t: float, state: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(state[:-count]).float().view(images.shape).to(images.device).requires_grad_(True)
        with torch.enable_grad():
            score = model.network(x=x, timesteps=torch.full((count,), t, device=x.device), class_labels=labels)
            (product,) = torch.autograd.grad(score, x, probes)
        rate = -0.5 * float(model.sde.beta(t))
        change = rate * (x + score).detach()
        divergence = rate * (elements + (product * probes).flatten(1).sum(1))
        return np.concatenate([change.cpu().numpy().ravel(), divergence.cpu().numpy()]).astype(np.float64)

    start = np.concatenate([images.cpu().double().numpy().ravel(), np.zeros(count)])
    solved = solve_ivp(flow, (model.sde.t_min, 1.0), start, method="RK45", rtol=1e-5, atol=1e-5)
    end = solved.y[:, -1]
    z = end[:-count].reshape(count, -1)
    return -0.5 * (z**2).sum(1) - 0.5 * elements * math.log(2 * math.pi) + end[-count:], int(solved.nfev)


def describe(name: str, margin: np.ndarray, reference: np.ndarray, labels: np.ndarray, **facts: Any) -> dict[str, Any]:
    """A line of the table: margins are log p(x | 1) - log p(x | 0), or what stands for it."""
    differs = int(((margin > 0) != (reference > 0)).sum())
    # One-sided 95 % limit (Clopper and Pearson).
    limit = float(binomtest(differs, len(margin)).proportion_ci(0.9, method="exact").high)
    return {
        "method": name,
        "num_images": len(margin),
        "differs": differs,
        "agrees": 1 - differs / len(margin),
        "differs_at_most": limit,
        "auc": float(roc_auc_score(labels, margin)),
        **facts,
    }


def margins(values: torch.Tensor) -> np.ndarray:
    return (values[:, 1] - values[:, 0]).double().cpu().numpy()


def by_solver(
    model: Model, solver: str, steps: int, images: torch.Tensor, labels: np.ndarray, reference: np.ndarray
) -> dict[str, Any]:
    """One solver's likelihoods against the reference's [n, K]."""
    inferer = model.inferer(solver=solver, num_steps=steps)
    parts = [inferer.classify(part, model.network) for part in tqdm(images.split(BATCH), desc=f"{solver} {steps}")]
    own = torch.cat([part.log_likelihood for part in parts]).cpu().numpy()
    truth, error = reference[:, 1] - reference[:, 0], own - reference
    return describe(
        f"{solver}, {steps} steps",
        own[:, 1] - own[:, 0],
        truth,
        labels,
        evaluations=int(parts[0].network_evaluations[0]) / 2,
        largest_error_per_dimension=float(np.abs(error).max() / images[0].numel()),
        margin_error=float(np.sqrt(np.mean((error[:, 1] - error[:, 0]) ** 2))),
    )


def denoising(model: Model, images: torch.Tensor, labels: np.ndarray, truth: np.ndarray) -> list[dict[str, Any]]:
    """The variational bound and the denoising classifiers with their stopping rules, on the same network."""
    inferer, rows = model.inferer(), []
    bounds = [
        inferer.variational_bound(part, model.network, num_draws=DRAWS) for part in tqdm(images.split(8), desc="bound")
    ]
    value, error = (torch.cat([getattr(b, name) for b in bounds]) for name in ("value", "difference_error"))
    spread = float(error[:, 0, 1].median())
    rows.append(
        describe(
            f"bound, {DRAWS} draws", margins(value), truth, labels, evaluations=DRAWS, median_margin_error_bar=spread
        )
    )
    classifier = inferer.denoising_classifier(num_draws=DRAWS, time_sampling="uniform")
    parts = [classifier.compute_errors(part, model.network) for part in tqdm(images.split(8), desc="denoising")]
    errors = DenoisingErrors.concatenate([part.to("cpu") for part in parts])
    half = torch.arange(len(errors)) % 2 == 0  # the model of predictive curtailment is fitted to the other half
    for rule in ("mean", "vote"):
        full = classify_errors(errors, rule, temperature=0.15)
        rows.append(
            describe(f"{rule}, {DRAWS} draws", margins(full.probabilities.log()), truth, labels, evaluations=DRAWS)
        )
        for name, stopping in stopping_rules(rule).items():
            result = replay(errors, stopping, rule=rule, temperature=0.15)
            rows.append(stopped(f"{rule}, {name}", result, full, truth, labels))
        fit = VoteModel.fit if rule == "vote" else (lambda e: DifferenceModel.fit(e, "mean"))
        margin, spent, same = np.empty(len(errors)), 0.0, 0
        for mine, other in ((half, ~half), (~half, half)):
            result = replay(errors[mine], PredictiveCurtailment(0.01, fit(errors[other])), rule=rule, temperature=0.15)
            margin[mine.numpy()] = margins(result.probabilities.log())
            spent += float(result.network_evaluations.sum())
            same += int((result.predicted == full.predicted[mine]).sum())
        facts = {"evaluations": spent / len(errors) / 2, "agrees_with_all_draws": same / len(errors)}
        rows.append(describe(f"{rule}, predictive curtailment 0.01", margin, truth, labels, **facts))
    return rows


def stopping_rules(rule: str) -> dict[str, StoppingRule]:
    """Stopping rules that need no model."""
    rules: dict[str, StoppingRule] = {"sequential test 0.01": SequentialTest(0.01)}
    rules["staged elimination"] = StagedElimination((25,), (1,))
    return {"exact curtailment": CurtailedVote(), **rules} if rule == "vote" else rules


def stopped(
    name: str, result: Classification, full: Classification, truth: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """The line of a stopping rule, which also says how often it keeps the class of all draws."""
    return describe(
        name,
        margins(result.probabilities.log()),
        truth,
        labels,
        evaluations=float(result.network_evaluations.double().mean()) / 2,
        agrees_with_all_draws=float((result.predicted == full.predicted).double().mean()),
    )


def agreement(model: Model, count: int, part: int) -> dict[str, Any]:
    """Decisions and evaluations of all methods."""
    images, labels = model.images[:count], model.labels[:count]
    reference, spent = published(model, images)
    truth = reference[:, 1] - reference[:, 0]
    rows = [describe("RK45 1e-5 in t, as published", truth, truth, labels, evaluations=spent)]
    rows.append(by_solver(model, *SHIPPED, images, labels, reference))
    rows += denoising(model, images, labels, truth)
    some = torch.linspace(0, count - 1, min(part, count)).long()
    rows += [
        by_solver(model, *solver, images[some], labels[some.numpy()], reference[some.numpy()]) for solver in SOLVERS
    ]
    for row in rows:
        print(
            f"{row['method']:34s} {row['num_images']:4d} images  {row['evaluations']:6.1f} evaluations  agrees "
            f"{100 * row['agrees']:6.2f} %  AUC {row['auc']:.4f}"
        )
    return {"agreement": rows}


def timing(model: Model, count: int) -> dict[str, Any]:
    """Seconds an image of the published loop, image by image and in batches, over those of the shipped solver."""
    images = model.images[torch.linspace(0, len(model.images) - 1, count).long()]
    inferer = model.inferer(solver=SHIPPED[0], num_steps=SHIPPED[1])
    inferer.log_likelihood(images[:1], model.network)  # warms up
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: inferer.log_likelihood(images, model.network),
        "ours_one_by_one": lambda: [inferer.log_likelihood(image, model.network) for image in images.split(1)],
        "published_batches": lambda: published(model, images),
        "published_one_by_one": lambda: published(model, images, batch=1),
    }
    seconds = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        if model.device == "cuda":
            torch.cuda.synchronize()
        seconds[name] = (time.perf_counter() - start) / count
    device = torch.cuda.get_device_name() if model.device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    ratios = {name: seconds[name] / seconds["ours"] for name in seconds}
    print(device, *(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    return {f"timing on {device}": {"num_images": count, "seconds_per_image": seconds, "ratios": ratios}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["agreement", "timing"])
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz")
    parser.add_argument("--bundle", type=Path, default=BUNDLES / "pneumonia_xray_score")
    parser.add_argument("--images", type=int, default=None, help="test images; by default all, 32 for timing")
    parser.add_argument("--part", type=int, default=156, help="images of the solvers that are not shipped")
    parser.add_argument("--output", type=Path, default=RESULTS / "likelihood.json")
    args = parser.parse_args()
    model = Model(args.bundle, args.data, "cuda" if torch.cuda.is_available() else "cpu")
    if args.command == "agreement":
        found = agreement(model, args.images or len(model.labels), args.part)
    else:
        found = timing(model, args.images or 32)
    known = json.loads(args.output.read_text()) if args.output.exists() else {}
    args.output.write_text(json.dumps(known | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
