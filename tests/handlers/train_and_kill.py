"""Train a bundle undisturbed, and once more with kills in between; helper of test_training.py, run as a script.

    python tests/handlers/train_and_kill.py CONFIG DATASET OUTPUT

Each training is a process of its own, forked here so that all of them share one import of MONAI.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

EPOCHS = 4
ITERATIONS = 3  # of each epoch


def settings(config: str, dataset: str, folder: Path) -> dict:
    """A tiny network on tiny images; everything else is as in the bundle."""
    return {
        "config_file": config,
        "dataset_dir": dataset,
        "output_dir": str(folder),
        "patients": None,
        "download": None,
        "device": "$torch.device('cpu')",
        "progress": False,
        "image_size": [16, 16],
        "max_epochs": EPOCHS,
        "batch_size": 4,
        "warmup_steps": 2,
        "learning_rate": 0.02,
        "val_interval": 2,
        "val_draws": 2,
        "denoiser#channels": [4, 8],
        "denoiser#attention_levels": [False, False],
        "denoiser#num_res_blocks": 1,
        "denoiser#num_head_channels": 4,
        "denoiser#norm_num_groups": 4,
    }


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(iteration: int) -> None:
    """Be killed in this iteration, between the backward pass and the optimiser's step."""
    from monai_diffclf.handlers import GradientClipping

    clip = GradientClipping.__call__

    def call(self, engine):
        if engine.state.iteration == iteration:
            kill_me()
        clip(self, engine)

    GradientClipping.__call__ = call


def kill_while_saving(epoch: int) -> None:
    """Be killed when half of this epoch's checkpoint is written."""
    import torch

    save, count = torch.save, 0

    def half(content, path):
        nonlocal count
        count += "checkpoint" in Path(path).name
        save(content, path)
        if "checkpoint" in Path(path).name and count == epoch + 1:  # the first is of the start
            os.truncate(path, os.path.getsize(path) // 2)
            kill_me()

    torch.save = half


def train(disturb: Callable[[], None] | None, **kwargs) -> int:
    """Exit code of a training; minus the signal's number if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import monai.bundle

            if disturb:
                disturb()
            monai.bundle.run(**kwargs)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    config, dataset, output = sys.argv[1:]
    import torch
    from monai import bundle, engines, handlers  # noqa: F401 (what every training imports, once for all)

    import monai_diffclf.handlers  # noqa: F401

    torch.set_num_threads(1)
    undisturbed, killed = Path(output) / "undisturbed", Path(output) / "killed"
    codes = {"undisturbed": train(None, **settings(config, dataset, undisturbed))}
    again = settings(config, dataset, killed)
    codes["killed while saving epoch 2"] = train(lambda: kill_while_saving(2), **again)
    shutil.copy(killed / "checkpoint.pt", Path(output) / "first.pt")
    codes["killed in epoch 3"] = train(lambda: kill_at(2 * ITERATIONS + 2), **again)
    shutil.copy(killed / "checkpoint.pt", Path(output) / "second.pt")
    codes["resumed"] = train(None, **again)
    written = (killed / "checkpoint.pt").stat().st_mtime_ns
    codes["started when done"] = train(None, **again)
    codes["untouched when done"] = written == (killed / "checkpoint.pt").stat().st_mtime_ns
    (Path(output) / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
