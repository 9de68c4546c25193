# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Conversion between what diffusion networks predict: the noise, the image, or the velocity.

With z = alpha x + sigma epsilon and alpha^2 + sigma^2 = 1 (variance preserving), any one of epsilon, x and
v = alpha epsilon - sigma x (Salimans and Ho, Progressive distillation, ICLR 2022, appendix D) gives the other two.
"""

from __future__ import annotations

import torch

__all__ = ["PREDICTION_TYPES", "alpha_sigma", "convert_prediction"]

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


def alpha_sigma(log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the image and of the noise: alpha = sqrt(sigmoid(lambda)), sigma = sqrt(sigmoid(-lambda)).

    Args:
        log_snr: log signal-to-noise ratio lambda = log(alpha^2 / sigma^2), floating point, any shape.

    Returns:
        alpha and sigma, each with the shape and dtype of ``log_snr``.

    Example:
        >>> alpha, sigma = alpha_sigma(torch.tensor([0.0, 15.0]))
        >>> [f"{value:.4g}" for value in (*alpha.tolist(), *sigma.tolist())]
        ['0.7071', '1', '0.7071', '0.0005531']
    """
    # sigmoid(-lambda), not 1 - sigmoid(lambda): the difference has no digits left where there is hardly any noise.
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def convert_prediction(
    prediction: torch.Tensor, noisy: torch.Tensor, log_snr: torch.Tensor, *, source: str, target: str
) -> torch.Tensor:
    """A network's prediction expressed as another of "epsilon", "sample" and "v_prediction".

    With z the noisy image, epsilon = (z - alpha x) / sigma = sigma z + alpha v, x = (z - sigma epsilon) / alpha =
    alpha z - sigma v, and v = (epsilon - sigma z) / alpha = (alpha z - x) / sigma. Where alpha or sigma is small,
    dividing by it enlarges errors: at lambda = -15 an image computed from epsilon has 1,800 times its error.

    Args:
        prediction: the network's output, ``[B, C, *spatial]``.
        noisy: the noisy image z that the network was given, ``[B, C, *spatial]``.
        log_snr: log signal-to-noise ratio of z, one number for all (no axis) or one an image, ``[B]``.
        source: what ``prediction`` is: "epsilon", "sample" or "v_prediction".
        target: what to return.

    Returns:
        The prediction as ``target``, ``[B, C, *spatial]``, in the wider dtype of ``prediction`` and ``noisy``, float32
        or wider.

    Raises:
        ValueError: when ``source`` or ``target`` is unknown, or the shapes do not fit.

    Example:
        >>> noisy, epsilon, log_snr = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([0.0])
        >>> sample = convert_prediction(epsilon, noisy, log_snr, source="epsilon", target="sample")
        >>> round(sample.item(), 4)
        1.8284
    """
    _check(prediction, noisy, log_snr, source, target)
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, noisy.dtype), torch.float32)
    prediction, noisy = prediction.to(dtype), noisy.to(dtype)
    if source == target:
        return prediction
    shape = (-1, *[1] * (noisy.ndim - 1)) if log_snr.ndim else ()
    alpha, sigma = (factor.to(noisy).reshape(shape) for factor in alpha_sigma(log_snr.double()))
    if target == "epsilon":
        return to_epsilon(prediction, noisy, alpha, sigma, source=source)
    if source == "epsilon":
        return from_epsilon(prediction, noisy, alpha, sigma, target=target)
    return alpha * noisy - sigma * prediction if target == "sample" else (alpha * noisy - prediction) / sigma


def to_epsilon(
    prediction: torch.Tensor, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, *, source: str
) -> torch.Tensor:
    """The noise that a prediction implies; alpha and sigma broadcast. v is that of a variance preserving process."""
    if source == "epsilon":
        return prediction
    return (noisy - alpha * prediction) / sigma if source == "sample" else sigma * noisy + alpha * prediction


def from_epsilon(
    epsilon: torch.Tensor, noisy: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, *, target: str
) -> torch.Tensor:
    """What would be predicted with this noise, the inverse of `to_epsilon`."""
    if target == "epsilon":
        return epsilon
    return (noisy - sigma * epsilon) / alpha if target == "sample" else (epsilon - sigma * noisy) / alpha


def _check(prediction: torch.Tensor, noisy: torch.Tensor, log_snr: torch.Tensor, source: str, target: str) -> None:
    for name, value in (("source", source), ("target", target)):
        if value not in PREDICTION_TYPES:
            raise ValueError(f"Argument `{name}` must be one of {list(PREDICTION_TYPES)}, but got {value!r}.")
    if prediction.shape != noisy.shape:
        raise ValueError(
            f"Arguments `prediction` and `noisy` must have the same shape, but got {tuple(prediction.shape)} and "
            f"{tuple(noisy.shape)}; split off a learned variance first."
        )
    if log_snr.ndim and tuple(log_snr.shape) != (noisy.shape[0],):
        raise ValueError(
            f"Argument `log_snr` must be a single number or one an image, [{noisy.shape[0]}], but got the shape "
            f"{tuple(log_snr.shape)}."
        )
