"""What the likelihood costs: solvers and surrogates against the adaptive RK45 of the published method, in one run.

    python benchmarks/likelihood.py --data DATA [--bundle bundles/pneumonia_xray_score] [--images N] [--timed N]

The reference is written after the description of Sarker et al. (ISBI 2025), with the label bound in: the probability
flow in t from 1e-5 to 1 by SciPy's RK45 at tolerance 1e-5, one class after the other, the images of a batch in one
state that goes through NumPy at every evaluation, one probe. The probe is ours, so that all differences are the
solver's. Each line says how many network evaluations a class takes (with a derivative, for the likelihoods), how often
the class is that of the reference, and the time per image as a ratio within this run. DATA holds pneumoniamnist.npz.
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
from monai.bundle import ConfigParser
from scipy.integrate import solve_ivp
from scipy.stats import beta
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from monai_diffclf.classification import UniformDequantization, classify_errors
from monai_diffclf.classification.draws import image_generator, image_keys
from monai_diffclf.data import load_datalist
from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks import load_weights

BATCH = 32  # images in one state of the reference, as the published code trains
SOLVERS = [
    ("multistep", 16), ("multistep", 20), ("multistep", 32), ("multistep", 64), ("rk4", 6), ("rk4", 16), ("rk4", 32),
    ("heun", 12), ("heun", 32), ("heun", 64),
]  # fmt: skip


class Model:
    """A bundle's network and its test images, dequantised once for all methods."""

    def __init__(self, bundle: Path, data: Path, device: str) -> None:
        config = ConfigParser()
        config.read_config(str(bundle / "configs" / "train.json"))
        config["bundle_root"], config["dataset_dir"] = str(bundle), str(data)
        self.network = load_weights(config.get_parsed_content("score"), bundle / "models" / "model.pt").to(device)
        self.sde, self.device = config.get_parsed_content("sde"), device
        items = load_datalist(
            data, "test", classes=config.get_parsed_content("classes"), patients=config.get_parsed_content("patients")
        )
        read = config.get_parsed_content("validate#preprocessing")
        images = torch.stack([torch.as_tensor(np.asarray(read(item)["image"])).float() for item in items])
        self.labels = np.array([item["label"] for item in items])
        self.images = UniformDequantization()(images).float().to(device)

    def inferer(self, **settings: Any) -> ScoreClassifierInferer:
        """An inferer of the bundle's SDE."""
        return ScoreClassifierInferer(self.sde, batch_size=2048, **settings)


def published(model: Model, images: torch.Tensor) -> tuple[np.ndarray, float]:
    """log p(x | k) [n, K] as the published method finds it, and its network evaluations a class and image."""
    keys = image_keys(images)
    generators = [image_generator(key, 0, 0, purpose=b"divergence") for key in keys]
    probes = torch.stack([torch.randint(0, 2, images.shape[1:], generator=g).float() * 2 - 1 for g in generators])
    values, spent = np.empty((len(images), 2)), 0
    bar = tqdm(total=2 * math.ceil(len(images) / BATCH), desc="RK45", unit="batch")
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        for label in range(2):
            values[part, label], count = published_batch(model, images[part], probes[part].to(images.device), label)
            spent += count * len(images[part])
            bar.update()
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


def timed(device: str, call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    result = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def describe(name: str, margin: np.ndarray, reference: np.ndarray, labels: np.ndarray, **facts: Any) -> dict[str, Any]:
    """A line of the table: margins are log p(x | 1) - log p(x | 0), or what stands for it."""
    agrees = int(((margin > 0) == (reference > 0)).sum())
    upper = 1.0 if agrees == 0 else float(beta.ppf(0.95, len(margin) - agrees + 1, agrees))
    return {
        "method": name,
        "agrees": agrees / len(margin),
        "differs_at_most": upper,  # one-sided 95 % limit (Clopper and Pearson)
        "auc": float(roc_auc_score(labels, margin)),
        "num_images": len(margin),
        **facts,
    }


def margins(values: torch.Tensor) -> np.ndarray:
    return (values[:, 1] - values[:, 0]).double().cpu().numpy()


def run(model: Model, count: int, count_timed: int) -> list[dict[str, Any]]:
    """The table."""
    images, labels = model.images[:count], model.labels[:count]
    timing = model.images[torch.linspace(0, count - 1, count_timed).long()]
    reference, spent = published(model, images)
    (_, slow) = timed(model.device, lambda: published(model, timing))
    truth, elements = reference[:, 1] - reference[:, 0], images[0].numel()
    rows = [describe("RK45 1e-5 in t (as published)", truth, truth, labels, evaluations=spent, faster=1.0)]
    for solver, steps in tqdm(SOLVERS, desc="solvers"):
        inferer = model.inferer(solver=solver, num_steps=steps)
        inferer.classify(timing[:1], model.network)  # warms up
        _, seconds = timed(model.device, lambda inferer=inferer: inferer.classify(timing, model.network))
        result = inferer.classify(images, model.network)
        own = result.log_likelihood
        error = np.abs(own.cpu().numpy() - reference).max() / elements
        rows.append(
            describe(
                f"{solver}, {steps} steps",
                margins(own),
                truth,
                labels,
                evaluations=int(result.network_evaluations[0]) / 2,
                faster=slow / seconds,
                largest_error_per_dimension=float(error),
                margin_error=float(np.sqrt(np.mean((margins(own) - truth) ** 2))),
            )
        )
    return rows + surrogates(model, images, labels, timing, truth, slow)


def surrogates(
    model: Model, images: torch.Tensor, labels: np.ndarray, timing: torch.Tensor, truth: np.ndarray, slow: float
) -> list[dict[str, Any]]:
    """The denoising classifiers and the bound on the same network."""
    rows, inferer = [], model.inferer()
    for draws in (51, 201):
        bound, seconds = timed(
            model.device, lambda n=draws: inferer.variational_bound(timing, model.network, num_draws=n)
        )
        bound = inferer.variational_bound(images, model.network, num_draws=draws)
        own = margins(bound.value)
        facts = {"evaluations": draws, "faster": slow / seconds}
        error = float(bound.difference_error[:, 0, 1].median())
        rows.append(describe(f"bound, {draws} draws", own, truth, labels, margin_standard_error=error, **facts))
        errors = inferer.denoising_classifier(num_draws=draws, time_sampling="uniform").compute_errors(
            images, model.network
        )
        for rule in ("mean", "vote"):
            result = classify_errors(errors, rule, temperature=0.15)
            own = margins(result.probabilities.double().log())
            rows.append(describe(f"denoising {rule}, {draws} draws", own, truth, labels, **facts))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "bundles" / "pneumonia_xray_score")
    parser.add_argument("--images", type=int, default=None, help="test images; all by default")
    parser.add_argument("--timed", type=int, default=32, help="images that are timed")
    parser.add_argument("--output", type=Path, default=None, help="JSON file of the table")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Model(args.bundle, args.data, device)
    count = len(model.labels) if args.images is None else args.images
    rows = run(model, count, min(args.timed, count))
    for row in rows:
        print(
            f"{row['method']:32s} {row['evaluations']:6.0f} evaluations  {row['faster']:6.1f} times faster  agrees "
            f"{100 * row['agrees']:6.2f} %  AUC {row['auc']:.4f}"
        )
    if args.output is not None:
        name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
        args.output.write_text(json.dumps({"device": name, "timed_images": args.timed, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
