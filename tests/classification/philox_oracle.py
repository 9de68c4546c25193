"""Philox4x32-10 and the numbers of an image once more, in Python's own integers: the truth to test tensors with."""

from __future__ import annotations

import hashlib
import math

import numpy as np

MASK = 2**32 - 1


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four words: Salmon et al. 2011, section 3, as written there."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        low0, high0 = (0xD2511F53 * c0) % 2**32, (0xD2511F53 * c0) // 2**32
        low1, high1 = (0xCD9E8D57 * c2) % 2**32, (0xCD9E8D57 * c2) // 2**32
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def uniforms(key: bytes, seed: int, purpose: bytes, draw: int, block: int) -> list[np.float32]:
    """The four uniform numbers of elements 4 block to 4 block + 3."""
    text = key + seed.to_bytes(8, "little", signed=True) + purpose
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    words = philox((block, 0, draw, 0), (number & MASK, number >> 32))
    half = np.float32(2.0**-33)
    return [np.float32(word) * np.float32(2.0**-32) + half for word in words]


def normals(key: bytes, seed: int, purpose: bytes, draw: int, block: int) -> list[float]:
    """The four normal numbers, as exact as float64 makes them from float32 uniform numbers and angles."""
    out = []
    a, b, c, d = uniforms(key, seed, purpose, draw, block)
    for first, second in ((a, b), (c, d)):
        radius, angle = math.sqrt(-2 * math.log(first)), float(second * np.float32(2 * math.pi))
        out += [radius * math.cos(angle), radius * math.sin(angle)]
    return out


def element(kind: str, key: bytes, seed: int, purpose: bytes, draw: int, index: int) -> float:
    """One number of an image."""
    if kind == "normal":
        return normals(key, seed, purpose, draw, index // 4)[index % 4]
    value = float(uniforms(key, seed, purpose, draw, index // 4)[index % 4])
    return value if kind == "uniform" else (-1.0 if value < 0.5 else 1.0)
