"""How fast the MONAI Label server answers, one request or three at once, and whether it grows over 200 of them.

    python -m benchmarks.serving.label_server [--part PART] [--requests N] [--repeats N]

A server of two bundles on two cores, as it is started, with its default number of draws: an upload of 28 x 28 px for
the pneumonia bundle and one of 64 x 64 px for the skin lesion bundle, answered with the map as NIfTI; three at once,
and /info/ meanwhile. Then requests in a row: resident memory after each, and temporary files. Times are those of the
clock, so that other work on the machine counts (``load_average``); processor seconds of the server stand beside them.
On a busy machine it may be started with a raised priority (``niceness``), which client and server share. Writes
``benchmarks/results/label_server.json``.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from tqdm import tqdm

from benchmarks.bundles import RESULTS
from benchmarks.serving.served import PNEUMONIA, SKIN, Served, circumstances, picture, served

SIZES = {PNEUMONIA: 28, SKIN: 64}
SETTLED = 40  # requests after which memory that is kept for reuse is there


def infer(server: Served, model: str, content: bytes) -> float:
    """Seconds for an answer with its map."""
    start = time.perf_counter()
    answer = httpx.post(f"{server.url}/infer/{model}", files={"file": ("a.png", content)}, timeout=300)
    answer.raise_for_status()
    if b"image" not in answer.content:
        raise RuntimeError("the answer has no map")
    return time.perf_counter() - start


def info(server: Served) -> float:
    start = time.perf_counter()
    httpx.get(f"{server.url}/info/", timeout=300).raise_for_status()
    return time.perf_counter() - start


def upload(model: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(SIZES[model], seed, colour=model == SKIN).save(buffer, "PNG")
    return buffer.getvalue()


def summary(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "max": max(seconds), "min": min(seconds), "times": len(seconds)}


def with_processor(server: Served, work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and the processor seconds that the server spent meanwhile."""
    before = server.process.cpu_times()
    made = work()
    after = server.process.cpu_times()
    return made, after.user + after.system - before.user - before.system


def three_at_once(server: Served, repeats: int) -> dict[str, Any]:
    last, meanwhile = [], []
    models = (PNEUMONIA, SKIN, PNEUMONIA)
    with ThreadPoolExecutor(3) as pool:
        for repeat in range(repeats):
            start = time.perf_counter()
            running = [pool.submit(infer, server, model, upload(model, repeat)) for model in models]
            while not all(one.done() for one in running):
                meanwhile.append(info(server))
                time.sleep(0.02)
            for one in running:
                one.result()
            last.append(time.perf_counter() - start)
    return {"last_answered": summary(last), "info_meanwhile": summary(meanwhile)}


def in_a_row(server: Served, count: int) -> dict[str, Any]:
    """Memory [MB] and temporary files over requests in a row."""
    memory = []
    files = server.temporary_files()
    for index in tqdm(range(count), unit="request"):
        infer(server, PNEUMONIA, upload(PNEUMONIA, index % 7))
        memory.append(server.process.memory_info().rss / 1e6)
    steps = statistics.linear_regression(range(count - SETTLED), memory[SETTLED:]).slope
    return {
        "requests": count,
        "memory_mb": {"first": memory[0], "settled": memory[SETTLED], "last": memory[-1], "largest": max(memory)},
        "growth_mb_in_100_requests": 100 * steps,
        "temporary_files": {"before": files, "after": server.temporary_files()},
    }


def answers(server: Served, repeats: int) -> dict[str, Any]:
    """Times of one request, of three at once, and of /info/ alone and meanwhile."""
    found: dict[str, Any] = {"one": {}, "circumstances": circumstances()}
    for model, size in SIZES.items():
        infer(server, model, upload(model, 99))
        contents = [upload(model, seed) for seed in range(repeats)]
        ask = functools.partial(infer, server, model)
        times, processor = with_processor(server, functools.partial(list, map(ask, contents)))
        found["one"][f"{size} px"] = summary(times) | {"processor_seconds": processor / repeats}
    return found | {
        "info_alone": summary([info(server) for _ in range(repeats)]),
        "three_at_once": three_at_once(server, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["answers", "in_a_row", "both"], default="both")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    path = RESULTS / "label_server.json"
    with served([picture(28, seed) for seed in range(4)], PNEUMONIA, SKIN) as server:
        server.wait_until_scored()
        found: dict[str, Any] = {}
        if options.part != "in_a_row":
            found["answers"] = answers(server, options.repeats)
        if options.part != "answers":
            found["in_a_row"] = in_a_row(server, options.requests) | {"circumstances": circumstances()}
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**known, **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
