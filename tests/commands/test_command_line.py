"""The command line as a whole: help, exit codes, one line for an error, JSON alone on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from monai_diffclf import __version__
from monai_diffclf.commands import COMMANDS, cli, group, main, results
from monai_diffclf.commands.options import read_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def commands(monkeypatch):
    """Puts a function in the place of the command replay."""

    def put(function):
        command = click.command("replay")(results.command_options(function))
        monkeypatch.setattr(group.importlib, "import_module", lambda name: type("module", (), {"command": command}))

    return put


def ended(capsys, *words) -> tuple[int, str, str]:
    code = main(words)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_help_needs_no_torch():
    code = "import sys; from monai_diffclf.commands import main; main(['--help']); print('torch' in sys.modules)"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert time.monotonic() - start < 10  # a fraction of a second where nothing else runs


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    code, out, _ = ended(capsys, name, "--help")
    assert code == 0 and out.startswith(f"Usage: monai-diffclf {name} ")
    assert all(option in out for option in ("--json", "--debug", "--no-progress"))
    assert cli.get_command(click.Context(cli), name).name == name


def test_no_words_are_a_call_for_help(capsys):
    assert ended(capsys)[1] == ended(capsys, "--help")[1]
    assert __version__ in ended(capsys, "--version")[1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "error: trian: no such command; did you mean train?"),
        (["xyz"], "error: xyz: no such command; monai-diffclf --help lists them"),
        (["--jsn"], "error: --jsn: no such option; monai-diffclf --help lists them"),
        (["replay", "--Alpha", "1"], "error: --Alpha: no such option; did you mean --alpha?"),
        (["replay", "--xyz"], "error: --xyz: no such option; monai-diffclf replay --help lists them"),
        (["fit", "x", "--pool", "mean"], "error: --pool: expected it with --cascade, which it is about"),
        (["fit", "x", "--max-loss", "0.1"], "error: --max-loss: expected it with --cascade, which it is about"),
        (["replay"], "error: ERRORS: not given; expected monai-diffclf replay [OPTIONS] ERRORS"),
        (["replay", "/no/such"], "error: ERRORS: File '/no/such' does not exist."),
        (["replay", __file__, "--orders", "x"], "error: --orders: 'x' is not a valid integer range."),
        (["replay", __file__, "--orders", "0"], "error: --orders: 0 is not in the range x>=1."),
    ],
)
def test_what_is_wrong_with_a_line_is_told_in_one(words, line, capsys):
    assert ended(capsys, *words) == (2, "", line + "\n")
    if words[0] in COMMANDS:
        code, out, err = ended(capsys, *words, "--json")
        assert (code, err) == (2, line + "\n")
        assert json.loads(out) == {"error": line.removeprefix("error: "), "exit_code": 2}


def test_stdout_is_for_the_result(commands, capsys):
    def function(progress, debug):
        print("on the way")
        results.finish({"path": "a b.html", "seen": [progress, debug]}, "found\na b.html")

    commands(function)
    assert ended(capsys, "replay") == (0, "found\na b.html\n", "on the way\n")
    code, out, err = ended(capsys, "replay", "--json", "--no-progress")
    assert (code, json.loads(out), err) == (0, {"path": "a b.html", "seen": [False, False]}, "on the way\n")


def raiser(error):
    def function(progress, debug):
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("--data: expected a folder,\n got\x1b[2J x"), 2, "error: --data: expected a folder, got\\x1b[2J x"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 2, "error: a.png: No such file or directory"),
        (IndexError("out of range"), 1, "error: a fault of this software, please report it with the traceback: Ind"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to go on"),
    ],
)
def test_errors_end_in_one_line(commands, capsys, error, code, line):
    commands(raiser(error))
    got, out, err = ended(capsys, "replay")
    assert (got, out) == (code, "") and err.splitlines()[-1].startswith(line)
    told = [text.removeprefix("traceback: ") for text in err.splitlines()[:-1]]
    assert len(told) == (1 if code == 1 else 0)
    for path in told:
        assert type(error).__name__ in Path(path).read_text(encoding="utf-8")
        Path(path).unlink()
    _, out, _ = ended(capsys, "replay", "--json")
    assert json.loads(out)["exit_code"] == code and json.loads(out)["error"].startswith(line.removeprefix("error: "))


def test_debug_shows_the_traceback(commands, capsys):
    commands(raiser(ValueError("wrong")))
    code, out, err = ended(capsys, "replay", "--debug")
    assert (code, out) == (2, "") and err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1] == "error: wrong"


def test_a_line_that_was_told_is_told_once(commands, capsys):
    commands(raiser(SystemExit(1)))
    assert ended(capsys, "replay") == (1, "", "")


def test_ctrl_c_ends_a_process_as_documented(tmp_path):
    code = (
        "import os, signal, sys; from monai_diffclf.commands import group, main, results; import click\n"
        # A shell starts its background jobs with this signal ignored, and so would the tests be.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def stop(progress, debug): os.kill(os.getpid(), signal.SIGINT)\n"
        "command = click.command('replay')(results.command_options(stop))\n"
        "group.importlib.import_module = lambda name: type('module', (), {'command': command})\n"
        "sys.exit(main(['replay']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "stopped; run the same command again to go on\n"


def test_settings_are_read_as_typed():
    assert read_settings(["a#b=1", " data =x=y", "c="]) == {"a#b": "1", "data": "x=y", "c": ""}
    assert read_settings(["train::batch=2"]) == {"train#batch": "2"}
    for wrong in ("batch_size", "=3"):
        with pytest.raises(ValueError, match=f"--set: expected ID=VALUE, such as batch_size=16, got {wrong}"):
            read_settings([wrong])
    with pytest.raises(ValueError, match="--set: a is given twice, as 1 and 2"):
        read_settings(["a=1", "a=2"])
