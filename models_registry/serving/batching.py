"""Many concurrent requests, one ``predict``.

What has arrived by the time the loop comes round goes into one call: with one client that is one row and no wait, with
64 clients about 64 rows. A model that takes long computes in a thread, so that health checks are answered meanwhile,
and what arrives during a call makes the next batch.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import time
from typing import Any, Callable, Dict, List, Tuple

from .flavors import Model, Rows, split

INLINE_S = 0.005  # a call that takes longer than this leaves the loop
MAX_ROWS = 4096

# error is None with the answers, or the exception with an empty list.
Done = Callable[[List[Any], Any], None]
Item = Tuple[Rows, Done]
Group = Tuple[str, str, int]


class Batcher:
    """Collects checked rows and answers through callbacks, all on the loop's thread."""

    def __init__(self, model: Model, loop: asyncio.AbstractEventLoop) -> None:
        self.model = model
        self.loop = loop
        self.pending: Dict[Group, List[Item]] = {}
        self.scheduled = False
        self.busy = False
        self.cost = 0.0  # seconds per call, a moving average
        self.calls = 0
        self.largest = 0
        self.thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="predict")

    def submit(self, method: str, rows: Rows, done: Done) -> None:
        self.pending.setdefault((method, rows.kind, rows.columns), []).append((rows, done))
        if not self.scheduled and not self.busy:
            self.scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.scheduled = False
        while self.pending and not self.busy:
            group = next(iter(self.pending))
            waiting = self.pending[group]
            taken, size = 0, 0
            while taken < len(waiting) and (not taken or size + waiting[taken][0].size <= MAX_ROWS):
                size += waiting[taken][0].size
                taken += 1
            batch = waiting[:taken]
            if taken == len(waiting):
                del self.pending[group]
            else:
                self.pending[group] = waiting[taken:]
            self.largest = max(self.largest, size)
            if self.cost < INLINE_S and size <= 512:
                self._deliver(batch, self._compute(group, batch))
            else:
                self.busy = True
                future = self.loop.run_in_executor(self.thread, self._compute, group, batch)
                future.add_done_callback(functools.partial(self._computed, batch))

    def _computed(self, batch: List[Item], future: Any) -> None:
        self.busy = False
        self._deliver(batch, future.result())
        self._flush()

    @staticmethod
    def _deliver(batch: List[Item], results: List[Tuple[List[Any], Any]]) -> None:
        for (_rows, done), (answers, error) in zip(batch, results):
            done(answers, error)

    def _compute(self, group: Group, batch: List[Item]) -> List[Tuple[List[Any], Any]]:
        """The answers of each request of the batch. One bad request never spoils those that it travels with."""
        method, kind, _columns = group
        begun = time.perf_counter()
        try:
            if len(batch) == 1:
                results: List[Tuple[List[Any], Any]] = [(self.model.predict(method, kind, batch[0][0].values), None)]
                split(results[0][0], [batch[0][0].size])
            else:
                answers = self.model.predict(method, kind, self._join(kind, [rows for rows, _ in batch]))
                results = [(answers[a:b], None) for a, b in split(answers, [rows.size for rows, _ in batch])]
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the caller turns it into an answer
            if len(batch) == 1:
                return [([], error)]
            return [self._compute(group, [item])[0] for item in batch]
        spent = time.perf_counter() - begun
        # Quick to see that a model is slow, slow to believe that it has become quick.
        self.cost = spent if not self.calls else self.cost + (spent - self.cost) * (0.3 if spent > self.cost else 0.1)
        self.calls += 1
        return results

    def _join(self, kind: str, parts: List[Rows]) -> Any:
        if kind == "texts":
            return [text for part in parts for text in part.values]
        return self.model.numpy.concatenate([part.values for part in parts])
