"""docs/commands.md says what ``--help`` says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from monai_diffclf.commands import COMMANDS, cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
COMMON = {"--json", "--debug", "--no-progress", "--help"}
# What a page of its own, or --help, explains.
ELSEWHERE = {"new-bundle", "classify", "report"}


def sections() -> dict[str, str]:
    part = PAGE.split("<!-- commands:")[1].split("<!-- end of commands -->")[0]
    return {text.split("\n", 1)[0].strip(): text for text in re.split(r"^## ", part, flags=re.M)[1:]}


def test_every_command_has_a_section_in_the_order_of_help():
    assert list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ELSEWHERE])
def test_options_are_those_of_the_command(name):
    command = cli.get_command(click.Context(cli), name)
    options = {each.opts[0] for each in command.params if isinstance(each, click.Option)} - COMMON
    listed = re.findall(r"`(--[\w-]+)`", sections()[name])
    assert set(listed) >= options
    assert set(listed) - options <= {"--data", "--set"}


def test_common_options_are_listed():
    table = PAGE.split("## All commands")[1].split("##")[0]
    assert set(re.findall(r"^\| `(--[\w-]+)`", table, flags=re.M)) == COMMON


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_begins_its_help_with(name):
    command = cli.get_command(click.Context(cli), name)
    assert command.help and all(each.help for each in command.params if isinstance(each, click.Option))
    assert COMMANDS[name][1].endswith(".") and len(COMMANDS[name][1]) < 75
