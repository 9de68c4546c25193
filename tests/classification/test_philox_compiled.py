"""Compiled random numbers: the same to the bit, also after the switch to them, and without a compiler it goes on."""

from __future__ import annotations

import logging
import re

import pytest
import torch

from monai_diffclf.classification import philox
from monai_diffclf.classification.philox import ImageRandom

KEYS = [b"one", b"two", b"three"]
SHAPES = [(1,), (1, 3, 5), (1, 28, 28), (3, 64, 64), (2, 7, 11, 13)]


@pytest.fixture(autouse=True)
def _nothing_remembered():
    philox._compiled.cache_clear()
    yield
    philox._compiled.cache_clear()


@pytest.fixture
def compiler(device) -> str:
    """The device, where torch.compile works on it."""
    try:
        torch.compile(lambda x: x * 3)(torch.ones(4, device=device))
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {error}")
    return device


def draw_pairs(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, (count,), generator=generator), torch.randint(2**32, (count,), generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_compiled_words_are_the_eager_ones_to_the_bit(mode, compiler):
    generator = torch.Generator().manual_seed(1)
    compiled = philox._compiled(compiler)
    assert compiled is not philox._uniform_words
    # One row or one block make dimensions of size 1, for which the compiler writes other code.
    for rows, blocks in ((1, 1), (1, 5), (5, 1), (7, 196), (5, 3072), (1, 49152), (1, philox.COUNTERS_AT_ONCE)):
        words = torch.randint(2**32, (3, rows, 1), generator=generator).to(compiler)
        for first in (0, 2**32 - blocks):
            block = torch.arange(first, first + blocks, device=compiler)[None]
            with mode():
                made, expected = compiled(block, *words), philox._uniform_words(block, *words)
            for a, b in zip(made, expected, strict=True):
                assert a.dtype == torch.float32
                assert torch.equal(a, b), (rows, blocks, first)


@pytest.mark.slow
def test_compiled_numbers_are_the_eager_ones_to_the_bit(compiler, monkeypatch):
    image, draw = draw_pairs()
    for kind in ("normal", "uniform", "sign"):
        for shape in SHAPES:
            monkeypatch.setattr(philox, "COMPILE_AFTER", 1 << 60)
            eager = getattr(ImageRandom(KEYS, 5, device=compiler), kind)(image, draw, shape)
            monkeypatch.setattr(philox, "COMPILE_AFTER", 0)
            assert torch.equal(getattr(ImageRandom(KEYS, 5, device=compiler), kind)(image, draw, shape), eager)
    assert philox._compiled.cache_info().misses == 1
    assert philox._compiled(compiler) is not philox._uniform_words


def stand_in(monkeypatch) -> list[str]:
    """Something in the compiler's place that notes when it is called for."""
    calls: list[str] = []

    def compiled(device_type: str):
        calls.append(device_type)
        return philox._uniform_words

    compiled.cache_clear = lambda: None
    monkeypatch.setattr(philox, "_compiled", compiled)
    return calls


def test_compiles_when_enough_numbers_were_made(device, monkeypatch):
    calls, (image, draw) = stand_in(monkeypatch), draw_pairs()
    monkeypatch.setattr(philox, "COMPILE_AFTER", 3 * 12 * 196 * 4)
    monkeypatch.setattr(philox.ImageRandom, "numbers_made", 0)
    random, other = (ImageRandom(KEYS, 5, device=device) for _ in range(2))
    made = [random.normal(image, draw, (1, 28, 28)) for _ in range(4)]
    assert calls == [device] * 2, "for the third and fourth time"
    assert all(torch.equal(each, made[0]) for each in made)
    other.normal(image, draw, (1, 28, 28))
    assert calls == [device] * 3, "it is the process that counts"


def test_does_not_compile_for_an_ordinary_evaluation(device, monkeypatch):
    calls, (image, draw) = stand_in(monkeypatch), draw_pairs()
    random = ImageRandom(KEYS, 5, device=device)
    for _ in range(3):
        random.normal(image, draw, (1, 28, 28))
    assert calls == []


class Refuses:
    """A compiler that is refused at once, when first called, or that makes other numbers."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __call__(self, function, **options):
        if self.when == "at once":
            raise RuntimeError("torch.compile is not supported on Python 3.99+")
        return self.call

    def call(self, *words):
        if self.when == "called":
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")
        return tuple(word.nextafter(torch.ones_like(word)) for word in philox._uniform_words(*words))


@pytest.mark.parametrize(
    ("when", "level", "message"),
    [
        ("at once", logging.INFO, "torch.compile does not work here.*not supported on Python 3.99"),
        ("called", logging.INFO, "torch.compile does not work here.*no working C\\+\\+ compiler found"),
        ("other numbers", logging.WARNING, "torch.compile makes other random numbers on"),
    ],
)
def test_goes_on_without_a_compiler(when, level, message, device, monkeypatch, caplog):
    image, draw = draw_pairs()
    expected = ImageRandom(KEYS, 5, device=device).normal(image, draw, (1, 7, 9))
    monkeypatch.setattr(torch, "compile", Refuses(when))
    monkeypatch.setattr(philox, "COMPILE_AFTER", 0)
    with caplog.at_level(logging.INFO, logger=philox.__name__):
        for _ in range(3):
            made = ImageRandom(KEYS, 5, device=device).normal(image, draw, (1, 7, 9))
            assert torch.equal(made, expected)
    assert philox._compiled(torch.device(device).type) is philox._uniform_words
    records = [record for record in caplog.records if record.name == philox.__name__]
    assert [record.levelno for record in records] == [level], "said once, not for every call"
    assert re.search(message, records[0].getMessage())
