"""Random numbers by a counter: the published vectors, Python's integers as oracle, and what no number depends on."""

from __future__ import annotations

import random as python_random

import pytest
import torch

from monai_diffclf.classification import philox
from monai_diffclf.classification.philox import ImageRandom, philox4x32
from tests.classification import philox_oracle as oracle

KINDS = ("normal", "uniform", "sign")
KEYS = [bytes([i, 7, 0, 255, i, 1, 2, 3]) for i in range(6)]
LAST = 2**32 - 1


def words(value: str) -> list[int]:
    return [int(word, 16) for word in value.split()]


def column(values, device: str) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.int64, device=device)


def index(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def make(kind: str, random: ImageRandom, image, draw, shape) -> torch.Tensor:
    numbers = getattr(random, kind)(image, draw, shape)
    assert numbers.dtype == torch.float32
    assert numbers.device == random.key.device
    assert numbers.shape == (len(image), *shape)
    return numbers.cpu()


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_random123(counter, key, expected, device):
    made = philox4x32([column([c], device) for c in words(counter)], [column([k], device) for k in words(key)])
    assert [int(word) for word in made] == words(expected)
    assert oracle.philox(tuple(words(counter)), tuple(words(key))) == tuple(words(expected)), "the oracle itself"


def test_words_are_those_of_pythons_integers(device):
    generator = python_random.Random(0)  # noqa: S311
    edges = (0, 1, 2**16, 2**31 - 1, 2**31, LAST - 1, LAST)
    cases = [[generator.randrange(2**32) for _ in range(6)] for _ in range(500)]
    cases += [[generator.choice(edges) for _ in range(6)] for _ in range(500)]
    columns = [column(values, device) for values in zip(*cases, strict=True)]
    made = torch.stack(philox4x32(columns[:4], columns[4:]), 1).tolist()
    assert made == [list(oracle.philox(tuple(case[:4]), (case[4], case[5]))) for case in cases]


def test_counters_and_keys_broadcast(device):
    block, draw, key = column(range(3), device)[None, None], column(range(4), device)[:, None], column([5, 6], device)
    zero = torch.zeros_like(block)
    made = philox4x32((block, zero, draw, zero), (key[:, None, None], zero))
    for word in made:
        assert word.shape == (2, 4, 3)
    assert [int(word[1, 3, 2]) for word in made] == list(oracle.philox((2, 0, 3, 0), (6, 0)))


def test_every_number_is_that_of_the_oracle(kind, device):
    """Element by element, for several images, draws, seeds and purposes; both are float32 until log and cosine."""
    shape, elements = (2, 3, 5), 30
    for seed, purpose in ((0, b""), (-1, b""), (2**63 - 1, b"divergence"), (-(2**63), b"dequantization")):
        image, draw = index(3, 0, 3, 5), index(0, 501, 2**31, LAST)
        made = make(kind, ImageRandom(KEYS, seed, purpose=purpose, device=device), image, draw, shape).flatten(1)
        for row, b, n in zip(made.tolist(), image.tolist(), draw.tolist(), strict=True):
            expected = [oracle.element(kind, KEYS[b], seed, purpose, n, e) for e in range(elements)]
            # Integers and their conversion are exact on every device, so that only log and cosine may differ.
            assert row == pytest.approx(expected, rel=0, abs=1e-6 if kind == "normal" else 0)


def test_elements_far_out_in_an_image(kind, device):
    """Elements on both sides of the border between two passes, and the last one, which a block of four overhangs."""
    border = 4 * philox.COUNTERS_AT_ONCE
    made = make(kind, ImageRandom(KEYS, 4, device=device), index(2), index(9), (border + 7,))[0]
    for e in (0, border - 5, border - 1, border, border + 3, border + 4, border + 6):
        expected = oracle.element(kind, KEYS[2], 4, b"", 9, e)
        assert float(made[e]) == pytest.approx(expected, rel=0, abs=1e-6 if kind == "normal" else 0)


@pytest.mark.parametrize(
    ("word", "uniform", "normal"),
    # The word 0 gives the largest normal number; the words at the upper end round to 1, whose logarithm is 0.
    [(0, 2.0**-33, 6.7637), (LAST, 1.0, 0.0), (2**31, 0.5, -1.17741)],
)
def test_numbers_of_extreme_words(word, uniform, normal, device, monkeypatch):
    monkeypatch.setattr(
        philox, "philox4x32", lambda counter, key: (torch.full_like(counter[0] + counter[2], word),) * 4
    )
    random = ImageRandom(KEYS, 0, device=device)
    assert make("uniform", random, index(0), index(0), (4,)).tolist() == [[uniform] * 4]
    # The angle is that of the same word: 0, a whole turn, half a turn.
    numbers = make("normal", random, index(0), index(0), (4,))[0]
    torch.testing.assert_close(numbers, torch.tensor([normal, 0, normal, 0]), rtol=0, atol=1e-4)
    assert numbers.abs().max() < 6.8


def test_draws_up_to_the_last(device):
    """Indices over all 32 bits and the last ones without a gap: those of the oracle, and no number comes twice."""
    near = [2**power + offset for power in range(2, 32) for offset in (-2, -1, 0, 1)]
    draws = sorted({*range(500), *near, *range(LAST - 2000, LAST + 1)})
    image = torch.zeros(len(draws), dtype=torch.int64)
    for kind in KINDS:
        made = make(kind, ImageRandom(KEYS, 8, device=device), image, torch.tensor(draws), (4,))
        expected = [[oracle.element(kind, KEYS[0], 8, b"", n, e) for e in range(4)] for n in draws[::7]]
        tolerance = 1e-6 if kind == "normal" else 0
        torch.testing.assert_close(made[::7], torch.tensor(expected), rtol=0, atol=tolerance)
        assert kind == "sign" or len(torch.unique(made, dim=0)) == len(draws)


def test_prefix(kind, device):
    """Element e of a draw is the same for every shape that has one: also where a block of four is not filled."""
    random = ImageRandom(KEYS, 1, device=device)
    image, draw = index(1, 4), index(3, 8)
    longest = make(kind, random, image, draw, (300,))
    for shape in ((1,), (2,), (3,), (4,), (5,), (1, 7), (3, 3, 3), (17, 1), (1, 16, 16), (13, 23), (299,)):
        made = make(kind, random, image, draw, shape).flatten(1)
        assert torch.equal(made, longest[:, : made.shape[1]]), shape


@pytest.mark.parametrize("shape", [(1,), (1, 3, 5), (1, 28, 28), (3, 64, 64), (2, 7, 11, 13)], ids=str)
def test_numbers_do_not_depend_on_the_batch(shape, kind, device):
    random, generator = ImageRandom(KEYS, 2, device=device), torch.Generator().manual_seed(0)
    image = torch.randint(len(KEYS), (40,), generator=generator)
    draw = torch.randint(2**32, (40,), generator=generator)
    together = make(kind, random, image, draw, shape)
    order = torch.randperm(40, generator=generator)
    assert torch.equal(make(kind, random, image[order], draw[order], shape), together[order])
    assert torch.equal(make(kind, random, image[9:12], draw[9:12], shape), together[9:12])
    for pair in (0, 17, 39):
        own = ImageRandom([KEYS[image[pair]]], 2, device=device)
        alone = make(kind, own, index(0), draw[pair : pair + 1], shape)
        assert torch.equal(alone[0], together[pair]), "neither on the other pairs nor on the other images' keys"


@pytest.mark.parametrize("at_once", [1, 3, 8, 50, 1000])
def test_numbers_do_not_depend_on_how_many_are_made_at_once(at_once, kind, device, monkeypatch):
    random, image, draw = ImageRandom(KEYS, 3, device=device), index(0, 1, 2, 3, 2), index(4, 4, 4, 0, LAST)
    expected = make(kind, random, image, draw, (3, 13))
    monkeypatch.setattr(philox, "COUNTERS_AT_ONCE", at_once)
    assert torch.equal(make(kind, random, image, draw, (3, 13)), expected)


def test_numbers_do_not_depend_on_the_number_of_threads(kind):
    """On the CPU a pass over 65,536 counters is shared among threads; sizes here make their parts unequal."""
    random, threads = ImageRandom(KEYS, 3), torch.get_num_threads()
    made = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            made.append(make(kind, random, torch.arange(5), torch.arange(5) + 7, (3, 101, 299)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_the_cpus_numbers_on_every_device(kind, device):
    """Where the device is the CPU this repeats itself; with a GPU it compares the two."""
    image, draw = torch.arange(6).repeat(20), torch.arange(120) * 35_791_394
    here, there = (make(kind, ImageRandom(KEYS, 3, device=d), image, draw, (3, 33, 33)) for d in ("cpu", device))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-6 if kind == "normal" and device != "cpu" else 0)


def test_indices_may_lie_on_either_device(kind, device):
    random, image, draw = ImageRandom(KEYS, 3, device=device), index(0, 5), index(1, 2)
    here, there = (make(kind, random, image.to(d), draw.to(d), (4, 4)) for d in ("cpu", device))
    assert torch.equal(here, there)


def test_neither_global_state_nor_default_dtype_nor_grad_mode_matter(kind, device):
    random, image, draw = ImageRandom(KEYS, 3, device=device), index(0, 5), index(1, 2)
    state = torch.get_rng_state()
    expected = make(kind, random, image, draw, (5, 5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    with torch.inference_mode():
        assert torch.equal(make(kind, random, image, draw, (5, 5)), expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(make(kind, random, image, draw, (5, 5)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_each_part_of_the_key_counts(device):
    """Other numbers for another image, seed (a negative one too), purpose and draw."""
    image, draw = index(0), index(6)
    settings = [(key, seed, purpose) for key in KEYS[:2] for seed in (0, 1, -1, 2**62) for purpose in (b"", b"a", b"b")]
    made = [ImageRandom([k], s, purpose=p, device=device).uniform(image, draw, (64,))[0] for k, s, p in settings]
    made += [ImageRandom(KEYS, 0, device=device).uniform(image, draw + n, (64,))[0] for n in (1, -1, 2**31)]
    numbers = torch.stack(made)
    assert len(torch.unique(numbers, dim=0)) == len(settings) + 3
    assert len(torch.unique(numbers)) > 0.999 * numbers.numel(), "not even single numbers come twice"


def test_no_images_and_no_elements(kind, device):
    random = ImageRandom(KEYS, 0, device=device)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert make(kind, random, nothing, nothing, (3, 4)).numel() == 0
    assert make(kind, random, index(1), index(1), (0, 4)).numel() == 0
    assert make(kind, ImageRandom([], 0, device=device), nothing, nothing, (3, 4)).numel() == 0
    assert make(kind, random, index(1), index(1), ()).shape == (1,), "a single number is an image of no axes"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2**34,), "shape: expected fewer than 2\\^34 elements, got 17179869184"),
        ((4, 2**16, 2**16), "shape: expected fewer than 2\\^34 elements, got 17179869184"),
        ((-4, 4), r"shape: expected sizes of 0 and more, got \[-4, 4\]"),
        ((-2, -2), r"shape: expected sizes of 0 and more, got \[-2, -2\]"),
    ],
    ids=str,
)
def test_refused_shapes(shape, message, kind):
    with pytest.raises(ValueError, match=message):
        getattr(ImageRandom(KEYS, 0), kind)(index(0), index(0), shape)


def test_one_image_and_one_draw_a_pair():
    with pytest.raises(ValueError, match="draw: expected as many as images, 3; got 1"):
        ImageRandom(KEYS, 0).normal(index(0, 1, 2), index(0), (4,))


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 1.0, None, "0"])
def test_refused_seeds(seed):
    with pytest.raises(ValueError, match="seed: expected an integer of 64 bits, got"):
        ImageRandom(KEYS, seed)
