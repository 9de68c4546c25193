"""Two processes classify into one folder and are killed at random: ``python -m tests.archive.two_processes``.

In a trial two processes start at random times, with the same images or other ones, by themselves or with two workers
of torchrun, and each may be killed (SIGKILL) at a random time. Whatever one leaves with exit code 0 must be the files
of an undisturbed run, byte by byte; who is refused says so in one line with exit code 2; and the same command, run
again when all is quiet, must end with the files of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from monai_diffclf.commands import main as command
from tests.archive.conftest import BUNDLE, contents, write_pictures

ARCHIVES = ("first", "second")


@dataclass
class Process:
    """A command in a process of its own."""

    name: str
    archive: str
    words: list[str]
    log: Path
    start: float
    kill: float | None
    pid: int = 0
    code: int | None = None
    seen: dict[str, bytes] = field(default_factory=dict)

    def begin(self) -> None:
        """Start it; all that it needs has been imported."""
        self.pid = os.fork()
        if self.pid == 0:
            with self.log.open("w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115
                code = 1
                try:
                    code = command(self.words)
                finally:
                    sys.stdout.flush()
                    os._exit(code)


class Trials:
    """Trials in a folder, with what undisturbed runs write."""

    def __init__(self, folder: Path, *, images: int = 40, draws: int = 5) -> None:
        self.folder, self.draws = folder, draws
        self.whole = {}
        self.seconds = 0.0
        for seed, name in enumerate(ARCHIVES):
            write_pictures(folder / name, images, seed=seed)
            began = time.monotonic()
            # In a process of its own, as those of the trials: the threads of this one would not survive a fork.
            process = Process("whole", name, self.words(name, f"whole_{name}"), folder / "log", 0, None)
            process.begin()
            code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
            if code:
                raise RuntimeError(f"exit code {code}: {process.log.read_text()}")
            self.seconds = time.monotonic() - began
            self.whole[name] = contents(folder / f"whole_{name}")

    def words(self, archive: str, output: str, *more: str) -> list[str]:
        """A command line."""
        words = ["classify", str(self.folder / archive), "--bundle", BUNDLE, "--output", str(self.folder / output)]
        return [*words, "--draws", str(self.draws), "--no-progress", "--device", "cpu", *more]

    def run(self, seed: int) -> list[str]:
        """One trial.

        Returns:
            what became of each process.

        Raises:
            RuntimeError: when something is not as it should be.
        """
        chance = random.Random(seed)  # noqa: S311
        output = f"out_{seed}"
        folder = self.folder / output
        processes = []
        for name in ("a", "b"):
            archive = ARCHIVES[0] if name == "a" or chance.random() < 0.6 else ARCHIVES[1]
            more = ["--num-processes", "2"] if chance.random() < 0.2 else []
            more += ["--replace"] if chance.random() < 0.3 else []
            start = 0.0 if name == "a" else chance.uniform(0, 1.2 * self.seconds)
            kill = start + chance.uniform(0, 1.3 * self.seconds) if chance.random() < 0.6 else None
            log = self.folder / f"log_{seed}_{name}"
            processes.append(Process(name, archive, self.words(archive, output, *more), log, start, kill))
        self._play(processes, folder)
        became = [self._judge(process) for process in processes]
        mixed = any(process.archive != ARCHIVES[0] for process in processes)
        words = self.words(ARCHIVES[0], output, *(["--replace"] if mixed else []))
        last = Process("last", ARCHIVES[0], words, self.folder / "log", 0, None)
        self._play([last], folder)
        if last.code or contents(folder) != self.whole[last.archive]:
            raise RuntimeError(f"trial {seed}: in the end, exit code {last.code}: {last.log.read_text()}")
        shutil.rmtree(folder)
        return became

    def _play(self, processes: list[Process], folder: Path) -> None:
        began = time.monotonic()
        waiting = list(processes)
        running: list[Process] = []
        while waiting or running:
            now = time.monotonic() - began
            for process in [each for each in waiting if each.start <= now]:
                process.begin()
                waiting.remove(process)
                running.append(process)
            for process in list(running):
                if process.kill is not None and now >= process.kill:
                    os.kill(process.pid, signal.SIGKILL)
                    process.kill = None
                pid, status = os.waitpid(process.pid, os.WNOHANG)
                if pid:
                    process.code = os.waitstatus_to_exitcode(status)
                    running.remove(process)
                    # While another may be at work, only who is alone can be looked at.
                    process.seen = contents(folder) if process.code == 0 and not running else {}
            time.sleep(0.005)

    def _judge(self, process: Process) -> str:
        if process.code == -signal.SIGKILL:
            return "killed"
        said = process.log.read_text()
        if process.code == 2:
            lines = [line for line in said.splitlines() if line.startswith("error: ")]
            if len(lines) != 1 or "Traceback" in said:
                raise RuntimeError(f"{process.name}: expected one line, got {said}")
            return "refused"
        if process.code != 0:
            raise RuntimeError(f"{process.name}: exit code {process.code}: {said}")
        visible = {name: content for name, content in process.seen.items() if not name.startswith(".")}
        if process.seen and visible != self.whole[process.archive]:
            raise RuntimeError(f"{process.name}: other files than those of an undisturbed run")
        return "done"


def main() -> None:
    """Run trials and write what became of their processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the result")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder))
        became: Counter[str] = Counter()
        for number in range(options.trials):
            result = trials.run(options.seed + number)
            became[" and ".join(sorted(result))] += 1
            print(f"trial {number + 1} of {options.trials}: {', '.join(result)}", flush=True)
    found = {"trials": options.trials, "as_undisturbed_or_refused": options.trials, "processes": dict(became)}
    print(json.dumps(found))
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
