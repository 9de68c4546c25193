# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Principal components of features that come in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .._checks import check_integer, check_number

__all__ = ["PrincipalComponents"]

LEAST_SHARE = 1e-10
"""Least variance of a component, as a share of the first, that counts as one."""


class PrincipalComponents(nn.Module):
    """Principal components of vectors, from their covariance, which is summed up batch by batch in float64.

    With mean m, eigenvectors v_j and eigenvalues s_j^2 of the covariance, in decreasing order, a vector f becomes

        z_j = v_j (f - m) / (c s_j^w),    c^2 = mean_j s_j^(2 - 2 w),

    so that all z together have variance 1. With the whitening exponent w = 0 the components keep their spectrum, with
    w = 1 each has variance 1. The sign of v_j is that with which its largest entry is positive. Groups of features,
    such as the layers of an encoder, may be brought to the same total variance before.

    Args:
        num_features: length of the vectors, F.
        num_components: components to keep, D.
        whitening: exponent w in [0, 1].
        groups: sizes of the groups, which add up to F; None for a single one.

    Raises:
        ValueError: when an argument is out of range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> vectors = torch.randn(500, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0]) + 5
        >>> components = PrincipalComponents(3, 2, whitening=1.0)
        >>> for batch in vectors.split(100):
        ...     components.add(batch)
        >>> z = components.fit()(vectors)
        >>> z.shape, [round(float(value), 2) for value in z.var(0)], round(components.explained, 2)
        (torch.Size([500, 2]), [1.0, 1.0], 0.92)
    """

    weight: torch.Tensor
    bias: torch.Tensor
    variances: torch.Tensor
    total_variance: torch.Tensor

    def __init__(
        self, num_features: int, num_components: int, *, whitening: float = 0.0, groups: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        num_components = check_integer(num_components, "num_components")
        if num_components > num_features:
            raise ValueError(f"num_components: expected at most the {num_features} features, got {num_components}")
        check_number(whitening, "whitening", "an exponent in [0, 1]", lambda exponent: 0 <= exponent <= 1)
        self.groups = tuple(groups or (num_features,))
        if sum(self.groups) != num_features:
            raise ValueError(f"groups: expected sizes that add up to {num_features}, got {list(self.groups)}")
        self.num_features, self.num_components, self.whitening = num_features, num_components, float(whitening)
        self.register_buffer("weight", torch.zeros(num_components, num_features))
        self.register_buffer("bias", torch.zeros(num_components))
        self.register_buffer("variances", torch.zeros(num_components, dtype=torch.float64))
        self.register_buffer("total_variance", torch.zeros((), dtype=torch.float64))
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing was added."""
        self._count = 0
        self._sum = torch.zeros(self.num_features, dtype=torch.float64)
        self._scatter = torch.zeros(self.num_features, self.num_features, dtype=torch.float64)

    @property
    def fitted(self) -> bool:
        """Whether there are components."""
        return bool(self.total_variance > 0)

    @property
    def explained(self) -> float:
        """Share of the variance that the components kept have."""
        return float(self.variances.sum() / self.total_variance)

    @torch.no_grad()
    def add(self, vectors: torch.Tensor) -> None:
        """Take vectors [n, F] into the covariance.

        Raises:
            ValueError: when they are of another length or not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.num_features:
            raise ValueError(f"vectors: expected [n, {self.num_features}], got {list(vectors.shape)}")
        batch = vectors.detach().to(device="cpu", dtype=torch.float64)
        if not bool(torch.isfinite(batch).all()):
            raise ValueError("vectors: expected finite values, got NaN or infinity")
        if len(batch) == 0:
            return
        # Scatter about the mean so far (Chan, Golub and LeVeque 1983): sums of squares would cancel.
        mean = batch.mean(0)
        centred = batch - mean
        self._scatter.addmm_(centred.T, centred)
        if self._count:
            apart = mean - self._sum / self._count
            self._scatter.addr_(apart, apart, alpha=self._count * len(batch) / (self._count + len(batch)))
        self._count, self._sum = self._count + len(batch), self._sum + batch.sum(0)

    @torch.no_grad()
    def fit(self) -> PrincipalComponents:
        """The components of all that was added; what was added is forgotten.

        Raises:
            ValueError: when that were too few vectors, or they vary in fewer directions.
        """
        if self._count < 2:
            raise ValueError(f"vectors: expected at least 2 to find principal components, got {self._count}")
        mean, covariance = self._sum / self._count, self._scatter / (self._count - 1)
        scale = self._group_scale(covariance.diagonal())
        covariance = scale[:, None] * covariance * scale
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0)[: self.num_components], vectors.flip(1)[:, : self.num_components].T
        rank = int((values > LEAST_SHARE * values[0]).sum())
        if rank < self.num_components:
            raise ValueError(
                f"num_components: expected at most {rank}, the directions in which the {self._count} training vectors "
                f"vary, got {self.num_components}; give fewer, or more images"
            )
        largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
        vectors = vectors * largest.sign()
        own = values.sqrt() ** self.whitening
        common = (values / own.square()).mean().sqrt()
        weight = vectors * scale / (common * own)[:, None]
        found = {"weight": weight, "bias": -weight @ mean, "variances": values, "total_variance": covariance.trace()}
        with torch.inference_mode(False):  # in place, what was made in inference mode could not be fitted again
            for name, value in found.items():
                setattr(self, name, value.to(getattr(self, name), copy=True))
        self.forget()
        return self

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Components z [..., D] of vectors [..., F], float32."""
        return nn.functional.linear(features.float(), self.weight, self.bias)

    def _group_scale(self, variances: torch.Tensor) -> torch.Tensor:
        """What each feature is multiplied by, so that all groups have the same total variance."""
        parts = variances.split(self.groups)
        totals = torch.stack([part.sum() for part in parts])
        if not bool((totals > 0).all()):
            raise ValueError("vectors: expected features that vary, got a layer that is the same for all images")
        factors = (totals.mean() / totals).sqrt()
        return torch.cat([factor.expand(len(part)) for factor, part in zip(factors, parts, strict=True)])
