# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Random numbers that are a function of (image, seed, draw, element), made on the device where they are used.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011) turns a counter of 128 bits and a key of 64 bits into 128 random
bits. Nothing is kept from one number to the next, so that any of them can be made anywhere, in any order and batch.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import struct
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import ClassVar

import torch

__all__ = ["GENERATOR", "ImageRandom", "check_seed", "philox4x32"]

GENERATOR = "philox4x32-10, box-muller, version 1"
"""Name and version of the generator, part of the provenance of all that is made with it."""

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF

COUNTERS_AT_ONCE = 1 << 16
"""Counters of one pass over the rounds: their words fit into a processor's cache, and launches hardly count."""

COMPILE_AFTER = 1 << 30
"""Numbers after which compiling, up to some 30 seconds, has paid for itself on a CPU."""

Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
_logger = logging.getLogger(__name__)


def check_seed(seed: int) -> int:
    """A seed, an integer of 64 bits, NumPy's too, as Python's own.

    Raises:
        ValueError: when it is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed: expected an integer of 64 bits, got {seed!r}; without one no result can be reproduced")
    return int(seed)


def philox4x32(counter: Sequence[torch.Tensor], key: Sequence[torch.Tensor]) -> Words:
    """Philox4x32-10: four random words for each counter and key.

    A round is (c0, c1, c2, c3) <- (high(B c2) ^ c1 ^ k0, low(B c2), high(A c0) ^ c3 ^ k1, low(A c0)) with the
    constants A and B of the paper, and the key grows by the Weyl constants from round to round (Salmon et al. 2011,
    section 3).
    Products of two words fill 64 bits; PyTorch keeps their low 64 bits, whatever the sign, and that is all of them.

    Args:
        counter: four words, int64 tensors of values in [0, 2^32) that broadcast.
        key: two words, the same way.

    Returns:
        four words, int64 tensors of values in [0, 2^32).

    Example:
        >>> zero = torch.zeros(1, dtype=torch.int64)
        >>> [f"{int(word):08x}" for word in philox4x32([zero] * 4, [zero] * 2)]  # a vector of Random123
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for index in range(ROUNDS):
        if index:
            k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
        a, b = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        # The high halves of the words c1 and c3 are left as they are until they have been mixed in.
        c0, c1, c2, c3 = ((b >> 32) ^ c1 ^ k0) & WORD, b, ((a >> 32) ^ c3 ^ k1) & WORD, a
    return c0, c1 & WORD, c2, c3 & WORD


def _uniform_words(block: torch.Tensor, draw: torch.Tensor, k0: torch.Tensor, k1: torch.Tensor) -> Words:
    """(word + 1/2) 2^-32 of the counters (block, draw), float32 in (0, 1]."""
    zero = torch.zeros_like(block)
    words = philox4x32((block, zero, draw, zero), (k0, k1))
    return tuple(word.float() * 2.0**-32 + 2.0**-33 for word in words)  # type: ignore[return-value]


@functools.cache
def _compiled(device_type: str) -> Callable[..., Words]:
    """The same, compiled where that works: integers and their conversion are exact, so that nothing changes."""
    probe = [torch.arange(4, device=device_type)[None], *(torch.arange(2, device=device_type)[:, None] for _ in "dkk")]
    try:
        compiled = torch.compile(_uniform_words, dynamic=True)
        same = all(torch.equal(a, b) for a, b in zip(compiled(*probe), _uniform_words(*probe), strict=True))
    except Exception as error:  # without a compiler: whatever it is that torch.compile raises
        _logger.info("torch.compile does not work here, random numbers are made without it: %s", error)
        return _uniform_words
    if not same:
        _logger.warning("torch.compile makes other random numbers on %s, they are made without it", device_type)
        return _uniform_words
    return compiled


class ImageRandom:
    """The random numbers of some images: of image b, draw n and element e, whatever else is in the batch.

    The key of an image is a hash (BLAKE2b, 64 bits) of its own key, the seed and what the numbers are for; the counter
    is (e // 4, n), and the four words it gives belong to the elements 4 (e // 4) to 4 (e // 4) + 3. Integers are the
    same on every device. Normal numbers come from pairs of words by Box and Muller (1958) in float32 and agree to 1e-6.

    Args:
        keys: key of each image, see :func:`monai_diffclf.classification.image_keys`.
        seed: seed, an integer of 64 bits.
        purpose: what the numbers are for; for each purpose they are others.
        device: where they are made.

    Raises:
        ValueError: when ``seed`` is not an integer of 64 bits.

    Example:
        >>> random = ImageRandom([b"one", b"two"], seed=0)
        >>> image, draw = torch.tensor([0, 1]), torch.tensor([7, 7])
        >>> pair = random.normal(image, draw, (1, 4, 4))
        >>> torch.equal(pair[1:], ImageRandom([b"two"], seed=0).normal(image[:1], draw[:1], (1, 4, 4)))
        True
    """

    numbers_made: ClassVar[int] = 0
    """Numbers made in this process: when compiling pays. None of them depends on it."""

    def __init__(
        self, keys: Sequence[bytes], seed: int, *, purpose: bytes = b"", device: torch.device | str = "cpu"
    ) -> None:
        seed = check_seed(seed)
        hashes = [hashlib.blake2b(key + struct.pack("<q", seed) + purpose, digest_size=8).digest() for key in keys]
        words = [struct.unpack("<II", each) for each in hashes]
        self.key = torch.tensor(words, dtype=torch.int64).reshape(-1, 2).to(device)

    def normal(
        self,
        image: torch.Tensor,
        draw: torch.Tensor,
        shape: Sequence[int],
        *,
        memory: Callable[[int], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Standard normal numbers [P, *shape], float32, |z| < 6.8.

        Args:
            image: index of each image [P].
            draw: index of each draw [P], 0 to 2^32 - 1.
            shape: shape of one image.
            memory: from a number of elements to a float32 vector of as many to write into; None for new memory.

        Raises:
            ValueError: when there are not as many draws as images, or an image would have 2^34 elements or more.
        """

        def box_muller(out: torch.Tensor, uniform: Words) -> None:
            for first in (0, 2):
                radius = uniform[first].log_().mul_(-2.0).sqrt_()
                angle = uniform[first + 1].mul_(2 * math.pi)
                torch.mul(radius, torch.cos(angle), out=out[..., first])
                torch.mul(radius, torch.sin(angle), out=out[..., first + 1])

        return self._fill(image, draw, shape, box_muller, memory)

    def uniform(self, image: torch.Tensor, draw: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Uniform numbers in (0, 1] [P, *shape], float32: multiples of 2^-32, rounded. See :meth:`normal`."""

        def copy(out: torch.Tensor, uniform: Words) -> None:
            for index, each in enumerate(uniform):
                out[..., index] = each

        return self._fill(image, draw, shape, copy)

    def sign(self, image: torch.Tensor, draw: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """-1 or 1, each half of the time [P, *shape], float32. See :meth:`normal`."""
        return (self.uniform(image, draw, shape) >= 0.5).float().mul_(2).sub_(1)

    @torch.no_grad()
    def _fill(
        self,
        image: torch.Tensor,
        draw: torch.Tensor,
        shape: Sequence[int],
        fill: Callable[[torch.Tensor, Words], None],
        memory: Callable[[int], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Numbers [P, *shape] that ``fill`` writes from four uniform ones each, part by part."""
        elements, device = math.prod(shape), self.key.device
        blocks = -(-elements // 4)
        if min(shape, default=0) < 0:
            raise ValueError(f"shape: expected sizes of 0 and more, got {list(shape)}")
        if len(draw) != len(image):
            raise ValueError(f"draw: expected as many as images, {len(image)}; got {len(draw)}")
        if blocks > WORD:
            raise ValueError(f"shape: expected fewer than 2^34 elements, got {elements}")
        image, draw = image.to(device), draw.to(device)
        count = len(image) * blocks * 4
        out = torch.empty(count, dtype=torch.float32, device=device) if memory is None else memory(count)
        out = out.view(len(image), blocks, 4)
        ImageRandom.numbers_made += out.numel()
        words = _compiled(device.type) if ImageRandom.numbers_made >= COMPILE_AFTER else _uniform_words
        rows = max(1, COUNTERS_AT_ONCE // max(1, blocks))
        for start in range(0, len(image), rows):
            part = slice(start, start + rows)
            k0, k1 = self.key[image[part]].unbind(1)
            for first in range(0, blocks, COUNTERS_AT_ONCE):
                last = min(blocks, first + COUNTERS_AT_ONCE)
                block = torch.arange(first, last, device=device)[None]
                fill(out[part, first:last], words(block, draw[part, None], k0[:, None], k1[:, None]))
        return out.flatten(1)[:, :elements].reshape(len(image), *shape)
