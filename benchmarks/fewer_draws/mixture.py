"""How the cost of a decision grows with the number of classes, on classes with a known density and their denoiser.

    python -m benchmarks.fewer_draws.mixture [--images 80] [--draws 501] [--classes 2 5 10 20] [--alpha 0.01]

Class k are images of independent Gaussian pixels with mean mu_k and one standard deviation for all, so that the optimal
denoiser is known in closed form. The distance of the means is chosen so that the best possible accuracy is the same for
all K. Four problems:

* ``pairs``: on 36 pixels, pairs of similar classes far from all others, as with kinds and their subtypes;
* ``random``: means drawn at random on 4 pixels: some neighbours are near, some far;
* ``equal``: on 36 pixels, all means equally far from one another: every class is every other's rival;
* ``easy_pairs``: as ``pairs``, with all noise levels of a usual schedule.

``strength`` says how much one draw tells: the root mean square over images of mean / standard deviation of the
difference between the two best classes in a draw. Published curves of real networks are described by 0.6 to 0.9. An
exact denoiser reaches several times that at high noise, where it cancels the noise that it knows, so that two classes
need no more than the fewest draws a rule makes, and more classes cannot need fewer. Therefore the first three problems
have log-SNR 2.5 to 6 only, where one draw tells what it tells with a real network.

That range was chosen after others had been tried (40 images, mean error): with standard deviations of 0.05 to 0.2 on
the cosine schedule, or log-SNR -5 to -1 and -4 to 0.5, 20 classes cost 8 to 16 times as much as 2 in all problems.

Prints one JSON object: mean network evaluations an image, and agreement with the class of all draws. The model of the
predictive rule is fitted to other images of the same classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    PredictiveCurtailment,
    SequentialTest,
    StoppingRule,
    VoteModel,
    classify_errors,
    replay,
)
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.schedulers import NoiseProcess

STD, ACCURACY = 0.5, 0.9
SHAPES = {"pairs": (1, 6, 6), "random": (1, 2, 2), "equal": (1, 6, 6), "easy_pairs": (1, 6, 6)}
LOG_SNR = {"easy_pairs": (-10.0, 10.0)}  # else:
HARD = (2.5, 6.0)
FAR = 10.0  # distance between pairs over the distance within


class GaussianDenoiser(torch.nn.Module):
    """E[epsilon | z, class k] of Gaussian classes: sigma (z - alpha mu_k) / (alpha^2 STD^2 + sigma^2).

    Args:
        process: noise process of a scheduler that predicts epsilon.
        means: means of the classes [K, C, *spatial].
    """

    def __init__(self, process: NoiseProcess, means: torch.Tensor) -> None:
        super().__init__()
        self.process, self.means = process, means
        self.eval()

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, class_labels: torch.Tensor) -> torch.Tensor:
        """Predict the noise in ``x`` [B, C, *spatial]."""
        alpha, sigma = (factor.float().reshape(-1, 1, 1, 1) for factor in self.process.alpha_sigma(timesteps))
        noise: torch.Tensor = sigma * (x - alpha * self.means[class_labels]) / (alpha**2 * STD**2 + sigma**2)
        return noise


def unit_means(layout: str, num_classes: int, seed: int = 0) -> torch.Tensor:
    """Means of the classes before scaling [K, C, *spatial]."""
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[layout]
    size = shape[0] * shape[1] * shape[2]
    if layout == "random":
        return torch.randn(num_classes, *shape, generator=generator)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    if layout.endswith("pairs"):
        sign = 1.0 - 2.0 * (torch.arange(num_classes) % 2)
        axes = (
            FAR * axes[torch.arange(num_classes) // 2]
            + sign[:, None] * axes[size // 2 + torch.arange(num_classes) // 2]
        )
    return axes[:num_classes].reshape(num_classes, *shape)


def strength(errors: DenoisingErrors) -> float:
    """Root mean square over images of mean / standard deviation of the difference of the two best classes."""
    best = errors.values.double().mean(2).topk(2, dim=1, largest=False).indices
    values = errors.values.double().gather(1, best[:, :, None].expand(-1, -1, errors.num_draws))
    difference = values[:, 1] - values[:, 0]
    return float((difference.mean(1) / difference.std(1)).square().mean().sqrt())


def make_images(means: torch.Tensor, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of all classes in turn, and their classes."""
    labels = torch.arange(count) % len(means)
    noise = torch.randn(count, *means.shape[1:], generator=torch.Generator().manual_seed(seed))
    return means[labels] + STD * noise, labels


def best_accuracy(means: torch.Tensor, count: int = 20000) -> float:
    """Accuracy of the nearest mean, which is the best there is for these classes."""
    images, labels = make_images(means, count, seed=1)
    nearest = torch.cdist(images.flatten(1), means.flatten(1)).argmin(1)
    return float((nearest == labels).double().mean())


def scaled_means(layout: str, num_classes: int) -> torch.Tensor:
    """Means at the distance that gives ACCURACY."""
    means = unit_means(layout, num_classes)
    low, high = 0.01, 20.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if best_accuracy(middle * means) < ACCURACY else (low, middle)
    return high * means


def all_errors(
    means: torch.Tensor, images: torch.Tensor, num_draws: int, limits: tuple[float, float]
) -> DenoisingErrors:
    """Errors of all draws and classes; ``limits`` are those of the log-SNR."""
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        schedule="cosine_log_snr",
        log_snr_min=limits[0],
        log_snr_max=limits[1],
        prediction_type="epsilon",
    )
    inferer = DiffusionClassifierInferer(scheduler, num_classes=len(means), num_draws=num_draws, batch_size=8192)
    return inferer.compute_errors(images, GaussianDenoiser(inferer.process, means))


def measure(layout: str, num_classes: int, *, images: int, num_draws: int, alpha: float) -> dict[str, Any]:
    """Cost and agreement of the rules for one problem."""
    means = scaled_means(layout, num_classes)
    test, labels = make_images(means, images, seed=2)
    limits = LOG_SNR.get(layout, HARD)
    errors = all_errors(means, test, num_draws, limits)
    fit = all_errors(means, make_images(means, max(40, images // 2), seed=3)[0], num_draws, limits)
    entry: dict[str, Any] = {"problem": layout, "num_classes": num_classes, "best_accuracy": best_accuracy(means)}
    entry["strength"] = strength(errors)
    for rule in ("mean", "vote"):
        full = classify_errors(errors, rule).predicted
        entry[f"accuracy_{rule}"] = float((full == labels).double().mean())
        model = VoteModel.fit(fit) if rule == "vote" else DifferenceModel.fit(fit, rule)
        stopping: dict[str, StoppingRule] = {
            "sequential": SequentialTest(alpha),
            "predictive": PredictiveCurtailment(alpha, model),
        }
        for name, chosen in stopping.items():
            result = replay(errors, chosen, rule=rule)
            spent = result.network_evaluations.double()
            entry[f"{name}_{rule}"] = {
                "evaluations": float(spent.mean()),
                "standard_error": float(spent.std() / len(spent) ** 0.5),
                "agree": int((result.predicted == full).sum()),
            }
    return entry


def grow_classes(
    classes: Sequence[int] = (2, 5, 10, 20), *, images: int = 80, num_draws: int = 501, alpha: float = 0.01
) -> dict[str, Any]:
    """All problems for some numbers of classes, and their cost relative to the fewest classes."""
    rows = [
        measure(layout, k, images=images, num_draws=num_draws, alpha=alpha)
        for layout in SHAPES
        for k in sorted(classes)
    ]
    first = {row["problem"]: row for row in reversed(rows)}
    for row in rows:
        for name, found in row.items():
            if isinstance(found, dict):
                found["relative"] = found["evaluations"] / first[row["problem"]][name]["evaluations"]
    return {"images": images, "num_draws": num_draws, "alpha": alpha, "problems": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--draws", type=int, default=501)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--alpha", type=float, default=0.01)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(grow_classes(args.classes, images=args.images, num_draws=args.draws, alpha=args.alpha), indent=1))


if __name__ == "__main__":
    main()
