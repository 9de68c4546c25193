# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two commands on one output folder, killed at random; helper of test_two_processes.py, run as a script.

    python -m tests.run.two_processes FOLDER [--trials 50] [--seed 0]

In each trial two of train, evaluate and inference (of one set of images or of another) write to one folder, a random
time apart, and are killed (SIGKILL) or not after a random time. A command must then have ended by itself with exit code
0, been refused in one line (2), or been killed. What a command that ended with 0 as the last one wrote must be right;
and when the two are then run again, one after the other, the folder must hold what one undisturbed process each writes:
the same tables, errors and weights to the byte, and no file more.

Commands are processes of their own, forked here so that all of them share one import of MONAI.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion"
EPOCHS = 3
DEADLINE = time.monotonic() + 600
# Checked by what they hold: the others hold times, paths or zipped data with times.
EXACT = (".csv", ".png")
TINY = {
    "device": "cpu",
    "progress": "False",
    "channels": "1",
    "image_size": "[16,16]",
    "denoiser#channels": "[4,8]",
    "denoiser#attention_levels": "[False,False]",
    "denoiser#num_res_blocks": "1",
    "denoiser#num_head_channels": "4",
    "denoiser#norm_num_groups": "4",
}


def make_images(folder: Path) -> None:
    """Images of two classes in three splits, and two sets without classes."""
    rng = np.random.default_rng(0)
    counts = {"train": 24, "validation": 8, "test": 8}
    for split, count in counts.items():
        for i in range(count):
            label = i % 2
            path = folder / "data" / split / ("normal", "pneumonia")[label] / f"{split}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 120, (16, 16)) + 120 * label * (np.arange(16) > 7)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    for name, count in (("a", 5), ("b", 8)):
        (folder / name).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (16, 16)).astype(np.uint8)).save(folder / name / f"{name}{i}.png")


def words(folder: Path, command: str, output: Path) -> list[str]:
    """The command line of a command."""
    files = {"train": ["train"], "evaluate": ["train", "evaluate"]}.get(command, ["inference"])
    options = {**TINY, "bundle_root": str(BUNDLE), "output_dir": str(output)}
    if command in ("a", "b"):
        options |= {"dataset_dir": str(folder / command), "checkpoint": str(folder / "reference" / "model.pt")}
        options |= {"calibrated": "False", "num_draws": "15", "image_batch": "1"}
    else:
        options |= {"dataset_dir": str(folder / "data"), "patients": "None", "batch_size": "4", "warmup_steps": "2"}
        options |= {"max_epochs": str(EPOCHS), "val_interval": "1", "val_draws": "3", "learning_rate": "0.02"}
    if command == "evaluate":
        options |= {"num_draws": "15"}
    config = [str(BUNDLE / "configs" / f"{name}.json") for name in files]
    pairs = [word for name, value in options.items() if value != "None" for word in (f"--{name}", value)]
    return ["run", "--config_file", str(config) if len(config) > 1 else config[0], *pairs]


def start(folder: Path, command: str, output: Path, log: Path) -> int:
    """Start a command in a process of its own; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(BUNDLE)
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["monai.bundle", *words(folder, command, output)]
        try:
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException as error:
            try:
                sys.excepthook(type(error), error, error.__traceback__)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        import atexit

        atexit._run_exitfuncs()
    finally:
        sys.stderr.flush()
        os._exit(code)


def end(pid: int) -> int:
    """Exit code of a process; minus the signal's number if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def complete(folder: Path, command: str, output: Path, log: Path) -> None:
    """Run a command undisturbed."""
    code = end(start(folder, command, output, log))
    if code != 0:
        raise AssertionError(f"{command} alone ended with {code}, see {log}:\n{log.read_text()[-2000:]}")


def contents(output: Path, command: str) -> dict[str, str]:
    """What a command is about in a folder: file -> hash of what it holds."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        inference = name in ("predictions.csv", "cases.html") or name.startswith(("map_", "predictions.csv"))
        if not path.is_file() or path.name.startswith(".") or inference != (command in ("a", "b")):
            continue
        if command == "train" and (name.startswith(("evaluation", "results", "audit_evaluation")) or "metrics" in name):
            continue
        if not name.startswith("events.out"):
            found[name] = digest(path)
    return found


def digest(path: Path) -> str:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            data = b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays.files))
    elif path.name == "model.json":
        data = json.loads(path.read_text())["weights"].encode()
    elif path.suffix in EXACT:
        data = path.read_bytes()
    else:
        data = b"there"
    return hashlib.sha256(data).hexdigest()[:12]


def trial(folder: Path, pair: tuple[str, str], rng: random.Random, number: int, expected: dict) -> list[int]:
    """One trial; returns the exit codes of the two.

    Raises:
        AssertionError: when something is wrong, with the files that differ.
    """
    output, log = folder / f"trial_{number}", folder / f"trial_{number}.log"
    if "evaluate" in pair:  # weights to judge: a training that may go on
        shutil.copytree(folder / ("half" if "train" in pair else "reference_trained"), output)
    started = [start(folder, pair[0], output, log)]
    time.sleep(rng.uniform(0, 6))
    started.append(start(folder, pair[1], output, log))
    victims = [pid for pid in started if rng.random() < 0.6]
    time.sleep(rng.uniform(0, 9))
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
        time.sleep(rng.uniform(0, 0.5))
    codes = [end(pid) for pid in started]
    text = log.read_text(errors="replace")
    for code in codes:
        assert code in (0, 2, -signal.SIGKILL), f"{pair}: exit codes {codes}\n{text[-3000:]}"
    assert codes.count(2) <= text.count("is being written by another process"), f"{pair}: {codes}\n{text[-3000:]}"
    if codes.count(0) == 1 and -signal.SIGKILL not in codes:  # it alone has written
        done = pair[codes.index(0)]
        wanted = "evaluate half" if done == "evaluate" and "train" in pair else done
        check(contents(output, done), expected[wanted], f"{pair} ended with {codes}, {done}")
    for command in sorted(set(pair), key=["train", "evaluate", "a", "b"].index):
        complete(folder, command, output, log)
        check(contents(output, command), expected[command], f"{pair} ended with {codes}, then {command}")
    shutil.rmtree(output)
    return codes


def check(found: dict[str, str], expected: dict[str, str], what: str) -> None:
    differ = {name for name in {*found, *expected} if found.get(name) != expected.get(name)}
    assert not differ, f"{what}: other than undisturbed: {sorted(differ)}"


def references(folder: Path) -> dict:
    """What one undisturbed process writes; folders to begin trials from."""
    log, reference, half = folder / "reference.log", folder / "reference", folder / "half"
    pid = start(folder, "train", half, log)
    # A training begins with a checkpoint; what an evaluation needs comes with the first validation.
    while not (half / "model.json").exists() and time.monotonic() < DEADLINE:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    end(pid)
    complete(folder, "train", reference, log)
    shutil.copytree(reference, folder / "reference_trained")
    expected = {"train": contents(reference, "train")}
    complete(folder, "evaluate", reference, log)
    expected["evaluate"] = contents(reference, "evaluate")
    shutil.copytree(half, folder / "half_judged")
    complete(folder, "evaluate", folder / "half_judged", log)
    expected["evaluate half"] = contents(folder / "half_judged", "evaluate")
    for command in ("a", "b"):
        complete(folder, command, folder / f"alone_{command}", log)
        expected[command] = contents(folder / f"alone_{command}", command)
    return expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the pairs and times; how far a command comes varies")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    import torch
    from monai import bundle, engines, handlers  # noqa: F401 (what every command imports, once for all)

    import monai_diffclf.handlers
    import monai_diffclf.run  # noqa: F401

    torch.set_num_threads(1)
    make_images(folder)
    expected = references(folder)
    rng = random.Random(options.seed)  # noqa: S311
    commands, told, wrong = ("train", "evaluate", "a", "b"), Counter(), []
    for number in range(options.trials):
        pair = (rng.choice(commands), rng.choice(commands))
        try:
            codes = trial(folder, pair, rng, number, expected)
            told[" and ".join(f"{command} {code}" for command, code in zip(pair, codes, strict=True))] += 1
        except AssertionError as error:
            wrong.append(f"trial {number}: {error}")
            print(wrong[-1], file=sys.stderr)
        print(f"trial {number + 1} of {options.trials}: {pair}, {len(wrong)} wrong", file=sys.stderr, flush=True)
    print(json.dumps({"trials": options.trials, "wrong": wrong, "ended": dict(told.most_common())}, indent=1))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
