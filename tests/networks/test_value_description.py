"""The same hash in every process, another where a transform does something else."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    Lambdad,
    LoadImaged,
    MapTransform,
    OneOf,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandLambdad,
    RandomizableTransform,
    ResizeD,
    ScaleIntensityd,
)

from monai_diffclf.networks import NotDescribedError, value_hash

FACTOR = 2.0


class Apply(MapTransform):
    """A transform that holds something."""

    def __init__(self, held) -> None:
        super().__init__("image")
        self.held = held

    def __call__(self, item):
        self.last = item["image"]
        return item


class Own(RandomizableTransform):
    """Draws a number, and keeps what it was made with under another name."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(prob=1.0)
        self.limits, self.drawn = (low, high), low

    def __call__(self, item):
        self.randomize(None)
        self.drawn = float(self.R.uniform(*self.limits))
        return item


def closed_over(value):
    return lambda x: x * value


def by_global(x):
    return x * FACTOR


def recursive(x, depth=2):
    return x if depth == 0 else recursive(2 * x, depth - 1)


def with_defaults(x, factor=1.0, *, shift=0.0):
    return x * factor + shift


def table(value: float) -> np.ndarray:
    made = np.zeros(5000)
    made[2000] = value
    return made


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a) -> None:
        self.a = a


def made(number: int) -> list:
    """Things that do one thing for a number, another for another."""
    return [
        (lambda x: x * 2) if number == 1 else (lambda x: x * 3),
        (lambda x: [y + 1 for y in x]) if number == 1 else (lambda x: [y + 2 for y in x]),
        (lambda x: x in {"a", "b", "c"}) if number == 1 else (lambda x: x in {"a", "b", "d"}),
        closed_over(number),
        closed_over(table(number)),
        functools.partial(with_defaults, factor=number),
        functools.partial(np.add, number),
        np.add if number == 1 else np.subtract,
        np.rot90 if number == 1 else np.fliplr,
        torch.flip if number == 1 else torch.roll,
        str.upper if number == 1 else str.lower,
        table(number),
        torch.from_numpy(table(number)),
        torch.full((2,), float(number), dtype=torch.bfloat16),
        np.array([None, number], dtype=object),
        {"a": {"b": [table(number)]}},
        {1, 2, 2 + number},
        float("nan") if number == 1 else float("inf"),
        np.float32 if number == 1 else np.float64,
        torch.float16 if number == 1 else torch.float32,
        Slotted(number),
        Apply(number).__call__,
        Apply(closed_over(number)),
        Apply(table(number)),
        Own(0.0, number),
        Lambdad("image", closed_over(number)),
        Lambdad("image" if number == 1 else "other", by_global),
        RandLambdad("image", closed_over(number), prob=0.5),
        LoadImaged("image", reader="PILReader" if number == 1 else "NumpyReader"),
        ResizeD("image", (4, 4), mode="area" if number == 1 else "nearest"),
        ScaleIntensityd("image", dtype=torch.float32 if number == 1 else torch.float16),
        Compose([RandFlipd("image", prob=0.5 / number), RandAffined("image", rotate_range=0.2)]),
        RandAffined("image", prob=1.0, rotate_range=0.2 * number),
        OneOf([RandFlipd("image", prob=0.5), by_global], weights=[0.5, number]),
        torch.nn.Sequential(torch.nn.Conv2d(1, number, 1, bias=False)).apply(lambda m: m.requires_grad_(False)),
    ]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("place", range(len(made(1))))
def test_alike_is_alike_and_other_is_other(place):
    def hash_of(number):
        torch.manual_seed(0)
        return value_hash(made(number)[place])

    assert hash_of(1) == hash_of(1)
    assert hash_of(1) != hash_of(2)


SCRIPT = """
import torch
from tests.networks.test_value_description import made, value_hash
torch.manual_seed(0)
print(*map(value_hash, made(1)))
"""


def test_another_process_says_the_same():
    here = " ".join(map(value_hash, made(1)))
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert found.stdout.strip() == here, found.stderr[-500:]


def test_what_a_function_uses_counts(monkeypatch):
    before = value_hash(by_global)
    assert value_hash(recursive) == value_hash(recursive)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert value_hash(by_global) != before
    monkeypatch.setattr(with_defaults, "__defaults__", (2.0,))
    assert value_hash(with_defaults) != value_hash(by_global)


def class_of(code: str) -> type:
    found: dict = {"__name__": "of_ones_own"}
    exec(f"class Own:\n    scale = 2\n    def __call__(self, x):\n        return {code}", found)  # noqa: S102
    return found["Own"]


def test_a_class_of_ones_own_counts_by_its_code():
    one, same, other = (value_hash(class_of(code)()) for code in ("x * self.scale", "x * self.scale", "x + self.scale"))
    assert one == same and one != other
    kind = class_of("x * self.scale")
    kind.scale = 3
    assert value_hash(kind()) != one


@pytest.mark.parametrize(
    "step",
    [
        Own(0.0, 1.0),
        Apply("x"),
        RandAffined("image", prob=1.0, rotate_range=0.2, translate_range=2.0, padding_mode="border"),
        RandAdjustContrastd("image", prob=1.0, gamma=(0.6, 1.5)),
        RandGaussianNoised("image", prob=1.0),
        OneOf([RandFlipd("image", prob=0.5), RandFlipd("image", prob=1.0)]),
    ],
    ids=lambda step: type(step).__name__,
)
def test_what_was_drawn_last_is_no_setting(step):
    before = value_hash(step)
    for seed in range(3):
        step.set_random_state(seed=seed) if hasattr(step, "set_random_state") else None
        step({"image": torch.rand(1, 8, 8)})
        assert value_hash(step) == before


def test_what_cannot_be_described_is_refused():
    lock = threading.Lock()
    for value in (lock, (n for n in range(3)), Apply(lock), lambda x: (x, lock), np.frompyfunc(by_global, 1, 1)):
        with pytest.raises(NotDescribedError, match="a value of .*(lock|generator|which function)"):
            value_hash(value)

    def imports_inside(x):
        from tests.networks import helpers_of_mine

        return helpers_of_mine(x)

    with pytest.raises(NotDescribedError, match="imports tests.networks inside; import it at the top"):
        value_hash(imports_inside)
