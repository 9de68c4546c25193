# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The errors of a denoiser: one number for each image, class and draw. Everything else follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .._checks import check_floating

__all__ = ["DenoisingErrors"]

ELEMENTS_AT_ONCE = 1 << 19
"""Errors that are converted to float64 at a time, 4 MB; one image's are never cut."""

PER_DRAW = ("timesteps", "log_snr", "log_snr_rate", "importance")


_SAME = 0.02  # relative difference of errors of the same image


@dataclass(frozen=True)
class DenoisingErrors:
    """Squared errors of the predicted noise: one number for each image b, class k and draw n.

    e[b, k, n] = mean over elements of (epsilon - epsilon_hat(z, level, class k))^2. Stored once, they answer every
    later question: another number of draws (:meth:`first`), another rule, the uncertainty.

    Args:
        values: squared epsilon error averaged over the image's elements [B, K, N], float32; NaN where not evaluated.
        timesteps: the timesteps the network was given [N].
        log_snr: log signal-to-noise ratio of each draw [N], lambda = log(alpha^2 / sigma^2).
        log_snr_rate: -d lambda / dt of each draw [N], t in [0, 1] over the schedule; needed by the ELBO weighting only.
        num_elements: elements of one image (C times its pixels): turns a mean error into nats.
        importance: 1 / q of each draw [N], where the levels were drawn with density q over the schedule instead of
            uniformly; weighted with it, votes and means estimate those over uniform levels. None for uniform levels.

    Raises:
        TypeError: when the values are no floating point tensor.
        ValueError: when the shapes disagree, or something of a draw is NaN.

    Example:
        >>> errors = DenoisingErrors(torch.rand(5, 2, 7), timesteps=torch.arange(7), log_snr=torch.linspace(5, -5, 7))
        >>> errors.first(3).values.shape, errors[:2].values.shape
        (torch.Size([5, 2, 3]), torch.Size([2, 2, 7]))
        >>> errors.network_evaluations.tolist()
        [14, 14, 14, 14, 14]
    """

    values: torch.Tensor
    timesteps: torch.Tensor
    log_snr: torch.Tensor
    log_snr_rate: torch.Tensor | None = None
    num_elements: int = 1
    importance: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_floating(self.values, "values", "[image, class, draw]", "errors")
        if self.values.ndim != 3 or 0 in self.values.shape[1:]:
            raise ValueError(f"values: expected shape [image, class, draw], got {list(self.values.shape)}")
        for name in PER_DRAW:
            vector = getattr(self, name)
            if vector is not None and tuple(vector.shape) != (self.num_draws,):
                raise ValueError(f"{name}: expected one number a draw, [{self.num_draws}], got {list(vector.shape)}")
            if vector is not None and bool(torch.isnan(vector).any()):
                raise ValueError(f"{name}: expected a number for each draw, got NaN")

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return int(self.values.shape[1])

    @property
    def num_draws(self) -> int:
        """Number of draws N."""
        return int(self.values.shape[2])

    @property
    def evaluated(self) -> torch.Tensor:
        """Which errors were computed, bool [B, K, N]."""
        return ~torch.isnan(self.values)

    @property
    def network_evaluations(self) -> torch.Tensor:
        """Network evaluations spent on each image, int64 [B]."""
        return self.num_evaluated.sum(1)

    @property
    def num_evaluated(self) -> torch.Tensor:
        """In how many draws each class was evaluated, int64 [B, K]."""
        return self.image_by_image(lambda part: part.evaluated.sum(2))

    def image_by_image(self, function: Callable[[DenoisingErrors], torch.Tensor]) -> torch.Tensor:
        """What a function of each image's errors gives [B, ...], for some images at a time.

        Twenty classes and 501 draws of an image are 80 kB in float64, and a thousand images would fill the memory.
        """
        step = max(1, ELEMENTS_AT_ONCE // (self.num_classes * self.num_draws))
        if len(self) <= step:
            return function(self)
        return torch.cat([function(self[start : start + step]) for start in range(0, len(self), step)])

    def first(self, num_draws: int) -> DenoisingErrors:
        """The errors as if only the first ``num_draws`` draws had been made.

        Raises:
            ValueError: when there are fewer draws than that.
        """
        if not 1 <= num_draws <= self.num_draws:
            raise ValueError(f"num_draws: expected 1 to {self.num_draws}, the draws there are; got {num_draws}")
        return self.select(torch.arange(num_draws))

    def select(self, draws: torch.Tensor) -> DenoisingErrors:
        """The errors of some draws, in the order of ``draws`` [n], int64."""
        draws = draws.to(self.values.device)
        return self._with_draws(self.values[:, :, draws], lambda vector: vector[draws])

    def differing(self, again: torch.Tensor) -> torch.Tensor:
        """Which images are not those that these errors are of [B], bool, by errors made again.

        Made by the same network and draws they differ by rounding alone; those of another image by tens of per cent.

        Args:
            again: the errors made again [B, K, N].

        Example:
            >>> errors = DenoisingErrors(torch.ones(2, 2, 3), timesteps=torch.arange(3), log_snr=torch.zeros(3))
            >>> errors.differing(torch.tensor([1.001, 1.3]).reshape(2, 1, 1).expand(2, 2, 3)).tolist()
            [False, True]
        """
        was = self.values.double()
        return ~((again.to(was) - was).abs().nanmean((1, 2)) / was.nanmean((1, 2)) <= _SAME)

    def __getitem__(self, images: slice | torch.Tensor) -> DenoisingErrors:
        """The errors of some images: a slice, indices or a mask."""
        return replace(self, values=self.values[images])

    def to(self, device: torch.device | str) -> DenoisingErrors:
        """The same errors on another device."""
        return self._with_draws(self.values.to(device), lambda vector: vector.to(device))

    def _with_draws(self, values: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> DenoisingErrors:
        """Other values, and a change to everything that is known of each draw."""
        vectors: dict[str, Any] = {name: getattr(self, name) for name in PER_DRAW}
        changed: dict[str, Any] = {n: None if vector is None else change(vector) for n, vector in vectors.items()}
        return replace(self, values=values, **changed)

    @classmethod
    def concatenate(cls, parts: Sequence[DenoisingErrors]) -> DenoisingErrors:
        """Join the errors of several batches that were made with the same draws.

        Raises:
            TypeError: when a part is no `DenoisingErrors`.
            ValueError: when there is nothing to join, or classes, draws or sizes of the images differ.
        """
        if not parts:
            raise ValueError("parts: expected at least one DenoisingErrors, got none")
        head = parts[0]
        for number, part in enumerate(parts):
            if not isinstance(part, DenoisingErrors):
                raise TypeError(f"parts: expected DenoisingErrors, got {type(part).__name__} as part {number}")
            shared = ("num_classes", "num_elements", *PER_DRAW)
            if other := [name for name in shared if not _is_same(getattr(part, name), getattr(head, name))]:
                raise ValueError(
                    f"parts: expected the same classes, draws and size of the images in all of them, got another "
                    f"{other[0]} in part {number} than in part 0; join what was made with the same draws alone"
                )
        return replace(head, values=torch.cat([part.values for part in parts]))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two numbers, or what is known of two sets of draws, are the same but for rounding."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return one is other or bool(one == other)
    alike = one.shape == other.shape
    return alike and torch.allclose(one.double().cpu(), other.double().cpu(), rtol=1e-6, atol=1e-6)


def check_errors(errors: Any, *, complete: bool = False) -> DenoisingErrors:
    """Refuse what nothing can be decided by; NaN stands for what was not evaluated, and may.

    Args:
        errors: what was given.
        complete: whether all draws of all classes must have been made.

    Raises:
        TypeError: when it is no `DenoisingErrors`.
        ValueError: when an error is infinite, or one is missing though all must be there.

    Example:
        >>> check_errors(DenoisingErrors(torch.full((1, 2, 3), torch.inf), torch.arange(3), torch.zeros(3)))
        Traceback (most recent call last):
        ValueError: errors: expected finite values, got infinity for image(s) [0]; make these errors anew
    """
    if not isinstance(errors, DenoisingErrors):
        raise TypeError(f"errors: expected DenoisingErrors, got {type(errors).__name__}")
    if infinite := _images(errors, torch.isinf):
        raise ValueError(
            f"errors: expected finite values, got infinity for image(s) {infinite[:10]}; make these errors anew"
        )
    if complete and (missing := _images(errors, torch.isnan)):
        raise ValueError(
            f"errors: expected all draws of all classes, some were not evaluated for image(s) {missing[:10]}; make "
            "them without a stopping rule"
        )
    return errors


def _images(errors: DenoisingErrors, wrong: Callable[[torch.Tensor], torch.Tensor]) -> list[int]:
    """Which images have errors that are wrong."""
    found = errors.image_by_image(lambda part: wrong(part.values).flatten(1).any(1))
    return found.nonzero().flatten().tolist()
