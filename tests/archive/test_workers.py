"""Several processes, or Ray, give the table of one process, whatever of them dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from monai_diffclf.archive import classify_archive
from tests.archive.conftest import contents, write_pictures

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def archive(tmp_path, settings):
    """A folder of 80 pictures, one of which is broken, and what one process makes of them."""
    write_pictures(tmp_path / "images", 80)[33].write_bytes(b"")
    settings = replace(settings, max_cases=7, values={"num_draws": 5})
    done = classify_archive([tmp_path / "images"], settings, tmp_path / "one", progress=False)
    assert len(done.failed) == 1
    return tmp_path / "images", settings, contents(tmp_path / "one")


class Killer(threading.Thread):
    """Kills a process below this one whose command line has a word, when a first block is recorded."""

    def __init__(self, output: Path, word: str) -> None:
        super().__init__(daemon=True)
        self.output, self.word, self.killed = output, word, 0

    def run(self) -> None:
        while not list(self.output.glob(".classify_*/blocks/*.zip")):
            time.sleep(0.01)
        for process in psutil.Process().children(recursive=True):
            try:
                if self.word in " ".join(process.cmdline()):
                    self.killed = process.pid
                    process.send_signal(signal.SIGKILL)
                    return
            except psutil.Error:
                continue


def test_a_dead_process_costs_no_image(archive, tmp_path):
    images, settings, whole = archive
    killer = Killer(tmp_path / "two", "-u -m monai_diffclf.archive.worker")  # what torchrun starts, not torchrun
    killer.start()
    classify_archive([images], settings, tmp_path / "two", num_processes=2, progress=False)
    assert killer.killed
    assert contents(tmp_path / "two") == whole


@pytest.mark.slow
def test_workers_say_what_is_wrong(archive, tmp_path):
    images, settings, _ = archive
    with pytest.raises(ValueError, match=r"scan 33\.png cannot be read, and --strict was given"):
        classify_archive([images], replace(settings, strict=True), tmp_path / "two", num_processes=2, progress=False)
    assert not (tmp_path / "two" / "predictions.csv").exists()


@pytest.mark.slow
def test_ray_gives_the_same_and_starts_a_dead_actor_anew(archive, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'monai-diffclf[ray]'")
    images, settings, whole = archive
    killer = Killer(tmp_path / "ray", "MapWorker")
    killer.start()
    classify_archive([images], settings, tmp_path / "ray", ray=True, num_workers=2, progress=False)
    assert killer.killed
    assert contents(tmp_path / "ray") == whole
    with pytest.raises(ValueError, match=r"scan 33\.png cannot be read"):
        classify_archive([images], replace(settings, strict=True), tmp_path / "strict", ray=True, progress=False)


def test_ray_is_asked_for_where_it_is_missing(archive, tmp_path, monkeypatch):
    images, settings, _ = archive
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--ray: expected Ray Data to be installed.*monai-diffclf\[ray\]"):
        classify_archive([images], settings, tmp_path / "ray", ray=True, progress=False)


@pytest.mark.slow
def test_workers_end_with_the_process_that_waits(archive, tmp_path):
    images, settings, whole = archive
    child = os.fork()
    if child == 0:
        try:
            classify_archive([images], settings, tmp_path / "two", num_processes=2, progress=False)
        finally:
            os._exit(0)
    while not list((tmp_path / "two").glob(".classify_*/blocks/*.zip")):
        time.sleep(0.01)
    workers = psutil.Process(child).children(recursive=True)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert workers and not psutil.wait_procs(workers, timeout=60)[1]
    classify_archive([images], settings, tmp_path / "two", progress=False)
    assert contents(tmp_path / "two") == whole
