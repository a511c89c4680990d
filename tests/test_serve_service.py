"""The service without its addresses: what is read, shared, remembered and forgotten, and in which thread."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.discovery.discoverer import Discoverer
from maskwright.errors import SettingsError, VocabularyError
from maskwright.grouping import Grouper
from maskwright.images import Picture
from maskwright.methods import READ_ONCE, REGION_METHODS
from maskwright.segmenter import Segmenter
from maskwright.serve.batching import Batcher
from maskwright.serve.options import DiscoverOptions, RegionOptions, SegmentOptions
from maskwright.serve.problems import Problem
from maskwright.serve.readings import ReadingCache, StoredReading
from maskwright.serve.service import Service
from maskwright.serve.settings import ServeSettings, parse_bytes
from maskwright.serve.uploads import clean_name
from maskwright.vocabulary import Vocabulary
from tests.serving import make_service, png, tiny
from tests.tiny import Passes, pixels

WORDS = Vocabulary.parse("dog, cat|owl, grass")


class Clock:
    """Time that tests tell."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def during(work: Callable[[Service], Awaitable[Any]], service: Service | None = None, **settings: Any) -> Any:
    """What a coroutine returns while a service runs."""
    served = make_service(**settings) if service is None else service

    async def whole() -> Any:
        await served.start()
        try:
            return await work(served)
        finally:
            await served.stop()

    return asyncio.run(whole())


class TestPasses:
    def test_methods_with_compatible_probes_share_a_pass(self) -> None:
        found = [shared.methods for shared in make_service().engine.passes]
        assert any({"diffsegmenter", "maskdiffusion", "maskdiffusion-unsupervised"} <= set(names) for names in found)
        assert sorted(name for names in found for name in names) == sorted([*READ_ONCE, *REGION_METHODS])

    def test_new_words_thresholds_refiners_and_sharing_methods_need_no_pass(self) -> None:
        async def work(service: Service) -> None:
            stored = await service.upload(png())
            with Passes(tiny().unet) as counted:
                for options in (
                    SegmentOptions(), SegmentOptions(background=0.3), SegmentOptions(background="snow"), SegmentOptions(refine="guided"),
                    SegmentOptions(method="maskdiffusion"), SegmentOptions(method="maskdiffusion", background=0.1),
                ):  # fmt: skip
                    for words in ("dog", "dog, cat", "tree|fire"):
                        await service.segment(stored, service.vocabulary(words), options)
                await service.heat(stored, "sky")
                await service.regions(stored, RegionOptions(labels=WORDS))
            assert counted.count == 0

        during(work)

    def test_another_pass_is_made_when_a_method_is_first_asked_and_then_kept(self) -> None:
        async def work(service: Service) -> list[int]:
            counts = []
            with Passes(tiny().unet) as counted:
                stored = await service.upload(png())
                for name in ("diffseg", "diffseg", "diffcut", "kmeans", "kmeans"):
                    await service.regions(stored, RegionOptions(method=name))
                    counts.append(counted.count)
            return counts

        assert during(work) == [2, 2, 3, 4, 4]

    def test_a_threshold_does_not_even_score_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def work(service: Service) -> int:
            asked = []
            ask = service.engine.ask
            monkeypatch.setattr(service.engine, "ask", lambda *arguments: asked.append(1) or ask(*arguments))
            stored = await service.upload(png())
            for background in ("auto", 0.1, 0.9, "none"):
                await service.segment(stored, WORDS, SegmentOptions(background=background))
            return len(asked)

        assert during(work) == 1

    def test_pictures_are_forgotten_after_one_question(self) -> None:
        async def work(service: Service) -> int:
            await service.segment(Picture.open(pixels()), WORDS)
            return len(service.readings)

        assert during(work) == 0


class TestAnswers:
    """The service answers what the library answers."""

    @pytest.mark.parametrize("method", READ_ONCE)
    @pytest.mark.parametrize(("background", "refine"), [("auto", "none"), (0.4, "guided"), ("snow", "none")])
    def test_segmentations(self, method: str, background: Any, refine: Any) -> None:
        picture = Picture.open(pixels(3, size=(30, 21)))
        found = during(lambda service: service.segment(picture, WORDS, SegmentOptions(method=method, background=background, refine=refine)))
        expected = Segmenter(tiny(), method, prompting="shared", background=background, refine=refine).segment(picture, WORDS)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        assert (found.label_map != expected.label_map).mean() < 0.01
        assert _timeless(found.record) == _timeless(expected.record)

    @pytest.mark.parametrize("prompting", ["joint", "per-label"])
    def test_other_promptings_are_passes_of_their_own_whose_maps_are_remembered(self, prompting: Any) -> None:
        async def work(service: Service) -> Any:
            stored = await service.upload(png(pixels(5)))
            options = SegmentOptions(prompting=prompting)
            found = await service.segment(stored, WORDS, options)
            with Passes(tiny().unet) as counted:
                await service.segment(stored, WORDS, dataclasses.replace(options, background=0.2, refine="pamr"))
            assert counted.count == 0
            return found

        expected = Segmenter(tiny(), "diffsegmenter", prompting=prompting, batch=4).segment(pixels(5), WORDS)
        found = during(work)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        assert found.record.prompting == prompting

    @pytest.mark.parametrize("method", REGION_METHODS)
    def test_regions(self, method: str) -> None:
        picture = Picture.open(pixels(4, size=(24, 33)))
        found = during(lambda service: service.regions(picture, RegionOptions(method=method)))
        expected = Grouper(tiny(), method).regions(picture)
        assert found.names == expected.names
        assert (found.label_map != expected.label_map).mean() < 0.01

    def test_regions_get_names(self) -> None:
        found = during(lambda service: service.regions(Picture.open(pixels(4)), RegionOptions(method="kmeans", regions=2, labels=WORDS)))
        assert len(found.names) == 2 and {name.split()[0] for name in found.names} <= set(WORDS.names)
        assert found.record.naming["settings"]["prompting"] == "shared"

    @pytest.mark.parametrize("options", [DiscoverOptions(), DiscoverOptions(labels=WORDS), DiscoverOptions(method="daam", labels=WORDS)])
    def test_discoveries(self, options: DiscoverOptions) -> None:
        picture = Picture.open(pixels(6))
        found = during(lambda service: service.discover(picture, options))
        expected = Discoverer(tiny(), options.method or "attentioncut", batch=4).discover(picture, options.labels)
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
        assert found.words == expected.words

    def test_heat_is_the_score_of_the_label_alone(self) -> None:
        scores = during(lambda service: service.heat(Picture.open(pixels()), "cat|kitten"))
        expected = Segmenter(tiny(), "diffsegmenter").segment(pixels(), ["cat|kitten"]).score("cat")
        np.testing.assert_allclose(scores, expected, atol=1e-5)

    @pytest.mark.parametrize("options", [{"method": "kmeans"}, {"prompting": "loud"}, {"refine": "x"}, {"background": float("nan")}])
    def test_wrong_options_are_refused_before_any_pass(self, options: dict[str, Any]) -> None:
        with Passes(tiny().unet) as counted, pytest.raises(SettingsError):
            during(lambda service: service.segment(Picture.open(pixels()), WORDS, SegmentOptions(**options)))
        assert counted.count == 0

    def test_a_picture_of_any_shape(self) -> None:
        for size in ((1, 1), (1, 300), (300, 2)):
            found = during(lambda service, size=size: service.segment(Picture.open(pixels(size=size)), WORDS))
            assert found.label_map.shape == size


class TestBatches:
    def test_uploads_that_wait_share_passes_and_read_as_alone(self) -> None:
        pictures = [pixels(number, size=(24, 24)) for number in range(6)] + [pixels(9, size=(40, 16))]

        async def work(service: Service) -> Any:
            release = _hold(service)
            uploads = [asyncio.create_task(service.upload(png(picture))) for picture in pictures]
            while service._batcher is None or len(service._batcher) < len(pictures):
                await asyncio.sleep(0.001)
            with Passes(tiny().unet) as counted:
                release.set()
                stored = await asyncio.gather(*uploads)
            found = [await service.segment(one, WORDS) for one in stored]
            return (counted.count, counted.rows), found, stored

        (count, rows), found, stored = during(work)
        assert (count, rows) == (3, 7)  # 4 + 2 of one size, and one of another
        for one, picture in zip(found, pictures, strict=True):
            expected = Segmenter(tiny(), "diffsegmenter").segment(picture, WORDS)
            np.testing.assert_allclose(one.scores, expected.scores, atol=1e-4)
        assert len({one.bytes() for one in stored[:6]}) == 1
        layer = stored[0].readings[0].cross_layers[0]
        assert layer.query.untyped_storage().nbytes() == layer.query.nbytes  # not a view that keeps its neighbours

    def test_without_batching_each_has_its_pass(self) -> None:
        async def work(service: Service) -> tuple[int, int]:
            with Passes(tiny().unet) as counted:
                await asyncio.gather(*(service.upload(png()) for _ in range(5)))
            return counted.count, counted.rows

        assert during(work, batching=False) == (5, 5)

    def test_one_picture_asked_for_by_many_is_read_once(self) -> None:
        async def work(service: Service) -> tuple[int, int]:
            stored = await service.upload(png())
            release = _hold(service)
            with Passes(tiny().unet) as counted:
                asked = [asyncio.create_task(service.regions(stored, RegionOptions(method="kmeans"))) for _ in range(7)]
                await asyncio.sleep(0.01)
                release.set()
                await asyncio.gather(*asked)
            return counted.count, counted.rows

        assert during(work) == (1, 1)

    def test_the_oldest_is_done_first_with_those_of_its_key(self) -> None:
        gate, seen = threading.Event(), list[tuple[Any, list[int]]]()

        def run(key: Any, payloads: Any) -> Any:
            gate.wait(5)
            seen.append((key, list(payloads)))
            return [10 * payload for payload in payloads]

        batcher = Batcher(run, chunk=2)
        held = batcher.submit("held", 0)
        _until(held.running)
        futures = [batcher.submit(key, number) for number, key in enumerate("aababbc")]
        futures[4].cancel()
        gate.set()
        batcher.close()
        assert seen[1:] == [("a", [0, 1]), ("b", [2]), ("a", [3]), ("b", [5]), ("c", [6])]
        assert [future.result() for future in futures if not future.cancelled()] == [0, 10, 20, 30, 50, 60]
        with pytest.raises(RuntimeError):
            batcher.submit("a", 0)

    def test_a_failure_is_not_the_neighbours(self) -> None:
        gate = threading.Event()

        def run(key: Any, payloads: Any) -> Any:
            gate.wait(5)
            if 2 in payloads:
                raise ValueError("two")
            return payloads

        batcher = Batcher(run, chunk=4)
        futures: list[Future[Any]] = [batcher.submit("a", number) for number in range(5)]
        gate.set()
        batcher.close()
        assert [future.exception() is None for future in futures] == [True, True, False, True, True]

    def test_who_stops_waiting_takes_the_task_along(self) -> None:
        async def work(service: Service) -> int:
            release = _hold(service)
            with Passes(tiny().unet) as counted:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(service.upload(png()), 0.05)
                release.set()
            return counted.count

        assert during(work) == 0


class TestCache:
    def test_the_least_used_go_when_memory_is_full_and_the_last_one_stays(self) -> None:
        dropped: list[str] = []
        one = _stored().bytes()
        cache = ReadingCache(limit=3 * one, ttl=10, clock=Clock(), on_drop=dropped.append)
        stored = [_stored() for _ in range(4)]
        for each in stored[:3]:
            cache.put(each)
        assert cache.find(stored[0].id) is stored[0]
        cache.put(stored[3])
        assert [cache.find(each.id) is not None for each in stored] == [True, False, True, True]
        assert dropped == ["memory"] and cache.bytes == 3 * one
        large = _stored(size=(200, 200))
        cache.put(large)
        assert len(cache) == 1 and cache.find(large.id) is large

    def test_use_keeps_and_time_drops(self) -> None:
        clock, dropped = Clock(), list[str]()
        cache = ReadingCache(limit=10**9, ttl=10, clock=clock, on_drop=dropped.append)
        first, second = _stored(), _stored()
        cache.put(first)
        cache.put(second)
        clock.now += 6
        assert cache.find(first.id) is first
        clock.now += 6
        assert cache.find(second.id) is None and cache.find(first.id) is first
        clock.now += 10
        cache.sweep()
        assert len(cache) == 0 and cache.bytes == 0 and dropped == ["time", "time"]

    def test_what_a_reading_grows_by_is_counted(self) -> None:
        async def work(service: Service) -> None:
            stored = await service.upload(png())
            before = service.readings.bytes
            await service.segment(stored, WORDS)
            assert service.readings.bytes == stored.bytes() > before
            before = service.readings.bytes
            await service.regions(stored, RegionOptions(method="diffseg"))
            assert service.readings.bytes == stored.bytes() > before
            service.drop(stored.id)
            await service.segment(stored, WORDS)  # by someone who holds it still
            assert service.readings.bytes == 0 == len(service.readings)

        during(work)

    def test_questions_of_one_reading_are_bounded(self) -> None:
        async def work(service: Service) -> tuple[int, int]:
            stored = await service.upload(png())
            sizes = []
            for number in range(80):
                await service.segment(stored, service.vocabulary([f"word {number}"]))
                sizes.append(stored.bytes())
            return sizes[40], sizes[-1]

        first, last = during(work)
        assert first == last

    def test_uploads_beyond_the_limit_leave_memory_flat(self) -> None:
        async def work(service: Service) -> list[int]:
            sizes = []
            for number in range(12):
                await service.upload(png(pixels(number)))
                sizes.append(service.readings.bytes)
            return sizes

        limit = 200_000
        sizes = during(work, cache_bytes=limit)
        assert max(sizes) <= limit and sizes[-1] == sizes[-2] and sizes[-1] > limit / 3

    def test_ids_cannot_be_guessed_and_differ(self) -> None:
        names = {_stored().id for _ in range(50)}
        assert len(names) == 50 and min(map(len, names)) >= 22


class TestSlots:
    def test_a_full_queue_refuses_and_a_place_is_given_back(self) -> None:
        service = make_service(queue=2)
        with service.slot(), service.slot():
            with pytest.raises(Problem) as caught:
                service.slot()
            assert (caught.value.status_code, caught.value.code) == (429, "busy")
            assert int(caught.value.headers["Retry-After"]) >= 1
        for _ in range(3):
            with service.slot():
                pass

    def test_a_closing_service_refuses_new_ones(self) -> None:
        service = make_service()
        with service.slot():
            service.close()
        with pytest.raises(Problem) as caught:
            service.slot()
        assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")

    def test_what_is_in_progress_is_finished_when_the_service_stops(self) -> None:
        async def work(service: Service) -> Any:
            release = _hold(service)
            upload = asyncio.create_task(service.upload(png()))
            await asyncio.sleep(0.02)
            service.close()
            release.set()
            return await upload

        assert isinstance(during(work), StoredReading)


class TestLimits:
    def test_labels_and_synonyms_are_counted_together(self) -> None:
        service = make_service(max_labels=4)
        assert len(service.vocabulary("a|b, c|d,,")) == 2
        for labels in ("a|b, c|d, e", ["a", "b", "c", "d|e"], "a," * 10**5):
            with pytest.raises(Problem) as caught:
                service.vocabulary(labels)
            assert caught.value.code == "too_many_labels"
        with pytest.raises(Problem):
            service.scored_labels(service.vocabulary("a, b, c"), SegmentOptions(background="d|e"))
        with pytest.raises(VocabularyError):
            service.vocabulary("")

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("dog.png", "dog"), ("../../etc/passwd", "passwd"), ("C:\\pictures\\cat.jpeg", "cat"), ("", "picture"), (".png", ".png"),
         ("a\0b\n.png", "ab"), ("\ud800.png", "picture"), ("x" * 300, "x" * 100), ("/", "picture")],
    )  # fmt: skip
    def test_names_of_files_are_only_shown(self, name: str, shown: str) -> None:
        assert clean_name(name) == shown

    @pytest.mark.parametrize(("text", "bytes_"), [("20MB", 20_000_000), ("1 gib", 2**30), ("1.5KB", 1500), ("77", 77), (" 3 B ", 3)])
    def test_sizes_are_read(self, text: str, bytes_: int) -> None:
        assert parse_bytes(text, "--cache") == bytes_

    @pytest.mark.parametrize("text", ["", "MB", "20 XB", "-1MB", "0", "1e9", "20MB MB", "9" * 30 + "GB", "٣MB"])
    def test_sizes_that_are_none_are_refused(self, text: str) -> None:
        with pytest.raises(SettingsError, match="--cache"):
            parse_bytes(text, "--cache")

    @pytest.mark.parametrize(
        "wrong", [{"port": -1}, {"port": 70_000}, {"workers": 0}, {"queue": 0}, {"timeout": 0.0}, {"timeout": float("inf")},
                  {"reading_ttl": -1.0}, {"method": "kmeans"}, {"token": ""}, {"token": "two words"}, {"token": "é"}, {"max_labels": 0}],
    )  # fmt: skip
    def test_settings_that_no_server_could_have_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            ServeSettings(**wrong)


def test_threads_ask_the_text_tower_one_at_a_time() -> None:
    """Fast tokenizers fail with "already borrowed" when two threads use one at the same time."""
    tower = make_service().engine.backbone.text
    failures: list[Exception] = []

    def ask(first: int) -> None:
        try:
            for number in range(first, first + 60):
                tower.encode([f"word {number}", "dog"])
                tower.count_tokens("a dog and a cat")
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _hold(service: Service) -> threading.Event:
    """Keeps the model's thread busy until the event is set."""
    release, run = threading.Event(), service._run

    class Pause:
        kind = "pause"

        def run(self, engine: Any, payloads: Any) -> Any:
            release.wait(5)
            return payloads

    assert service._batcher is not None and run is not None
    service._batcher.submit(Pause(), None)
    return release


def _stored(*, size: tuple[int, int] = (24, 24)) -> StoredReading:
    return StoredReading(Picture.open(pixels(size=size)))


def _timeless(record: Any) -> dict[str, Any]:
    return {key: value for key, value in record.as_dict().items() if key != "timings"}


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_reading_memory_is_its_own_for_every_kind_of_layer() -> None:
    """Kept and folded attention, features and outputs of one picture of a batch hold no memory of the others."""
    from maskwright.readings.probe import Probe, Select
    from maskwright.serve.readings import own_memory

    backbone = tiny()
    latents = torch.randn(3, *backbone.latent_shape, generator=torch.Generator().manual_seed(0))
    empty = backbone.text.encode([""]).embeddings
    for mode in ("keep", "fold"):
        probe = Probe(cross=Select(), self_attention=Select(), self_mode=mode, features=Select(stages=("up",)), outputs=Select())
        whole = backbone.read(latents, probe, condition=empty)
        part = own_memory(whole.picture(1))
        tensors = [layer.query for layer in part.cross_layers] + [one for layer in part.self_layers for one in (layer.query, layer.key)]
        tensors += [mean for mean, _, _ in part.folded.values()] + [*part.features.values(), *part.outputs.values()]
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
        assert part.bytes() == whole.bytes() // 3
