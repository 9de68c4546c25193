# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Scoring beside the requests, in the server's own process.

MONAI Label starts a process for it that looks for code in folders that a request can name.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from datetime import datetime
from typing import Any

from .inference_queue import JobStopped

__all__ = ["ScoringJob"]

logger = logging.getLogger(__name__)


class ScoringJob:
    """At most one scoring at a time; its state in the form in which MONAI Label's clients know it.

    Args:
        score: scores the images; gets what says whether to go on.
    """

    def __init__(self, score: Callable[[Callable[[], bool]], dict[str, Any]]) -> None:
        self._score = score
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._task: dict[str, Any] | None = None

    def start(self) -> dict[str, Any]:
        """Start scoring, unless it runs already."""
        with self._lock:
            if self._task and self._task["status"] == "RUNNING":
                return dict(self._task)
            self._stop = stop = threading.Event()
            self._task = task = {
                "id": str(uuid.uuid4()),
                "status": "RUNNING",
                "request": {"method": "uncertainty"},
                "start_ts": _now(),
            }
        # The process need not wait for it at its end: what was scored is stored.
        threading.Thread(target=self._run, args=(task, stop), name="scoring", daemon=True).start()
        return dict(task)

    def stop(self) -> dict[str, Any] | None:
        """Stop after the present image."""
        self._stop.set()
        return self.state()

    def state(self) -> dict[str, Any] | None:
        """The last scoring; None if there was none."""
        with self._lock:
            return dict(self._task) if self._task else None

    def _run(self, task: dict[str, Any], stop: threading.Event) -> None:
        details: list[Any] = []
        try:
            details.append(self._score(lambda: not stop.is_set()))
            status = "STOPPED" if stop.is_set() else "DONE"
        except (JobStopped, CancelledError):
            status = "STOPPED"
        except Exception:
            logger.exception("scoring failed")
            status = "ERROR"
        with self._lock:
            task.update(status=status, details=details, end_ts=_now())


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
