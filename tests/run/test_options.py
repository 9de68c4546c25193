"""Options of the command line: unknown ones are refused, values are what was typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from monai_diffclf.run.command_line import command_line, read_command_line
from monai_diffclf.run.default_kinds import Kind, kind_of_default
from monai_diffclf.run.options import read_config, settle_options

CONFIG = {
    "imports": ["$import os"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/data'",
    "output_dir": "$os.path.join(@bundle_root, 'runs')",
    "journal_dir": None,
    "stopping": None,
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "amp": "$@device.type == 'cuda'",
    "classes": ["no", "yes"],
    "resize": True,
    "maps": True,
    "report": "@maps",
    "calibrated": False,
    "num_draws": 51,
    "temperature": 0.27,
    "rule": "mean",
    "name": "$'seed ' + str(@num_draws)",
    "inferer": {
        "_target_": "monai_diffclf.inferers.DiffusionClassifierInferer",
        "num_draws": "@num_draws",
        "rule": "@rule",
        "steps": [{"size": 3}],
    },
    "run": ["$@inferer"],
}
OTHER = {"seed": 0, "run": []}


@pytest.fixture
def settle(tmp_path: Path):
    """What is meant by some options of a bundle with two configurations."""
    (tmp_path / "inference.json").write_text(json.dumps(CONFIG))
    (tmp_path / "train.json").write_text(json.dumps(OTHER))

    def meant(*words: str):
        return settle_options(read_command_line(["--config_file", str(tmp_path / "inference.json"), *words]))

    return meant


UNKNOWN = {
    ("--num_draw", "5"): "--num_draw: no such option; did you mean --num_draws?",
    ("--datset_dir=x",): "--datset_dir: no such option; did you mean --dataset_dir?",
    ("--Rule", "vote"): "--Rule: no such option; did you mean --rule?",
    ("--seed", "3"): r"--seed: no such option \(train.json has it, inference.json has not\)",
    ("--nosuch",): "--nosuch: no such option",
    ("--inferer#num_drawz", "5"): "--inferer#num_drawz: no such option of inferer; did you mean --inferer#num_draws?",
    (
        "--inferer::tempratur",
        "5",
    ): "--inferer::tempratur: no such option of inferer; did you mean --inferer#temperature?",
    ("--inferer#rule", "vote"): "--inferer#rule: expected --rule, by which calibrations and other fits are looked up",
    ("--inferer::temperature", "1"): "--inferer::temperature: expected --temperature, by which",
    ("--inferrer#rule", "vote"): "--inferrer#rule: no such option; did you mean --inferer?",
    ("--inferer#steps#1#size", "4"): "--inferer#steps#1#size: no such option of inferer#steps",
    ("--num_draws", "5", "stray"): "stray: expected options such as --name value, got a word that belongs to none",
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_unknown_options_are_refused(settle, words):
    with pytest.raises(ValueError, match="^" + UNKNOWN[words]):
        settle(*words)


KNOWN = [
    ("--inferer#seed", "3"),  # not in the file, but taken by the component
    ("--inferer#steps#0#size", "4"),
    ("--run_id", "run", "--meta_file", "x.json", "--workflow_type", "infer"),
    ("run", "--num-draws", "5"),
    ("--stopping", "$monai_diffclf.classification.CurtailedVote()"),
    ("--num_draws", "$2 * 3"),
    ("--_meta_#version", "2"),
    ("--output_dir", "out", "--", "--trace"),
    ("--temperature", "1"),
    ("--classes", "['a','b','c']"),
    ("--classes", "a,b"),
]


@pytest.mark.parametrize("words", KNOWN, ids=str)
def test_known_options_are_left_as_they_are(settle, words):
    assert settle(*words) == {}


MEANT = {
    ("--resize", "no"): {"resize": False},
    ("--maps", "off"): {"maps": False},
    ("--report", "FALSE"): {"report": False},
    ("--calibrated", "yes"): {"calibrated": True},
    ("--amp", "true"): {"amp": True},
    ("--dataset_dir", "2024"): {"dataset_dir": "2024"},
    ("--dataset_dir", "1e5"): {"dataset_dir": "1e5"},
    ("--dataset_dir", "True"): {"dataset_dir": "True"},
    ("--dataset_dir", "a,b"): {"dataset_dir": "a,b"},
    ("--dataset_dir", "[x]"): {"dataset_dir": "[x]"},
    ("--dataset_dir=0x10",): {"dataset_dir": "0x10"},
    ("--dataset_dir", "a#b"): {"dataset_dir": "a#b"},  # python-fire drops what follows #
    ("--journal_dir", "5"): {"journal_dir": "5"},
    ("--rule", "1"): {"rule": "1"},
    ("--name", "'2024'"): {},  # quoted for python-fire
    ("--device", "cpu"): {"device": torch.device("cpu")},
    ("--device", "cpu:0"): {"device": torch.device("cpu:0")},
    ("--nomaps",): {},
    ("--journal_dir", "None"): {},
}


@pytest.mark.parametrize("words", MEANT, ids=str)
def test_values_are_what_was_typed(settle, words):
    assert settle(*words) == MEANT[words]


REFUSED = {
    ("--resize", "2"): "--resize: expected True or False, got 2",
    ("--resize", "maybe"): "--resize: expected True or False, got maybe",
    ("--num_draws", "many"): "--num_draws: expected a whole number, got many",
    ("--num_draws", "5.5"): "--num_draws: expected a whole number, got 5.5",
    ("--num_draws", "True"): "--num_draws: expected a whole number, got True",
    ("--temperature", "warm"): "--temperature: expected a number, got warm",
    ("--classes", "no"): r"""--classes: expected a list, got no; write it as --classes "\['no', 'yes'\]\"""",
    ("--classes", "['$x','b']"): r"--classes: expected a list, but \$x begins with \$",
    ("--dataset_dir", "$evil"): r"--dataset_dir: expected a path, but \$evil begins with \$.*write \./\$evil",
    ("--dataset_dir", "@output_dir"): "--dataset_dir: expected a path, but @output_dir begins with @",
    ("--output_dir", "%x"): "--output_dir: expected a path, but %x begins with %",
    ("--journal_dir", "$x"): r"--journal_dir: expected a path, but \$x begins with \$",
    ("--rule", "$x"): r"--rule: expected a text, but \$x begins with \$",
    ("--dataset_dir",): "--dataset_dir: expected a path, got no value; a name that begins with - is written ./-name",
    ("--dataset_dir", "-a"): "--dataset_dir: expected a path, got no value",
    ("--dataset_dir", ""): "--dataset_dir: expected a path, got an empty text; for the current folder write .",
    ("--dataset_dir", "None"): "--dataset_dir: expected a path, got None, which MONAI takes for not given",
    ("--num_draws", "None"): "--num_draws: expected a whole number, got None",
    ("--device", "gpu"): "--device: expected a device of this machine, such as cpu or cuda:0, got gpu",
    ("--device", "cuda:99"): "--device: expected a device of this machine, such as cpu or cuda:0, got cuda:99",
    ("--device", "meta"): "--device: expected a device of this machine, such as cpu or cuda:0, got meta",
    ("--inferer#steps", "3"): "--inferer#steps: expected a list, got 3",
}


@pytest.mark.parametrize("words", REFUSED, ids=str)
def test_other_values_are_refused(settle, words):
    with pytest.raises(ValueError, match="^" + REFUSED[words]):
        settle(*words)


def test_options_of_a_file(settle, tmp_path):
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"resize": "no", "output_dir": "$'code of a file'", "num_draws": 3}))
    assert settle("--args_file", str(arguments)) == {"resize": False}
    assert settle("--args_file", str(arguments), "--resize", "yes") == {"resize": True}
    arguments.write_text(json.dumps({"num_draw": 3}))
    with pytest.raises(ValueError, match="^--num_draw: no such option; did you mean --num_draws"):
        settle("--args_file", str(arguments))


def test_the_last_of_two_counts():
    assert read_command_line(["--num_draws", "5", "--num_draws=7"]).value("num_draws") == 7


def test_several_files_are_one_configuration(tmp_path):
    (tmp_path / "a.json").write_text('{"x": 1, "y": 1}')
    (tmp_path / "b.json").write_text('{"y": 2}')
    line = read_command_line(["--config_file", f"['{tmp_path}/a.json','{tmp_path}/b.json']", "--x", "2", "--y", "no"])
    assert read_config(line.value("config_file")) == {"x": 1, "y": 2}
    with pytest.raises(ValueError, match="--y: expected a whole number, got no"):
        settle_options(line)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "inference.json").write_text('{"a": 1,}')
    with pytest.raises(ValueError, match=r"inference.json is no JSON: line 1: "):
        read_config(tmp_path / "inference.json")
    with pytest.raises(ValueError, match="there is no .*inferense.json; did you mean inference.json"):
        read_config(str(tmp_path / "inferense.json"))
    with pytest.raises(ValueError, match="--config_file: expected a configuration file"):
        read_config(None)


def test_code_that_uses_a_configuration_has_no_command_line():
    assert command_line() is None


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(Path("bundles").glob("*/configs/*.json")) if p.name in ("train.json", "inference.json")],
    ids=str,
)
def test_defaults_of_the_bundles_are_of_their_own_kind(path):
    """What is shipped passes the check that it makes of others."""
    config = read_config(path)
    for name, value in config.items():
        kind = kind_of_default(config, name)
        wanted = {bool: Kind.YES_OR_NO, int: Kind.WHOLE_NUMBER, float: Kind.NUMBER, list: Kind.LIST}.get(type(value))
        assert wanted in (None, kind)
        if name.endswith(("_dir", "_path")) or name == "checkpoint":
            assert kind is Kind.PATH, name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--final_id", "x"], "--final_id: expected the name of a part of the configuration, got x, such as run"),
        (["--run_id", "runn"], r"--run_id: expected .*, got runn; did you mean run\?"),
        (["--num_draws", "0"], "--num_draws: expected 1 or more, got 0"),
        (["--num_draws", "-3"], "--num_draws: expected 1 or more, got -3"),
    ],
)
def test_what_would_run_nothing_is_refused(settle, words, said):
    with pytest.raises(ValueError, match=said):
        settle(*words)
    settle("--run_id", "run", "--num_draws", "1")
