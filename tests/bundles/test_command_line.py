"""`python -m monai.bundle run` of a bundle as shipped: exit codes, the last line, and what is left behind."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.storage.folder_lock import FolderLock

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion"
SETTINGS = {"--num_draws": "3", "--calibrated": "no", "--progress": "off"}


def write_images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 255, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, "PNG")
    return folder


def command(*words: str, module: str = "monai.bundle") -> list[str]:
    """Inference of the bundle, with further options, to be run from any folder."""
    config = ["--config_file", str(BUNDLE / "configs" / "inference.json"), "--bundle_root", str(BUNDLE)]
    settings = [word for pair in SETTINGS.items() for word in pair]
    return [sys.executable, "-m", module, "run", *config, *settings, *words]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(BUNDLE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}


def run(words: list[str], folder: Path) -> tuple[int, str, str]:
    """Exit code, last line of the screen and all of it."""
    done = subprocess.run(
        words, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    return done.returncode, done.stdout.strip().splitlines()[-1], done.stdout


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_unknown_option_and_nothing_is_made(tmp_path):
    code, line, screen = run(command("--dataset_dir", "x", "--output_dir", "out", "--num_draw", "5"), tmp_path)
    assert (code, line) == (2, "error: --num_draw: no such option; did you mean --num_draws?")
    assert "Traceback" not in screen and list(tmp_path.iterdir()) == []


def test_names_are_data(tmp_path):
    names = ("$evil.png", "%b.png", "=1+1.png", "@a.png", '<script>alert("1")<!-- \'.png', "a\x1b[2J.png")
    write_images(tmp_path / "2024", *names)
    code, _, screen = run(command("--dataset_dir", "2024", "--output_dir", "0"), tmp_path)
    assert code == 0, screen
    found = {row["key"] for row in rows(tmp_path / "0" / "predictions.csv")}
    assert found == {"$evil.png", "%b.png", "'=1+1.png", "'@a.png", names[4], "a\\x1b[2J.png"}
    page = (tmp_path / "0" / "cases.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "alert(" in page
    made = {path.name for path in (tmp_path / "0").iterdir()}
    assert made == {".outputs.jsonl", "predictions.csv", "cases.html", *(f"map_{i:05d}.png" for i in range(6))}


def test_one_image_that_cannot_be_read(tmp_path):
    folder = write_images(tmp_path / "images", "a.png", "b.png", "c.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:200])
    words = command("--dataset_dir", "images", "--output_dir", "out", "--dataloader#num_workers", "1")
    code, line, screen = run(words, tmp_path)
    assert code == 1 and "Traceback" not in screen, screen
    assert line.startswith(
        "error: 1 image(s) could not be read, see the column error of predictions.csv; the first is b"
    )
    table = rows(tmp_path / "out" / "predictions.csv")
    assert [row["key"] for row in table] == ["a.png", "b.png", "c.png"]
    assert [bool(row["error"]) for row in table] == [False, True, False]
    assert table[1]["error"].startswith(str(Path("images") / "b.png")) and not table[1]["predicted"]
    assert "Could not be read" in (tmp_path / "out" / "cases.html").read_text(encoding="utf-8")
    code, line, screen = run([*words, "--strict", "true"], tmp_path)
    assert code == 2 and line.startswith(f"error: {Path('images') / 'b.png'}: "), screen
    assert "Traceback" not in screen


def test_an_output_folder_in_use(tmp_path):
    write_images(tmp_path / "images", "a.png")
    with FolderLock(tmp_path / "out"):
        code, line, _ = run(command("--dataset_dir", "images", "--output_dir", "out"), tmp_path)
    assert code == 2
    assert line == "error: output folder: out is being written by another process; wait for it, or name another folder"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_command_that_is_stopped(tmp_path):
    write_images(tmp_path / "images", *(f"{i}.png" for i in range(8)))
    words = command("--dataset_dir", "images", "--output_dir", "out", "--image_batch", "1")
    words[words.index("--num_draws") + 1] = "2001"
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that runs this in the background has told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        limit = time.monotonic() + 120
        while not (tmp_path / "out" / "predictions.csv.part").exists() and time.monotonic() < limit:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        screen, _ = process.communicate(timeout=120)
    assert process.returncode == 130, screen
    assert screen.splitlines()[-1] == "stopped; run the same command again to go on"
    assert "Traceback" not in screen and not (tmp_path / "out" / ".lock").exists()
    assert not (tmp_path / "out" / "predictions.csv").exists(), "a table short of rows would look complete"


@pytest.mark.parametrize("case", ["no file", "no json", "a macro"])
def test_what_comes_before_a_configuration_ends_in_a_line_too(case, tmp_path):
    """With the package's own command, as MONAI's own fails before it reads what could prevent it."""
    (tmp_path / "bad.json").write_text("{")
    words = command("--output_dir", "%x", module="monai_diffclf.run")
    if case != "a macro":
        words[words.index("--config_file") + 1] = "bad.json" if case == "no json" else "bat.json"
    code, line, screen = run(words, tmp_path)
    expected = {
        "no file": "error: --config_file: expected a file, but there is no bat.json; did you mean bad.json?",
        "no json": "error: --config_file: bad.json is no JSON: line 1: ",
        "a macro": "error: --output_dir: expected a path, but %x begins with %",
    }
    assert code == 2 and line.startswith(expected[case]) and "Traceback" not in screen, screen
