"""The service behind all addresses: decodes, reads, remembers and answers, without blocking the event loop.

Threads. One thread owns the model (`batching.Batcher`): encoding pictures, passes, and whatever needs passes of its own. Pictures of
one size that wait for the same pass share it. `workers` further threads do the light work: decoding, scoring stored readings, bringing
maps to the picture's size, drawing, encoding. On a CPU of two cores the default of two workers keeps a decoder or an encoder running
beside the model's thread; more of them only take time from it. On a GPU the model's thread mostly waits for the device, so that
workers may be as many as there are cores. Everything else, the cache of readings included, belongs to the event loop.
"""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, cast

from maskwright.discovery.result import Discovery
from maskwright.images import Picture
from maskwright.projection import FloatMap
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.serve.batching import Batcher
from maskwright.serve.engine import Engine, load_engine
from maskwright.serve.metrics import Metrics
from maskwright.serve.options import DiscoverOptions, RegionOptions, SegmentOptions
from maskwright.serve.problems import Problem
from maskwright.serve.readings import ReadingCache, StoredReading
from maskwright.serve.settings import ServeSettings
from maskwright.serve.tasks import Discover, Read, Score, Task
from maskwright.serve.uploads import open_upload
from maskwright.vocabulary import COMMAS, Vocabulary

P = ParamSpec("P")
T = TypeVar("T")
Source = StoredReading | Picture
SWEEP = 10.0  # seconds between looks for readings that expired
SMOOTHING = 0.2  # weight of the newest batch in the mean time of a picture
LONGEST_WAIT = 60  # seconds that a refused client is told to wait at most


class Service:
    """Everything that the addresses of the server do.

    A `source` is a stored reading, or a picture, of which nothing is kept.

    Args:
        settings: of the server.
        engine: a loaded model; None loads the one of the settings in `start`.
        clock: gives the time in seconds, for the cache.

    Attributes:
        settings: of the server.
        metrics: what is counted.
        readings: what is remembered.
    """

    def __init__(self, settings: ServeSettings, engine: Engine | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.readings = ReadingCache(
            limit=settings.cache_bytes, ttl=settings.reading_ttl, clock=clock, on_drop=lambda why: self.metrics.dropped.labels(why).inc()
        )  # fmt: skip
        self._engine, self._batcher, self._pool = engine, cast(Batcher | None, None), cast(ThreadPoolExecutor | None, None)
        self._sweeper: asyncio.Task[None] | None = None
        self._closing, self._busy, self._pace = False, 0, 0.0
        self.metrics.watch("maskwright_queue_length", "Tasks that wait for the model.", lambda: len(self._batcher or ()))
        self.metrics.watch("maskwright_in_progress", "Requests that hold a slot.", lambda: self._busy)
        self.metrics.watch("maskwright_readings", "Stored readings.", lambda: len(self.readings))
        self.metrics.watch("maskwright_reading_bytes", "Memory of stored readings.", lambda: self.readings.bytes)

    @property
    def engine(self) -> Engine:
        """The loaded model.

        Raises:
            Problem: it is not loaded yet (503).
        """
        if self._engine is None:
            raise Problem(503, "loading", "the model is being loaded: ask again in a moment", headers={"Retry-After": "5"})
        return self._engine

    @property
    def is_loaded(self) -> bool:
        """Whether the model is."""
        return self._engine is not None

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self._engine is not None and self._batcher is not None and not self._closing

    async def start(self) -> None:
        """Loads the model, where none was given, and starts the threads.

        Raises:
            ModelError, SettingsError: a model, device or dtype that cannot be used.
        """
        self._pool = ThreadPoolExecutor(self.settings.workers, thread_name_prefix="maskwright-light")
        if self._engine is None:
            self._engine = await self.light(load_engine, self.settings)
        self._batcher = Batcher(self._run, chunk=self._engine.reader.batch if self.settings.batching else 1)
        self._closing, self._sweeper = False, asyncio.create_task(self._sweep())

    def close(self) -> None:
        """Refuses new requests from now on (503); those in progress are finished."""
        self._closing = True

    async def stop(self) -> None:
        """Ends the threads, after what they have to do, and forgets all readings."""
        self.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._batcher is not None:
            batcher, self._batcher = self._batcher, None
            await asyncio.to_thread(batcher.close)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown)
        self.readings.clear()

    def slot(self) -> contextlib.ExitStack:
        """A place in the queue, given back when the block ends.

        Raises:
            Problem: all are taken (429), or the server is closing (503).
        """
        if self._closing:
            raise self._refusal(503, "shutting_down", "the server is shutting down: ask again in a moment", 5)
        if self._busy >= self.settings.queue:
            wait = min(max(1, math.ceil(self._pace * len(self._batcher or ()))), LONGEST_WAIT)
            raise self._refusal(429, "busy", f"{self._busy} requests are in progress, which is all the server takes on: ask again", wait)
        self._busy += 1
        stack = contextlib.ExitStack()
        stack.callback(self._leave)
        return stack

    def vocabulary(self, labels: str | Sequence[str], background: str | None = None) -> Vocabulary:
        """Labels of a request.

        Raises:
            VocabularyError: labels that cannot be used.
            Problem: too many of them (413).
        """
        items = [item for item in COMMAS.split(labels) if item.strip()] if isinstance(labels, str) else list(labels)
        self._count(sum(1 + item.count("|") for item in items))
        return Vocabulary.parse(items, background=background)

    def scored_labels(self, labels: Vocabulary, options: SegmentOptions) -> Vocabulary:
        """The labels and the background word of the options: what is scored.

        Raises:
            SettingsError, VocabularyError: options or labels that cannot be used.
            Problem: too many labels (413).
        """
        scored = self.engine.labels(labels, options)
        self._count(sum(len(label.texts) for label in scored))
        return scored

    async def decode(self, data: bytes, name: str = "picture") -> Picture:
        """A picture from the bytes of its file. What it is, is told from them and never from its name.

        Args:
            data: of the file.
            name: what results call it.

        Raises:
            Problem: too many bytes or pixels (413).
            ImageError: not a picture, or a broken one.
        """
        if len(data) > self.settings.max_upload:
            raise Problem(413, "upload_too_large", f"the picture has more than {self.settings.max_upload:,} bytes: send a smaller one")
        return await self.light(open_upload, data, name, self.settings.max_pixels)

    async def upload(self, data: bytes, name: str = "picture") -> StoredReading:
        """Decodes a picture, reads it for the default method, and remembers it.

        Raises:
            Problem, MaskwrightError: as `decode`.
        """
        stored = StoredReading(await self.decode(data, name))
        await self._ensure(stored, self.engine.segment_passes(SegmentOptions()))
        self.readings.put(stored)
        return stored

    def find(self, reading_id: str) -> StoredReading:
        """A stored reading, kept for another while.

        Raises:
            Problem: it is not there (404).
        """
        stored = self.readings.find(reading_id)
        if stored is None:
            raise _unknown_reading()
        return stored

    def drop(self, reading_id: str) -> None:
        """Forgets a stored reading.

        Raises:
            Problem: it is not there (404).
        """
        if not self.readings.drop(reading_id):
            raise _unknown_reading()

    async def segment(self, source: Source, labels: Vocabulary, options: SegmentOptions = SegmentOptions()) -> Segmentation:  # noqa: B008
        """Segments by words; words, and thresholds, that were asked of a stored reading before are not computed again.

        Raises:
            MaskwrightError: labels or options that cannot be used.
        """
        stored, scored = _stored(source), self.scored_labels(labels, options)
        maps = await self._maps(stored, scored, options)
        result = await self.light(self.engine.segment, stored.picture, maps, scored, options)
        self.readings.weigh(stored)
        return result

    async def heat(self, source: Source, label: str, options: SegmentOptions = SegmentOptions()) -> FloatMap:  # noqa: B008
        """The score of one label at every pixel, (H, W) float32; -inf everywhere where the method rejects it.

        Raises:
            MaskwrightError: a label or options that cannot be used.
        """
        stored, labels = _stored(source), self.vocabulary([label])
        options = dataclasses.replace(options, background="none")
        maps = await self._maps(stored, labels, options)
        result = await self.light(self.engine.heat, stored.picture, maps, options)
        self.readings.weigh(stored)
        return result

    async def regions(self, source: Source, options: RegionOptions = RegionOptions()) -> Segmentation:  # noqa: B008
        """Finds regions, named by words where there are any.

        Raises:
            MaskwrightError: labels or options that cannot be used.
        """
        stored = _stored(source)
        await self._ensure(stored, self.engine.region_passes(options))
        result = await self.light(self.engine.regions, stored, options)
        self.readings.weigh(stored)
        return result

    async def discover(self, source: Source, options: DiscoverOptions = DiscoverOptions()) -> Discovery:  # noqa: B008
        """Finds the object, in a pass of its own under the words.

        Raises:
            MaskwrightError: labels or options that cannot be used.
        """
        picture, squash = _stored(source).picture, self.engine.discoverer(options).method.squash
        found = await self._model(Discover(options, self.engine.size(picture, squash=squash)), picture)
        return cast(Discovery, found)

    async def light(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Runs something that takes longer than a millisecond, but no pass of the model, in a worker."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*arguments, **named))

    def model_version(self, method: str | None = None) -> str:
        """"method@model@package"; None for the default method."""
        return self.engine.model_version(method)

    async def _maps(self, stored: StoredReading, labels: Vocabulary, options: SegmentOptions) -> ScoreMaps:
        """Score maps: remembered, or asked of the reading, or, in another prompting than shared, made in passes of their own."""
        question: Hashable = self.engine.question(labels, options)
        maps = stored.maps(question)
        if maps is None and options.prompting in (None, "shared"):
            await self._ensure(stored, self.engine.segment_passes(options))
            maps = await self.light(self.engine.ask, stored, labels, options)
        elif maps is None:
            squash = self.engine.segmenter(options).method.squash
            alike = dataclasses.replace(options, background="none", refine="none")  # what maps do not depend on splits no batch
            maps = cast(ScoreMaps, await self._model(Score(labels, alike, self.engine.size(stored.picture, squash=squash)), stored.picture))
        stored.remember(question, maps)
        return maps

    async def _ensure(self, stored: StoredReading, passes: Sequence[int]) -> None:
        """Makes the passes that a picture lacks."""
        for number in passes:
            if number not in stored.readings:
                squash = self.engine.passes[number].squash
                await self._model(Read(number, self.engine.size(stored.picture, squash=squash)), stored)

    async def _model(self, task: Task, payload: Any) -> Any:
        """Waits for the model's thread; who stops waiting in time takes the task with him."""
        if self._batcher is None:
            raise self._refusal(503, "shutting_down", "the server is not running", 5)
        return await asyncio.wrap_future(self._batcher.submit(task, payload))

    def _run(self, key: Hashable, payloads: Sequence[Any]) -> Sequence[Any]:
        """A batch, in the model's thread."""
        task, began = cast(Task, key), time.perf_counter()
        results = task.run(self.engine, payloads)
        seconds = time.perf_counter() - began
        self._pace += SMOOTHING * (seconds / len(payloads) - self._pace)
        self.metrics.batches.labels(task.kind).observe(len(payloads))
        self.metrics.passes.labels(task.kind).observe(seconds)
        return results

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self.readings.sweep()

    def _count(self, texts: int) -> None:
        if texts > self.settings.max_labels:
            message = f"{texts} labels and synonyms, over the limit of {self.settings.max_labels}: ask for them in several requests"
            raise Problem(413, "too_many_labels", message)

    def _leave(self) -> None:
        self._busy -= 1

    def _refusal(self, status: int, code: str, message: str, wait: int) -> Problem:
        self.metrics.refused.labels(code).inc()
        return Problem(status, code, message, headers={"Retry-After": str(wait)})


def _stored(source: Source) -> StoredReading:
    return source if isinstance(source, StoredReading) else StoredReading(source)


def _unknown_reading() -> Problem:
    message = "there is no such reading: it expired, made room for others or never was; upload the picture again"
    return Problem(404, "reading_unknown", message)
