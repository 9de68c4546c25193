# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One inference at a time, off the server's event loop, with a bounded queue and a time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import HTTPException
from torch import nn

__all__ = ["InferenceQueue", "Job", "JobStopped", "stoppable"]

T = TypeVar("T")

POLL = 0.25  # seconds between two looks at whether the client is still there


class JobStopped(RuntimeError):
    """The work is not wanted any more: its time is over, its client has gone, or the server ends."""


class Job:
    """What the one who works asks whether to go on.

    Example:
        >>> job = Job()
        >>> job.check()
        >>> job.stop()
        >>> job.check()
        Traceback (most recent call last):
            ...
        monai_diffclf.monailabel.inference_queue.JobStopped: stopped
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask the one who works to stop at the next check."""
        self._stopped.set()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            JobStopped: when the work is not wanted any more.
        """
        if self._stopped.is_set():
            raise JobStopped("stopped")


@contextmanager
def stoppable(network: nn.Module, job: Job) -> Iterator[None]:
    """A network that checks the job before each of its calls, so that a long inference ends soon after its stop."""
    handle = network.register_forward_pre_hook(lambda module, arguments: job.check())
    try:
        yield
    finally:
        handle.remove()


class InferenceQueue:
    """Work for one thread.

    Args:
        max_waiting: requests that may wait while another is served.
        max_seconds: time for a request, waiting included.
    """

    def __init__(self, max_waiting: int, max_seconds: float) -> None:
        self.max_waiting, self.max_seconds = max_waiting, max_seconds
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()

    def submit(self, work: Callable[[Job], T]) -> tuple[Job, Future[T]]:
        """Put work behind that which waits, whatever the bound: for the server's own work, which waits for its end."""
        job = Job()
        with self._lock:
            self._jobs.add(job)
        future = self._executor.submit(self._work, job, work)
        future.add_done_callback(lambda _: self._forget(job))
        return job, future

    async def run(self, work: Callable[[Job], T], is_gone: Callable[[], Awaitable[bool]]) -> T:
        """Do a client's work, and wait for it without keeping others waiting.

        Args:
            work: gets the job, which it checks from time to time.
            is_gone: whether the client has gone.

        Raises:
            HTTPException: 503 when too many wait, 504 when the time is over.
        """
        if len(self._jobs) > self.max_waiting:
            reason = f"busy: {self.max_waiting} inferences wait already; try again later"
            raise HTTPException(503, reason, {"Retry-After": "10"})
        start = time.monotonic()
        job, future = self.submit(work)
        waiting = asyncio.wrap_future(future)
        try:
            while not waiting.done():
                left = self.max_seconds - (time.monotonic() - start)
                if left <= 0:
                    raise HTTPException(504, f"time: the inference took longer than {self.max_seconds:g} s")
                if await is_gone():
                    raise HTTPException(499, "client: gone before the inference ended")
                await asyncio.wait({waiting}, timeout=min(left, POLL))
            return waiting.result()
        finally:
            # Not awaited: the thread ends by itself at its next check, and the answer need not wait for that.
            job.stop()
            future.cancel()

    def close(self) -> None:
        """Stop all work; nothing can be submitted any more."""
        with self._lock:
            for job in self._jobs:
                job.stop()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.discard(job)

    @staticmethod
    def _work(job: Job, work: Callable[[Job], Any]) -> Any:
        job.check()
        return work(job)
