"""What the server remembers of a picture: its pixels, what was read in it, and the score maps of the words that were asked."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

from maskwright.images import Picture
from maskwright.readings.reading import Reading
from maskwright.score_maps import ScoreMaps

MAPS = 32  # score maps of so many questions are kept for a picture


class StoredReading:
    """A picture and all that was worked out for it. Threads may add to it at the same time.

    Args:
        picture: the picture.

    Attributes:
        id: an unguessable name: who knows it may ask.
        readings: by number of the pass.
        expires: when it is dropped, by the cache's clock.
    """

    def __init__(self, picture: Picture) -> None:
        self.id = secrets.token_urlsafe(16)
        self.picture = picture
        self.readings: dict[int, Reading] = {}
        self.expires = 0.0
        self._maps: OrderedDict[Hashable, ScoreMaps] = OrderedDict()
        self._lock = threading.Lock()

    def maps(self, question: Hashable) -> ScoreMaps | None:
        """Score maps of a question that was asked before and is not forgotten."""
        with self._lock:
            if question in self._maps:
                self._maps.move_to_end(question)
            return self._maps.get(question)

    def remember(self, question: Hashable, maps: ScoreMaps) -> None:
        """Keeps score maps, and forgets those that were not looked at for longest."""
        with self._lock:
            self._maps[question] = maps
            while len(self._maps) > MAPS:
                self._maps.popitem(last=False)

    def bytes(self) -> int:
        """Memory that it holds."""
        with self._lock:
            maps = sum(one.maps.nbytes for one in self._maps.values())
        return self.picture.pixels.nbytes + maps + sum(reading.bytes() for reading in list(self.readings.values()))


class ReadingCache:
    """Stored readings, bounded in memory and time. It belongs to one thread, the event loop's.

    Args:
        limit: bytes of all readings together; those that were not used for longest go first. The last one stays, however large.
        ttl: seconds that a reading is kept after its last use.
        clock: gives the time in seconds.
        on_drop: told why a reading was dropped: "memory", "time" or "asked".
    """

    def __init__(
        self, *, limit: int, ttl: float, clock: Callable[[], float] = time.monotonic, on_drop: Callable[[str], None] = lambda why: None
    ) -> None:
        self.limit, self.ttl, self.clock = limit, ttl, clock
        self._on_drop = on_drop
        self._stored: OrderedDict[str, StoredReading] = OrderedDict()
        self._sizes: dict[str, int] = {}

    def __len__(self) -> int:
        """Readings that are kept."""
        return len(self._stored)

    @property
    def bytes(self) -> int:
        """Memory of all of them, as it was when each was last used."""
        return sum(self._sizes.values())

    def put(self, stored: StoredReading) -> None:
        """Keeps a reading."""
        self._stored[stored.id] = stored
        self.weigh(stored)

    def find(self, name: str) -> StoredReading | None:
        """A reading by its id, which keeps it for another while; None for one that is gone or never was."""
        self.sweep()
        stored = self._stored.get(name)
        if stored is not None:
            self._renew(stored)
        return stored

    def drop(self, name: str) -> bool:
        """Forgets a reading; whether it was there."""
        return self._drop(name, "asked")

    def weigh(self, stored: StoredReading) -> None:
        """Takes account of what a reading has grown by; one that was dropped in the meantime stays dropped."""
        if self._stored.get(stored.id) is not stored:
            return
        self._sizes[stored.id] = stored.bytes()
        self._renew(stored)
        self.sweep()
        while len(self._stored) > 1 and self.bytes > self.limit:
            self._drop(next(iter(self._stored)), "memory")

    def sweep(self) -> None:
        """Drops what nobody used for long; the order of use is the order of expiry."""
        now = self.clock()
        while self._stored and next(iter(self._stored.values())).expires <= now:
            self._drop(next(iter(self._stored)), "time")

    def clear(self) -> None:
        """Drops everything."""
        self._stored.clear()
        self._sizes.clear()

    def _renew(self, stored: StoredReading) -> None:
        stored.expires = self.clock() + self.ttl
        self._stored.move_to_end(stored.id)

    def _drop(self, name: str, why: str) -> bool:
        if self._stored.pop(name, None) is None:
            return False
        del self._sizes[name]
        self._on_drop(why)
        return True


def own_memory(reading: Reading) -> Reading:
    """The reading of one picture of a batch, apart from its neighbours: views would keep the memory of the whole batch."""
    return replace(
        reading,
        cross_layers=tuple(replace(layer, query=layer.query.clone()) for layer in reading.cross_layers),
        self_layers=tuple(replace(layer, query=layer.query.clone(), key=layer.key.clone()) for layer in reading.self_layers),
        folded={factor: (mean.clone(), grid, count) for factor, (mean, grid, count) in reading.folded.items()},
        features={name: values.clone() for name, values in reading.features.items()},
        outputs={name: values.clone() for name, values in reading.outputs.items()},
        denoiser=reading.denoiser and replace(reading.denoiser, latents=reading.denoiser.latents.clone()),
    )
