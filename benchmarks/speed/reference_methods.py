"""Two published ways to classify with a diffusion model, written anew from their descriptions, to compare with.

* :func:`reference_loop`: Favero et al. (2025). One image after the other; for each draw a level of its own, independent
  of all others, and new noise; under each class one call of the network. No batching, no early stop.
* :func:`li_method`: Li et al. (2023, section 3.2 and algorithm 2). Evenly spaced timesteps and one bank of noise shared
  by all classes and images; (timestep, class) pairs mixed in batches of 32; the classes with the largest mean epsilon
  error are dropped in stages.

Both take any network that is called the MONAI way. Noising and the conversion of predictions to epsilon are the
package's, as they are not what is compared. Used by ``benchmarks/speed/side_by_side.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from monai_diffclf.networks.conditioning import Conditioning, make_conditioning
from monai_diffclf.networks.schedulers import NoiseProcess

Network = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """What a method says of some images, and what it spent.

    Args:
        predicted: predicted class of each image under each rule: {"vote" | "mean": [B], int64}.
        evaluations: network evaluations spent on each image [B], int64.
    """

    predicted: dict[str, torch.Tensor]
    evaluations: torch.Tensor


def _error(
    network: Network,
    process: NoiseProcess,
    images: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    condition: dict[str, Any],
) -> torch.Tensor:
    """Squared epsilon error, mean over the elements, of one call [B], float64."""
    prediction = network(x=process.add_noise(images, noise, timesteps), timesteps=timesteps, **condition)
    squared = (prediction.float() - process.target(images, noise, timesteps)).square()
    return squared.flatten(1).mean(1).double() * process.epsilon_factor(timesteps).to(images.device)


@torch.inference_mode()
def reference_loop(
    images: torch.Tensor,
    network: Network,
    process: NoiseProcess,
    *,
    num_classes: int = 2,
    num_draws: int = 501,
    conditioning: str | Conditioning = "class_labels",
    seed: int = 0,
    image_batch: int = 1,
) -> Outcome:
    """Classify by independent draws, each class in a call of its own.

    Args:
        images: images [B, C, *spatial].
        network: the denoiser in eval mode.
        process: its forward process.
        num_classes: number of classes K.
        num_draws: draws an image, N.
        conditioning: how a class reaches the network, see :mod:`monai_diffclf.networks.conditioning`.
        seed: seed of levels and noise.
        image_batch: images that share a call, each with its own level and noise.

    Returns:
        the class with most smallest errors ("vote"; the lowest index of those that tie) and the one with the smallest
        mean error ("mean"), from K N evaluations an image.
    """
    generator, condition = torch.Generator().manual_seed(seed), make_conditioning(conditioning, num_classes)
    errors = torch.empty(len(images), num_classes, num_draws, dtype=torch.float64)
    for rows in torch.arange(len(images)).split(image_batch):
        batch = images[rows.to(images.device)]
        for draw in range(num_draws):
            levels = torch.rand(len(rows), generator=generator, dtype=torch.float64)
            timesteps = process.timesteps(levels).to(images.device)
            noise = torch.randn(batch.shape, generator=generator).to(images.device)
            for label in range(num_classes):
                labels = torch.full((len(rows),), label, device=images.device)
                errors[rows, label, draw] = _error(network, process, batch, noise, timesteps, condition(labels)).cpu()
    votes = torch.nn.functional.one_hot(errors.argmin(1), num_classes).sum(1)
    return Outcome(
        predicted={"vote": votes.argmax(1), "mean": errors.mean(2).argmin(1)},
        evaluations=torch.full((len(images),), num_classes * num_draws),
    )


def evenly(candidates: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` of the candidates, evenly spaced.

    Example:
        >>> evenly(torch.arange(10), 2).tolist()
        [2, 7]
    """
    return candidates[((torch.arange(count) + 0.5) * len(candidates) / count).long()]


def _check_stages(draws: Sequence[int], keep: Sequence[int]) -> None:
    if not draws or len(draws) != len(keep) or list(draws) != sorted(set(draws)) or draws[0] < 1:
        raise ValueError(f"draws: expected ascending positive numbers, one for each of keep, got {list(draws)}")
    if list(keep) != sorted(keep, reverse=True) or keep[-1] != 1:
        raise ValueError(f"keep: expected numbers that descend to 1, got {list(keep)}")


@torch.inference_mode()
def li_method(
    images: torch.Tensor,
    network: Network,
    process: NoiseProcess,
    *,
    num_classes: int = 2,
    draws: Sequence[int] = (50, 500),
    keep: Sequence[int] = (5, 1),
    batch_size: int = 32,
    conditioning: str | Conditioning = "class_labels",
    seed: int = 0,
) -> Outcome:
    """Classify by the mean epsilon error over evenly spaced timesteps, dropping classes in stages.

    Args:
        images: images [B, C, *spatial].
        network: the denoiser in eval mode.
        process: its forward process.
        num_classes: number of classes K.
        draws: draws of each class left at the end of each stage; the last is the number of timesteps N.
        keep: classes kept at the end of each stage, not more than there are; the last is 1. (50, 500) and (5, 1) are
            theirs for CIFAR-10.
        batch_size: (timestep, class) pairs of one image in one call.
        conditioning: how a class reaches the network.
        seed: seed of the bank of noise.

    Returns:
        the class with the smallest mean error ("mean") and the evaluations spent.

    Raises:
        ValueError: when the stages do not fit together.
    """
    _check_stages(draws, keep)
    condition = make_conditioning(conditioning, num_classes)
    timesteps = process.timesteps((torch.arange(draws[-1], dtype=torch.float64) + 0.5) / draws[-1]).to(images.device)
    bank = torch.randn(draws[-1], *images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(images.device)
    predicted, evaluations = [], []
    for image in images:
        errors = torch.full((num_classes, draws[-1]), torch.nan, dtype=torch.float64)
        left, made = torch.arange(num_classes), torch.empty(0, dtype=torch.long)
        for count, kept in zip(draws, keep, strict=True):
            missing = torch.isnan(errors[left[0]]).nonzero().flatten()
            fresh = evenly(missing, count - len(made))
            for pairs in torch.cartesian_prod(left, fresh).split(batch_size):
                label, draw = pairs.to(images.device).unbind(1)
                batch = image.expand(len(pairs), *image.shape)
                error = _error(network, process, batch, bank[draw], timesteps[draw], condition(label))
                errors[pairs[:, 0], pairs[:, 1]] = error.cpu()
            made = torch.cat([made, fresh])
            mean = errors[left][:, made].mean(1)
            left = left[mean.argsort(stable=True)[: min(kept, len(left))]]
        predicted.append(left[0])
        evaluations.append((~torch.isnan(errors)).sum())
    return Outcome(predicted={"mean": torch.stack(predicted)}, evaluations=torch.stack(evaluations))
