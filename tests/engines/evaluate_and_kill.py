"""Evaluate undisturbed, with kills in between, and in two processes; helper of test_journal.py, run as a script.

    python tests/engines/evaluate_and_kill.py OUTPUT

Each evaluation is a process of its own, forked here so that all of them share one import of MONAI. An evaluation writes
its results to OUTPUT/NAME/results, keeps its journal in OUTPUT/NAME/journal, and notes the size of every call of the
network in OUTPUT/NAME/calls_ATTEMPT_RANK.txt.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

IMAGES = 11  # of which two are equal
DRAWS = 5
BATCH_SIZE = 4  # evaluations a call: 4, 4 and 2 for an image


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_items() -> list[dict]:
    import torch

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 1, 8, 8, generator=generator) * 2 - 1
    images[-1] = images[0]
    return [
        {"image": image, "label": i % 2, "key": f"image_{(7 * i) % IMAGES:02d}", "patient": f"P{i // 2}"}
        for i, image in enumerate(images)
    ]


def make_network(calls: Path, kill_at: int | None):
    """A small U-Net that notes its calls and may be killed in one of them."""
    import torch
    from monai.networks.nets import DiffusionModelUNet

    class Network(DiffusionModelUNet):
        count = 0

        def forward(self, x, timesteps, context=None, class_labels=None):
            if len(x) == 1:  # whether it makes use of the class is tried once with single images
                return super().forward(x, timesteps, context, class_labels)
            self.count += 1
            with open(calls, "a") as file:
                file.write(f"{len(x)}\n")
            if self.count == kill_at:
                kill_me()
            return super().forward(x, timesteps, context, class_labels)

    torch.manual_seed(0)
    network = Network(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(8, 8),
        attention_levels=(False, False),
        num_res_blocks=1,
        num_head_channels=8,
        norm_num_groups=4,
        num_class_embeds=3,
    )
    torch.nn.init.normal_(network.out[-1].conv.weight)  # MONAI makes it zero, and every prediction with it
    return network.eval()


def evaluate(
    folder: Path, attempt: str, *, rank: int = 0, processes: int = 1, even: bool = False, kill_at: int | None = None
) -> None:
    """One process of an evaluation."""
    import torch
    from monai.data import DataLoader, Dataset, DistributedSampler
    from monai.networks.schedulers import DDPMScheduler

    from monai_diffclf.engines import DiffusionClassifierEvaluator
    from monai_diffclf.handlers import ErrorsSaver
    from monai_diffclf.inferers import DiffusionClassifierInferer

    sampler = None
    dataset = Dataset(make_items())
    if processes > 1:
        store = f"file://{folder}/store_{attempt}"
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
        sampler = DistributedSampler(dataset, even_divisible=even, shuffle=False)
    inferer = DiffusionClassifierInferer(DDPMScheduler(100), num_draws=DRAWS, batch_size=BATCH_SIZE)
    results = folder / "results"
    DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(dataset, batch_size=4, sampler=sampler),
        make_network(folder / f"calls_{attempt}_{rank}.txt", kill_at),
        inferer=inferer,
        explain=False,
        journal_dir=folder / "journal",
        val_handlers=[
            ErrorsSaver(
                results, inferer, results / "results.json", split="test", data="d", commit_root=folder, num_resamples=20
            )
        ],
    ).run()


def kill_between_errors_and_row(count: int) -> None:
    """Be killed when the errors of the ``count``-th image are written, and its row is not."""
    from monai_diffclf.storage import errors_journal

    calls = 0

    def crc32(content, *started):
        nonlocal calls
        # A row's checksum is made when the errors are written: once of its text, once of them.
        calls += bool(started) and sys._getframe(1).f_code.co_name == errors_journal.ErrorsJournal.append.__name__
        if calls == count:
            kill_me()
        return zlib.crc32(content, *started)

    errors_journal.zlib = SimpleNamespace(crc32=crc32)


def fork(action: Callable[[], None]) -> int:
    """Number of a new process that does this and ends."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(*pids: int) -> list[int]:
    """Exit codes, minus a signal's number; when one process fails, the others are killed, as torchrun does."""
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:
            for other in set(pids) - set(codes):
                os.kill(other, signal.SIGKILL)
    return [codes[pid] for pid in pids]


def main() -> None:
    output = Path(sys.argv[1])
    import torch
    from monai import data, engines, networks  # noqa: F401 (what every evaluation imports, once for all)

    import monai_diffclf.handlers  # noqa: F401

    torch.set_num_threads(1)
    codes: dict[str, list[int]] = {}

    def run(name: str, attempt: str, *, processes: int = 1, disturb: Callable[[], None] | None = None, **options):
        folder = output / name
        folder.mkdir(exist_ok=True)
        kill_at = options.pop("kill_at", {})

        def process(rank: int) -> Callable[[], None]:
            def action() -> None:
                if disturb:
                    disturb()
                evaluate(folder, attempt, rank=rank, processes=processes, kill_at=kill_at.get(rank), **options)

            return action

        codes[f"{name} {attempt}"] = wait(*(fork(process(rank)) for rank in range(processes)))

    run("undisturbed", "a")
    run("killed", "a", kill_at={0: 3 * 6 + 2})
    run("killed", "b", disturb=lambda: kill_between_errors_and_row(2))
    run("killed", "c")
    run("two", "a", processes=2)
    run("two_padded", "a", processes=2, even=True)
    run("two_then_one", "a", processes=2, kill_at={1: 3 * 2 + 2})
    run("two_then_one", "b")
    (output / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
