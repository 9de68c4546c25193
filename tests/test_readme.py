"""README and docs: their code runs, what it prints is what they say, and their links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md")] if path.is_file()
)


def code_of(path: Path, language: str = "python") -> list[str]:
    """The blocks of code of a document in one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What ``#...`` may name in a document: its headings, as GitHub writes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_stranger_finishes_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    assert "./demo.sh" in text and "./runtests.sh" in text and "Not a medical device" in text


def test_readme_prints_what_it_says() -> None:
    (code,), (said,) = code_of(README), code_of(README, "text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})  # noqa: S102
    assert printed.getvalue() == said


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_of_the_docs_runs() -> None:
    def block(name: str) -> str:
        (code,) = code_of(ROOT / "docs" / name)
        return code.replace("num_draws=51", "num_draws=3").replace("num_draws=501", "num_draws=5")

    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(block("in-python.md"), names)  # noqa: S102
    assert names["probabilities"].shape == (4, 2) and names["maps"].shape == (4, 2, 32, 32)
    exec(block("fewer-draws.md"), names)  # noqa: S102
    assert names["result"].decided.all() and names["result"].network_evaluations.max() <= 10
    with torch.inference_mode():
        known = torch.rand(40, 1, 32, 32)
        validation = names["inferer"].classify(known, names["network"], error_maps=True)
    names |= {"validation": validation, "validation_images": known, "labels": torch.arange(40) % 2}
    exec(block("uncertainty-and-maps.md").replace("(scheduler)", "(scheduler, num_steps=2)"), names)  # noqa: S102
    assert names["probabilities"].shape == (4, 2) and names["sets"].any(1).all()
    assert names["pairs"].counterfactual.shape == (4, 1, 32, 32)
    exec(block("likelihood.md"), names)  # noqa: S102
    assert names["log_likelihood"].shape == names["posterior"].shape == (4, 2)
    assert names["ratio_maps"].shape == (4, 2, 32, 32) and names["denoising"].rule == "vote"


@pytest.mark.parametrize("name", ["in-python.md", "likelihood.md"])
def test_untrained_networks_are_called_so(name: str) -> None:
    (code,) = code_of(ROOT / "docs" / name)
    assert re.search(r"not trained: load your weights", code, re.IGNORECASE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name}: {link}"
        assert target.is_relative_to(ROOT), f"{path.name}: {link} leads out of the project"
        assert not anchor or anchor in anchors(target), f"{path.name}: {link}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        assert re.match(r"[a-z]+:", link) or (path.parent / link.partition("#")[0]).exists(), link


def test_index_lists_all_guides() -> None:
    index = ROOT / "docs" / "README.md"
    listed = set(re.findall(r"\]\(([\w-]+\.(?:md|html))\)", index.read_text(encoding="utf-8")))
    assert listed == {path.name for path in index.parent.iterdir() if path.is_file()} - {index.name}
