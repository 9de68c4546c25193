"""How a command ends: exit code and one line."""

from __future__ import annotations

import errno
import logging
import re
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset

from monai_diffclf._command_end import FAULT, REFUSED, describe, end_in_one_line, one_line
from monai_diffclf.storage.errors_file import load_errors


def raised(action) -> Exception:
    with pytest.raises(Exception) as caught:
        action()
    return caught.value


def fail(item):
    try:
        raise OSError("cut")
    except OSError as error:
        raise ValueError(f"{item}: cannot be read\nas an image") from error


def parse(**config):
    return ConfigParser({"imports": ["$import monai_diffclf.storage.errors_file"], **config}).get_parsed_content("x")


CASES = {
    "ours within MONAI's": (
        lambda: parse(y="$import monai_diffclf", x="$monai_diffclf.storage.errors_file.load_errors('no.npz')"),
        REFUSED,
        "error: path: expected a file written by",
    ),
    "an argument that a component does not have": (
        lambda: parse(x={"_target_": "monai.networks.nets.resnet18", "num_clases": 3}),
        REFUSED,
        "unexpected keyword argument 'num_clases'",
    ),
    "an expression that fails": (lambda: parse(x="$nothing + 1"), REFUSED, "NameError: name 'nothing' is not defined"),
    "a reference to nothing": (lambda: parse(x="@y"), REFUSED, "the referring item `@y` is not defined"),
    "a transform": (
        lambda: Dataset(["a.png"], transform=fail)[0],
        REFUSED,
        "error: a.png: cannot be read as an image",
    ),
    "a transform in a worker": (
        lambda: next(iter(DataLoader(Dataset(["a.png"], transform=fail), num_workers=1))),
        REFUSED,
        "error: a.png: cannot be read",
    ),
    "a file": (lambda: Path("/no/such/file").read_text(), REFUSED, "error: /no/such/file: No such file or directory"),
    "a full disk": (
        lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device", "a.csv")),
        REFUSED,
        "error: a.csv: No space left on device; make room, and run the same command again",
    ),
    "memory": (lambda: torch.empty(10**15), REFUSED, "error: out of memory"),
    "a fault": (lambda: [][1], FAULT, "error: a fault of this software, please report it .*IndexError"),
}


@pytest.mark.parametrize("case", CASES)
def test_exit_code_and_line(case, tmp_path):
    action, code, words = CASES[case]
    got_code, line = describe(raised(action))
    assert got_code == code, line
    assert "\n" not in line
    assert re.search(words, line), line


def test_names_cannot_steer_the_terminal():
    assert one_line("a\x1b[2J\r\nb\u202ec") == "a\\x1b[2J b\\u202ec"


@pytest.fixture
def hook(monkeypatch):
    """The hook, taken away again, with what it does to log messages."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    make = logging.getLogRecordFactory()
    yield lambda **settings: (end_in_one_line(**settings), sys.excepthook)[1]
    logging.setLogRecordFactory(make)


def end(hook, error):
    with pytest.raises(SystemExit) as ended:
        hook(type(error), error, error.__traceback__)
    return ended.value.code


def test_what_the_user_can_mend_is_one_line(hook, capsys):
    code = end(hook(), raised(lambda: load_errors("no.npz")))
    (line,) = capsys.readouterr().err.splitlines()
    assert code == REFUSED and line.startswith("error: path: expected")


def test_the_traceback_of_a_fault_is_in_a_file(hook, capsys):
    code = end(hook(), raised(lambda: [][1]))
    lines = capsys.readouterr().err.splitlines()
    assert code == FAULT and lines[-1].startswith("error: a fault of this software") and len(lines) == 2
    with open(lines[-2].removeprefix("traceback: "), encoding="utf-8") as file:
        assert "Traceback (most recent call last)" in file.read()


def test_debug_shows_the_traceback(hook, capsys):
    assert end(hook(debug=True), raised(lambda: load_errors("no.npz"))) == REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: path: expected") and "Traceback (most recent call last):" in lines


def test_a_command_that_is_stopped(hook, capsys):
    assert end(hook(), KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped; run the same command again to go on\n"


def test_log_messages_have_no_tracebacks(hook, caplog):
    """Of loggers that are made later too, and where the traceback is in the message, as that of a worker."""
    hook()
    logger = logging.getLogger("made later")
    try:
        raise ValueError("Caught ValueError in worker 0.\nOriginal Traceback (most recent call last):\n  File x")
    except ValueError as error:
        logger.exception(f"Exception: {error}")
        logger.error("Terminating: %s", error)
    logger.info("%d of %d", 1, 2)
    assert caplog.messages[:2] == [
        "Exception: Caught ValueError in worker 0.",
        "Terminating: Caught ValueError in worker 0.",
    ]
    assert "Traceback" not in caplog.text
