"""What a random number costs: the counter-based generator, eager and compiled, beside a torch.Generator a pair.

    python -m benchmarks.speed.random_numbers [--repeats 15] [--threads 1] [--output FILE]

All are timed in turn, round by round, within one run; ratios are of the same round, and given with their spread. On a
CPU the clock is the processor's time, so that other programs disturb little; on CUDA it is wall time.
Writes benchmarks/results/random_numbers.json. Without a compiler the compiled numbers are left out, with the reason;
compiling takes longer than stated when the compiler's cache is empty.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import struct
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.bundles import RESULTS
from monai_diffclf.classification import philox

OUTPUT = RESULTS / "random_numbers.json"
CASES = [((1, 28, 28), 128), ((3, 64, 64), 128), ((3, 256, 256), 16)]
"""Shape of an image, and pairs of image and draw made in one call."""
IMAGES = 8
AT_LEAST = 0.1
"""Seconds of one timing: a short call is repeated until they are full."""


def one_generator_a_pair(
    keys: list[bytes], image: torch.Tensor, draw: torch.Tensor, shape: tuple[int, ...], device: torch.device
) -> torch.Tensor:
    """The noise as it was made before: on the CPU, a generator seeded by a hash for every pair."""
    made = []
    for b, n in zip(image.tolist(), draw.tolist(), strict=True):
        text = hashlib.blake2b(keys[b] + struct.pack("<qq", 0, n), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(text, "little") >> 1)
        made.append(torch.randn(shape, generator=generator))
    return torch.stack(made).to(device)


def seconds(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """Time of one call, the mean of some."""
    cpu = device.type == "cpu"
    clock = time.process_time if cpu else time.perf_counter
    if not cpu:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(calls):
        function()
    if not cpu:
        torch.cuda.synchronize()
    return (clock() - start) / calls


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }


def compiler(device: torch.device) -> str | None:
    """Why torch.compile does not work here, None where it does."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:  # whatever it is that torch.compile raises without a compiler
        return str(error).splitlines()[0]
    return None


def with_words(words: Callable[..., philox.Words], make: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The same numbers, with words made by the given function, whatever number of them was made before."""

    def run() -> torch.Tensor:
        before = philox._uniform_words
        philox._uniform_words = words
        try:
            return make()
        finally:
            philox._uniform_words = before

    return run


def measure(
    shape: tuple[int, ...], pairs: int, compiled: Callable[..., philox.Words] | None, repeats: int, device: torch.device
) -> dict[str, object]:
    """One case: nanoseconds a number of each way, and its ratio to the way of before in the same round."""
    keys = [bytes([i] * 8) for i in range(IMAGES)]
    image, draw = torch.arange(pairs) % IMAGES, torch.arange(pairs) // IMAGES
    random = philox.ImageRandom(keys, 0, device=device)

    def counter_based() -> torch.Tensor:
        random._made = 0  # how the words are made is decided here, not by how many there were
        return random.normal(image, draw, shape)

    ways: dict[str, Callable[[], torch.Tensor]] = {
        "one_generator_a_pair": lambda: one_generator_a_pair(keys, image, draw, shape, device),
        "counter_based_eager": counter_based,
    }
    if compiled is not None:
        ways["counter_based_compiled"] = with_words(compiled, counter_based)
        if not torch.equal(ways["counter_based_compiled"](), counter_based()):
            raise RuntimeError("compiled numbers differ from eager ones")
    numbers = pairs * torch.Size(shape).numel()
    calls = {}
    for name, way in ways.items():
        way()
        calls[name] = max(1, round(AT_LEAST / max(seconds(way, 1, device), 1e-6)))
    rounds = [{name: seconds(way, calls[name], device) for name, way in ways.items()} for _ in range(repeats)]
    return {
        "shape": list(shape),
        "pairs": pairs,
        "nanoseconds_a_number": {name: round(min(r[name] for r in rounds) / numbers * 1e9, 3) for name in ways},
        "times_the_cost_of_before": {
            name: spread([r[name] / r["one_generator_a_pair"] for r in rounds]) for name in list(ways)[1:]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    missing = compiler(device)
    start = time.perf_counter()
    compiled = None if missing else philox._compiled(device.type)
    result = {
        "name": "random_numbers",
        "generator": philox.GENERATOR,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": args.threads,
        "clock": "processor time" if device.type == "cpu" else "wall time",
        "repeats": args.repeats,
        "seconds_to_compile": None if missing else round(time.perf_counter() - start, 1),
        "no_compiler": missing,
        "cases": [measure(shape, pairs, compiled, args.repeats, device) for shape, pairs in CASES],
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
