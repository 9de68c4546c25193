# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether an image is of the kind that a score model was validated on, from its log-likelihood alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..classification import DenoisingErrors
from ..classification.rules import mean_errors

__all__ = ["LikelihoodTypicality", "fit_likelihood_typicality", "likelihood_score"]

MIN_IMAGES = 20


@dataclass(frozen=True, eq=False)
class LikelihoodTypicality:
    """Log-likelihoods of validation images, and how far others are from them; see :func:`fit_likelihood_typicality`.

    Args:
        reference: log p(x) of the validation images [n], float64, sorted.
    """

    reference: torch.Tensor

    def score(self, log_likelihood: torch.Tensor) -> torch.Tensor:
        """|log p(x) - median of the validation images| in nats [B]: large is untypical (Nalisnick et al. 2019).

        Args:
            log_likelihood: log p(x) [B], see :func:`monai_diffclf.classification.marginal_log_likelihood`.
        """
        values = _check(log_likelihood)
        return (values - self.reference.to(values.device).median()).abs()

    def p_value(self, log_likelihood: torch.Tensor) -> torch.Tensor:
        """Two-sided p-value of each image [B]: twice the smaller tail of the validation images, at most 1.

        Valid for images exchangeable with the validation images: at most p in a share p of them.
        """
        values = _check(log_likelihood)
        below = torch.searchsorted(self.reference.to(values.device), values, right=True)
        above = len(self.reference) - torch.searchsorted(self.reference.to(values.device), values)
        return (2 * (1 + torch.minimum(below, above)).double() / (len(self.reference) + 1)).clamp(max=1)


def fit_likelihood_typicality(log_likelihood: torch.Tensor) -> LikelihoodTypicality:
    """Learn what log-likelihoods images of the model's kind have.

    A likelihood says how well an image is predicted, not whether it is of the kind: smooth or empty images are
    predicted better than those the model was trained on, and score as likelier (Nalisnick et al. 2019). The typicality
    test takes them for what they are, too likely. It knows one number of an image;
    :func:`monai_diffclf.uncertainty.fit_typicality` knows its errors at all noise levels and, with maps, in all places,
    and is the one to use where they are at hand.

    Args:
        log_likelihood: log p(x) of validation images [n], see
            :func:`monai_diffclf.classification.marginal_log_likelihood`.

    Raises:
        ValueError: when there are fewer than 20, or some are not finite.

    Example:
        >>> typicality = fit_likelihood_typicality(torch.linspace(-110, -90, 99))
        >>> [round(p, 2) for p in typicality.p_value(torch.tensor([-100.0, -50.0, -150.0])).tolist()]
        [1.0, 0.02, 0.02]
    """
    values = _check(log_likelihood)
    if len(values) < MIN_IMAGES:
        raise ValueError(f"log_likelihood: expected those of at least {MIN_IMAGES} images, got {len(values)}")
    return LikelihoodTypicality(values.cpu().sort().values)


def likelihood_score(errors: DenoisingErrors) -> torch.Tensor:
    """Bound on -log p(x | best class) in nats per element, up to a constant of the schedule [B], float64.

    Kingma et al. (2021), equation 18: half of the mean error under the ELBO's weights, of the class for which it is
    smallest. Smooth or empty foreign images often have the better likelihood (Nalisnick et al. 2019), which is why
    :class:`monai_diffclf.uncertainty.Typicality` counts errors that are too small as well; this one is for comparison.

    Raises:
        ValueError: when the errors were stored without ``log_snr_rate``.

    Example:
        >>> errors = DenoisingErrors(torch.tensor([[[0.2, 0.4], [0.3, 0.5]]]), torch.arange(2), torch.zeros(2),
        ...                          log_snr_rate=torch.tensor([2.0, 4.0]))
        >>> [round(score, 4) for score in likelihood_score(errors).tolist()]
        [0.5]
    """
    return 0.5 * mean_errors(errors, "elbo").min(1).values


def _check(log_likelihood: torch.Tensor) -> torch.Tensor:
    values = torch.as_tensor(log_likelihood).double()
    if values.ndim != 1 or not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"log_likelihood: expected one finite number an image [B], got shape {list(values.shape)}; of the classes' "
            "log-likelihoods [B, K] take marginal_log_likelihood"
        )
    return values
