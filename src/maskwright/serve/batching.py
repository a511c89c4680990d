"""One thread owns the model; what waits for it and fits together goes through it together."""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[Hashable, Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Job:
    """One piece of work.

    Attributes:
        key: jobs of equal keys may be done together.
        payload: what to work on.
        future: where the result goes; cancelled, the job is not begun.
    """

    key: Hashable
    payload: Any
    future: "Future[Any]" = field(default_factory=Future)


class Batcher:
    """Does jobs in one thread, the oldest first, together with as many of those that wait and have its key as fit.

    Nothing waits for company: while one batch runs the next one gathers by itself. An idle server answers at once, and the busier it
    is, the fuller its batches are.

    Args:
        run: does a batch: from a key and payloads to one result for each.
        chunk: the most jobs in a batch.
    """

    def __init__(self, run: Run, *, chunk: int) -> None:
        self._run, self._chunk = run, chunk
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="maskwright-model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    def submit(self, key: Hashable, payload: Any) -> "Future[Any]":
        """Queues a job.

        Raises:
            RuntimeError: the batcher was closed.
        """
        job = Job(key, payload)
        with self._changed:
            if self._closing:
                raise RuntimeError("this batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Does what still waits, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take():
            self._do(batch)

    def _take(self) -> list[Job]:
        """The next batch, of jobs that nobody can cancel any more; empty when the batcher is closed and nothing waits."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closing)
                if not self._jobs:
                    return []
                key = self._jobs[0].key
                batch = [job for job in self._jobs if job.key == key][: self._chunk]
                taken = set(map(id, batch))
                self._jobs = deque(job for job in self._jobs if id(job) not in taken)
            if batch := [job for job in batch if job.future.set_running_or_notify_cancel()]:
                return batch

    def _do(self, batch: Sequence[Job]) -> None:
        """Runs a batch. Where it fails each job is tried alone, so that none suffers for its neighbours."""
        try:
            results = self._run(batch[0].key, [job.payload for job in batch])
        except Exception as error:  # noqa: BLE001 - whatever goes wrong belongs to whoever waits for it
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for job in batch:
                self._do([job])
            return
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)
