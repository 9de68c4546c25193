# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Folders of runs: where one goes that was not named, and what a training was started with."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..bundle import Bundle, open_bundle
from ..bundle.open_bundle import DECISION
from ..networks.model_description import read_model_note
from ..run.options import read_config
from ..run.run_bundle import settle
from ..storage.atomic_file import replace_text

__all__ = [
    "Started",
    "check_data",
    "check_outside",
    "check_settings",
    "decision_of",
    "keep_decision",
    "laid_over",
    "open_run",
    "run_folder",
    "run_seed",
    "run_settings",
]

_PACKAGE = Path(__file__).resolve().parents[1]
_STARTED, _EVALUATED = "started.json", "evaluated.json"
_OWN_FILES = {"train.json", "evaluate.json", "inference.json", "metadata.json"}


def run_folder(bundle: Path, run: str | os.PathLike[str] | None = None, *, seed: int = 0) -> Path:
    """The folder of a run: the one named, or ``runs/seed_S`` of the bundle.

    Of a bundle that is installed, or that may not be written to, it is ``runs/NAME/seed_S`` of the working folder.

    Args:
        bundle: folder of the bundle.
        run: the folder that was named, if one was.
        seed: seed of the training.

    Example:
        >>> run_folder(Path("scans"), "elsewhere/mine") == Path("elsewhere/mine").resolve()
        True
    """
    if run is not None:
        return Path(run).expanduser().resolve()
    installed = bundle.is_relative_to(_PACKAGE) or not os.access(bundle, os.W_OK)
    place = Path("runs") / bundle.name if installed else bundle / "runs"
    return (place / f"seed_{seed}").resolve()


def run_seed(run: Path) -> int:
    """The seed of the training in a folder, 0 where it holds none."""
    training = read_model_note(run / "model.pt").get("training") or {}
    return int(training.get("seed", 0))


def run_settings(bundle: Path, run: Path, *files: str) -> dict[str, Any]:
    """What a run's weights ask for where the bundle's configuration says something else: classes, size, network.

    Args:
        bundle: folder of the bundle.
        run: folder of a training.
        files: files of the bundle's ``configs``.

    Returns:
        plain values by their ids.
    """
    own, of_run = (open_bundle(bundle, *files, run=each).parser.get() for each in (None, run))
    return _differences(own, of_run)


@dataclass(frozen=True)
class Started:
    """What a training was started with, so that its evaluation needs not be told again.

    Args:
        data: the images; None for what the bundle's configuration says.
        settings: what was given by ``--set``, as it was typed.
        configs: names of the files that were laid over the bundle's own by ``--config``.
    """

    data: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    configs: Sequence[str] = ()

    def save(self, run: Path) -> None:
        """Write it into the run's folder."""
        replace_text(run / _STARTED, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def of(cls, run: Path) -> Started:
        """What a run's folder holds; nothing where it was not trained by this command.

        Raises:
            ValueError: when the file holds something else.
        """
        path = run / _STARTED
        if not path.is_file():
            return cls()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            data, settings, configs = found["data"], dict(found["settings"]), list(found.get("configs", []))
            if not all(isinstance(text, str) for text in (data or "", *settings, *settings.values(), *configs)):
                raise TypeError("expected texts")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"--run: cannot read {path} ({error}); move it away and give --data and --set") from error
        return cls(data, settings, tuple(configs))

    def of_inference(self, bundle: Path) -> dict[str, str]:
        """The settings that inference needs as well: of what the laid over files hold, as these are laid over it too.

        Raises:
            ValueError: when the bundle has no longer such a file.
        """
        paths = [bundle / "configs" / name for name in laid_over(bundle, self.configs, option="--run")]
        held = {key.split("#")[0] for path in paths for key in json.loads(path.read_text(encoding="utf-8"))}
        return {name: value for name, value in self.settings.items() if name.split("#")[0] in held}


def laid_over(bundle: Path, configs: Sequence[str], *, option: str = "--config") -> tuple[str, ...]:
    """Names of configuration files to lay over a bundle's own, each checked to be one of its ``configs``.

    Raises:
        ValueError: naming the first that is none, or that a command reads in any case.
    """
    known = {path.name for path in (bundle / "configs").glob("*.json")} - _OWN_FILES
    for name in configs:
        if name not in known:
            raise ValueError(
                f"{option}: expected a file of {bundle / 'configs'} to lay over, such as "
                f"{', '.join(sorted(known)) or 'none, as it has none'}, got {name}"
            )
    return tuple(configs)


def open_run(bundle: Path, files: Sequence[str], run: Path, **settings: Any) -> Bundle:
    """A bundle as a run's training was started and evaluated, with the run's weights where it holds some.

    Args:
        bundle: folder of the bundle.
        files: files of its ``configs``.
        run: folder of the run.
        settings: plain values by their ids, over those that the training was started with.
    """
    of_run = Started.of(run)
    files = [*files, *laid_over(bundle, of_run.configs, option="--run")]
    typed = {**of_run.settings, **_kept_decision(run)}
    given = settle(bundle, files, {}, typed, {}) if typed else {}
    weights = run if (run / "model.pt").is_file() else None
    return open_bundle(bundle, *files, run=weights, **{**given, "progress": False, **settings})


def keep_decision(run: Path, settings: Mapping[str, str]) -> None:
    """Write into a run's folder how the class was found in its evaluation, where ``--set`` said it.

    Args:
        run: the folder.
        settings: what was typed; others than rule, weighting and temperature are left out, and expressions, which a
            file is not to bring: of these `fit` says that it does not know them.
    """
    decision = {name: settings[name] for name in DECISION if _is_plain(settings.get(name))}
    replace_text(run / _EVALUATED, json.dumps(decision, indent=1) + "\n")


def _is_plain(text: Any) -> bool:
    """Whether a text is a name or a number, and no expression."""
    return isinstance(text, str) and re.fullmatch(r"\w+|[\d.eE+-]+", text) is not None


def decision_of(bundle: Path, files: Sequence[str], run: Path) -> dict[str, Any]:
    """How the class was found in a run's evaluation where the bundle's configuration says something else: plain values.

    Args:
        bundle: folder of the bundle.
        files: files of its ``configs``.
        run: folder of the run.

    Raises:
        ValueError: when the folder holds something else, or values that these settings do not have.
    """
    started = Started.of(run)
    typed = {name: value for name, value in started.settings.items() if name in DECISION} | _kept_decision(run)
    files = [*files, *laid_over(bundle, started.configs, option="--run")]
    settled = settle(bundle, files, {}, typed, {}) if typed else {}
    return {name: settled[name] for name in typed}


def _kept_decision(run: Path) -> dict[str, str]:
    """What `keep_decision` wrote; nothing where the run was not evaluated by this command."""
    path = run / _EVALUATED
    if not path.is_file():
        return {}
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        if not set(found) <= set(DECISION) or not all(map(_is_plain, found.values())):
            raise TypeError(f"expected names or numbers for some of {', '.join(DECISION)}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"--run: cannot read {path} ({error}); move it away and evaluate again") from error
    return found


def decides_by_errors(bundle: Bundle) -> bool:
    """Whether a bundle classifies by denoising errors, which can be stored and learned from.

    A network of logits does not, nor does one that decides by likelihood.
    """
    return "evaluate#inferer" in bundle.parser and hasattr(bundle.get("evaluate#inferer"), "compute_errors")


def check_decides_by_errors(bundle: Bundle, command: str) -> None:
    """Refuse a bundle that has no denoising errors to learn from or to show.

    Raises:
        ValueError: when it decides in another way.
    """
    if not decides_by_errors(bundle):
        raise ValueError(
            f"BUNDLE: expected one that classifies by denoising errors, which {command} works on, got "
            f"{bundle.root.name}, which does not; what its evaluation found is in results.json of the run"
        )


def check_outside(name: str, folder: Path, images: Path, said: str) -> None:
    """Refuse a folder among the images, whose pictures would be read as some of them.

    Args:
        name: the option that named it.
        folder: the folder.
        images: the folder of the images.
        said: what to call that in the message.
    """
    if images.is_dir() and folder.resolve().is_relative_to(images.resolve()):
        raise ValueError(f"{name}: expected a folder outside {said}, got {folder}; name another")


def check_settings(settings: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Refuse a ``--set`` of what has an option of its own.

    Raises:
        ValueError: naming the option.
    """
    for name, value in settings.items():
        if name in names:
            raise ValueError(f"--set {name}: expected an id that has no option of its own; write {names[name]} {value}")


def check_data(bundle: Path, files: Sequence[str], data: str | None) -> str | None:
    """The images as a whole path; refused where the bundle reads none.

    Raises:
        ValueError: when the bundle makes its own images, or there is nothing.
    """
    if data is None:
        return None
    config = read_config([bundle / "configs" / name for name in files])
    if not any(_reads_data(config.get(split)) for split in ("train", "validate", "test")):
        raise ValueError(f"--data: expected none, as the bundle {bundle.name} makes its own images; leave it out")
    path = Path(data).expanduser().resolve()
    if not path.exists():
        raise ValueError(f"--data: expected a folder or file of images, but there is no {data}")
    return str(path)


def _reads_data(split: Any) -> bool:
    """Whether the images of a split are read from the data set, and not made."""
    return isinstance(split, Mapping) and "@dataset_dir" in str(split.get("datalist"))


def _differences(before: Any, after: Any, name: str = "") -> dict[str, Any]:
    """Plain values of a nested configuration that are others, by their ids."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return {} if before == after else {name: after}
    found: dict[str, Any] = {}
    for key, value in after.items():
        found |= _differences(before.get(key), value, f"{name}#{key}" if name else str(key))
    return found
