# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which noise levels and which noise an image is tested with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .._checks import check_integer
from .level_sampling import LevelSampling
from .philox import ImageRandom, check_seed

__all__ = ["NoiseDraws", "check_seed", "image_keys", "random_order"]

NOISE_LEVELS = ("stratified", "uniform")


def image_keys(images: torch.Tensor) -> list[bytes]:
    """Eight bytes for each image that depend on its pixels alone (BLAKE2b of the float32 values).

    Args:
        images: images [B, C, *spatial].

    Returns:
        one key an image, in order.

    Example:
        >>> keys = image_keys(torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2), torch.zeros(1, 2, 2)]))
        >>> keys[0] == keys[2], keys[0] == keys[1]
        (True, False)
    """
    # Adding zero turns -0.0 into 0.0: equal images must have equal bytes.
    pixels = (images.detach().to(device="cpu", dtype=torch.float32) + 0.0).contiguous().numpy()
    return [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels]


def _spread_order(count: int) -> torch.Tensor:
    """A permutation of range(count) in which every prefix is well spread (van der Corput, base 2)."""
    bits = max(1, (count - 1).bit_length())
    order = [int(format(i, f"0{bits}b")[::-1], 2) for i in range(1 << bits)]
    return torch.tensor([i for i in order if i < count])


def random_order(count: int, seed: int) -> torch.Tensor:
    """A random permutation of range(count), the same on every device."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed % 2**63))


@dataclass(frozen=True)
class NoiseDraws:
    """The noise draws of a classifier: one level a draw, shared by all images; noise of its own for every image.

    The noise of draw n for an image is seeded by (the image's pixels, ``seed``, n): it depends on neither the batch,
    the order, the process nor the number of draws. Classes are not an argument: within a draw all of them see the same
    noise (paired draws, Favero et al. 2025, section 2; Li et al. 2023, section 3.2).

    Args:
        levels: position in the noise schedule of each draw [N], float64 in [0, 1); 0 is the least noise.
        seed: seed of the noise.
        importance: 1 / density of each draw's level [N], float64, where they were not drawn uniformly; else None.
        mirrors: for each draw the draw whose noise it uses with the other sign, -1 where it has noise of its own [N],
            int64; None for no such draws.

    Raises:
        ValueError: when ``levels`` is not a vector of numbers in [0, 1), ``seed`` is not an integer of 64 bits, or
            ``mirrors`` are not one a draw, or name a draw that has no noise of its own.

    Example:
        >>> draws = NoiseDraws.make(4, seed=0)
        >>> len(draws), bool((draws.levels.sort().values * 4).floor().equal(torch.arange(4.0).double()))
        (4, True)
        >>> image = torch.zeros(1, 1, 2, 2)
        >>> a = draws.noise(image_keys(image)[0], 2, (1, 2, 2))
        >>> b = draws.noise(image_keys(torch.cat([image + 1, image]))[1], 2, (1, 2, 2))
        >>> torch.equal(a, b)
        True
    """

    levels: torch.Tensor
    seed: int = 0
    importance: torch.Tensor | None = None
    mirrors: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.levels.ndim != 1 or len(self.levels) == 0:
            raise ValueError(f"levels: expected one level a draw, shape [N], N > 0; got {list(self.levels.shape)}")
        if not bool(((self.levels >= 0) & (self.levels < 1)).all()):
            low, high = float(self.levels.min()), float(self.levels.max())
            raise ValueError(f"levels: expected numbers in [0, 1), got {low:.4g} to {high:.4g}")
        object.__setattr__(self, "seed", check_seed(self.seed))  # frozen
        if self.mirrors is not None:
            self._check_mirrors(self.mirrors)

    def _check_mirrors(self, mirrors: torch.Tensor) -> None:
        count = len(self.levels)
        if mirrors.shape != (count,):
            raise ValueError(f"mirrors: expected one index a draw, shape [{count}], got {list(mirrors.shape)}")
        # Of a draw that is mirrored itself there is no noise to turn: it has that of a third one.
        own = [-1, *(n for n, mirror in enumerate(mirrors.tolist()) if mirror == -1)]
        for n in (~torch.isin(mirrors, torch.tensor(own, device=mirrors.device))).nonzero()[:1, 0].tolist():
            raise ValueError(
                f"mirrors: expected -1 or the index of a draw with noise of its own, got {int(mirrors[n])} for draw {n}"
            )

    @classmethod
    def make(cls, num_draws: int, noise_levels: str | LevelSampling = "stratified", *, seed: int = 0) -> NoiseDraws:
        """Place ``num_draws`` noise levels in the schedule.

        Args:
            num_draws: number of draws N.
            noise_levels: ``"stratified"`` puts one level, uniformly, into each of N equal parts of the schedule, in an
                order in which every prefix is well spread; ``"uniform"`` draws all levels independently, as Favero et
                al. do. A :class:`LevelSampling` stratifies them under its density and mirrors noise where it says so.
            seed: seed of the levels and of the noise.

        Raises:
            ValueError: when ``num_draws`` is not a positive integer, ``noise_levels`` is unknown or ``seed`` is not an
                integer.
        """
        num_draws, seed = check_integer(num_draws, "num_draws"), check_seed(seed)
        if not isinstance(noise_levels, LevelSampling) and noise_levels not in NOISE_LEVELS:
            raise ValueError(
                f"noise_levels: expected one of {list(NOISE_LEVELS)} or a LevelSampling, got {noise_levels!r}"
            )
        draws = cls(torch.zeros(num_draws, dtype=torch.float64), seed)
        generator = torch.Generator().manual_seed(seed % 2**63)
        offsets = torch.rand(num_draws, generator=generator, dtype=torch.float64)
        if isinstance(noise_levels, LevelSampling):
            return cls._sample(noise_levels, offsets, seed)
        levels = offsets if noise_levels == "uniform" else (_spread_order(num_draws) + offsets) / num_draws
        return replace(draws, levels=levels)

    @classmethod
    def _sample(cls, sampling: LevelSampling, offsets: torch.Tensor, seed: int) -> NoiseDraws:
        """Stratified levels under a density; where noise is mirrored, draws 2i and 2i + 1 share one of their levels."""
        count, draw = len(offsets), torch.arange(len(offsets))
        first, second = draw - draw % 2, (draw - draw % 2 + 1).clamp(max=count - 1)
        # Two neighbouring strata come one after the other; an odd last draw has the last stratum for itself.
        pairs = (
            torch.cat([_spread_order(count // 2), torch.tensor([count // 2])]) if count > 1 else torch.zeros(1).long()
        )
        levels = sampling.quantile((2 * pairs[draw // 2] + draw % 2 + offsets) / count)
        # Either level of a pair with equal chance, and only if both are to be mirrored: so every level is as likely as
        # without mirroring.
        mirrored = sampling.mirrored(levels)
        shared = mirrored[first] & mirrored[second] & (first != second)
        chosen = torch.where((offsets[first] * 2**20 % 1 < 0.5), first, second)
        levels = torch.where(shared, levels[chosen], levels)
        mirrors = torch.where(shared & (draw % 2 == 1), draw - 1, -1)
        return cls(levels, seed, importance=1 / sampling.at(levels), mirrors=mirrors if bool(shared.any()) else None)

    def __len__(self) -> int:
        return len(self.levels)

    def noise(self, key: bytes, draw: int, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal noise of one draw for one image, float32 on the CPU [*shape].

        Args:
            key: the image's key, see :func:`image_keys`.
            draw: index of the draw, 0 to N - 1.
            shape: shape of the image [C, *spatial].
        """
        return self.batch_noise(self.random([key]), torch.tensor([0]), torch.tensor([draw]), shape)[0]

    def random(self, keys: Sequence[bytes], device: torch.device | str = "cpu") -> ImageRandom:
        """The random numbers behind the noise of some images, for :meth:`batch_noise`."""
        return ImageRandom(keys, self.seed, device=device)

    def batch_noise(
        self,
        random: ImageRandom,
        image: torch.Tensor,
        draw: torch.Tensor,
        shape: Sequence[int],
        *,
        memory: Callable[[int], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Standard normal noise of pairs of image and draw, on the device of ``random`` [P, *shape], float32.

        Args:
            random: what :meth:`random` gave for the images.
            image: index of each pair's image [P].
            draw: index of each pair's draw [P].
            shape: shape of an image [C, *spatial].
            memory: see :meth:`ImageRandom.normal`.
        """
        if self.mirrors is None:
            return random.normal(image, draw, shape, memory=memory)
        source = self.mirrors.to(draw.device)[draw]
        mirrored = source >= 0
        noise = random.normal(image, torch.where(mirrored, source, draw), shape, memory=memory)
        sign = torch.where(mirrored, -1.0, 1.0).to(noise.device)
        return noise.mul_(sign.reshape(-1, *[1] * len(shape)))
