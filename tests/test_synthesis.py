"""Drawing labelled pictures: masks at full size, filters, and a loop that can be stopped at any place."""

import dataclasses
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.backbones.unet import UNetBackbone
from maskwright.discovery.filters import FilterSettings, count_reasons, explain, measure, reasons
from maskwright.discovery.masks import FullMask, MaskSettings, full_mask
from maskwright.discovery.pairs import Drawn
from maskwright.discovery.prompts import LabelPrompts, ListedPrompts
from maskwright.discovery.store import PairStore
from maskwright.discovery.synthesis import SynthesisSettings, Synthesizer, refuse_many
from maskwright.discovery.templates import Templates
from maskwright.errors import SettingsError, VocabularyError
from maskwright.methods.foreground import Foreground
from maskwright.vocabulary import Vocabulary
from tests.tiny import Passes, build_backbone, digest, pixels
from tests.watching import opened_pictures

WORDS = Vocabulary.parse("dog, cat, red apple")
TEMPLATES = Templates((), ("a photo of a {}", "a {} in snow", "the {} on grass"))
LOOSE = FilterSettings(least=0.0, most=1.0, component=0.6, corners=4, contrast=0.0)  # a good half of what random weights give
PLAIN = MaskSettings(refine="none")


def foreground(*maps: Any) -> Foreground:
    probability = torch.tensor(np.stack(maps), dtype=torch.float32)
    return Foreground(probability, probability > 0.5)


def square(side: int, top: int, left: int, size: int, *, inside: float = 1.0, outside: float = 0.0) -> np.ndarray:
    values = np.full((side, side), outside)
    values[top : top + size, left : left + size] = inside
    return values


class TestMasks:
    GREY = np.full((8, 8, 3), 128, dtype=np.uint8)

    def test_where_labels_overlap_the_higher_probability_wins(self) -> None:
        one, other = square(8, 0, 0, 5, inside=0.8), square(8, 3, 3, 5, inside=0.9)
        mask = full_mask(foreground(one, other), self.GREY, [7, 2], settings=PLAIN).mask
        expected = np.zeros((8, 8), dtype=np.uint8)
        expected[:5, :5], expected[3:, 3:] = 7, 2
        assert mask.dtype == np.uint8 and np.array_equal(mask, expected)

    def test_pixels_around_one_half_are_left_out(self) -> None:
        steps = np.linspace(0, 1, 64).reshape(8, 8)
        full = full_mask(foreground(steps), self.GREY, [1], settings=PLAIN)
        unsure = (steps.astype(np.float32) >= np.float32(0.4)) & (steps.astype(np.float32) <= np.float32(0.6))
        assert np.array_equal(full.mask == 255, unsure) and unsure.any()
        assert np.array_equal(full.owner, steps > 0.5)
        assert np.array_equal(full.mask[~unsure], full.owner[~unsure])
        wide = MaskSettings(refine="none", unsure=(0.2, 0.7))
        assert (full_mask(foreground(steps), self.GREY, [1], settings=wide).mask == 255).sum() > unsure.sum()

    def test_pixels_that_refinement_moves_are_left_out(self) -> None:
        picture = np.zeros((64, 64, 3), dtype=np.uint8)
        picture[:, 28:] = 255  # the true edge, one pixel row of the coarse map off
        coarse = square(16, 0, 8, 16, inside=0.95, outside=0.05)
        given = foreground(coarse)
        marked, unmarked = (
            full_mask(given, picture, [1], settings=MaskSettings(unsure=(0.5, 0.5), mark_changes=mark)) for mark in (True, False)
        )
        before = full_mask(given, picture, [1], settings=PLAIN).owner
        moved = marked.owner != before
        assert moved.any() and not (unmarked.mask == 255).any()
        assert np.array_equal(marked.mask == 255, moved)

    def test_maps_come_to_the_size_of_the_picture(self) -> None:
        full = full_mask(foreground(square(4, 1, 1, 2), np.zeros((4, 4))), pixels(size=(20, 28)), [1, 2])
        assert full.mask.shape == full.owner.shape == (20, 28) and full.probability.shape == (2, 20, 28)
        assert set(np.unique(full.mask)) <= {0, 1, 255}

    @pytest.mark.parametrize("settings", [{"refine": "much"}, {"unsure": (0.6, 0.7)}, {"unsure": (0.6, 0.4)}, {"unsure": (-0.1, 0.6)}])
    def test_settings_that_cannot_be_used(self, settings: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            MaskSettings(**settings)


def scored(owner: np.ndarray, *, inside: float = 0.9, outside: float = 0.1) -> dict[str, dict[str, float]]:
    """Measurements of one label, "dog"."""
    numbers = owner.astype(np.uint8)
    probability = np.where(owner == 1, inside, outside).astype(np.float32)[None]
    return {"dog": measure(FullMask(numbers, numbers, probability), [1])[0]}


class TestFilters:
    def test_a_good_mask_passes(self) -> None:
        scores = scored(square(20, 5, 5, 10))
        assert scores == {"dog": {"area": 0.25, "component": 1.0, "corners": 0.0, "contrast": 0.8}}
        assert reasons(scores) == ()

    @pytest.mark.parametrize(
        ("owner", "values", "reason"),
        [
            (square(100, 50, 50, 17), {}, "dog: too small"),  # 2.9 %
            (square(100, 5, 5, 84), {}, "dog: too large"),  # 70.6 %
            (square(20, 2, 2, 6) + square(20, 12, 12, 4), {}, "dog: in pieces"),  # 69 %
            (np.ones((20, 20)) - square(20, 0, 0, 20) + square(20, 0, 0, 12) + np.pad(np.ones((1, 8)), ((0, 19), (12, 0))), {}, ""),
            (square(20, 5, 5, 10), {"inside": 0.55, "outside": 0.3}, "dog: little contrast"),
            (np.zeros((20, 20)), {}, "dog: too small"),
        ],
    )
    def test_each_limit(self, owner: np.ndarray, values: dict[str, float], reason: str) -> None:
        assert reasons(scored(owner, **values)) == ((reason,) if reason else ())

    @pytest.mark.parametrize(
        ("owner", "values"),
        [
            (square(100, 50, 50, 18), {}),
            (square(100, 5, 5, 83), {}),
            (square(20, 2, 2, 6) + square(20, 12, 12, 3), {}),
            (square(20, 5, 5, 10), {"inside": 0.75, "outside": 0.4}),
        ],
    )
    def test_just_inside_of_each_limit(self, owner: np.ndarray, values: dict[str, float]) -> None:
        assert reasons(scored(owner, **values)) == ()

    def test_two_corners_may_be_covered_and_not_three(self) -> None:
        owner = np.zeros((20, 20))
        owner[0], owner[0:10, 0] = 1, 1
        assert scored(owner)["dog"]["corners"] == 2 and not reasons(scored(owner), settings=FilterSettings(component=0))
        owner[:, 0] = 1
        assert scored(owner)["dog"]["corners"] == 3 and reasons(scored(owner)) == ("dog: touches corners",)

    def test_labels_are_judged_one_by_one_and_counted_together(self) -> None:
        owner = (square(20, 1, 1, 6) + 2 * square(20, 10, 10, 2)).astype(np.uint8)
        probability = np.stack([owner == 1, owner == 2, owner == 3]).astype(np.float32)
        scores = dict(zip(("cat: big", "dog", "owl"), measure(FullMask(owner, owner, probability), [1, 2, 3]), strict=True))
        found = reasons(scores)
        assert found == ("dog: too small", "owl: too small")
        assert explain(found[0], scores) == "dog: too small (1.0% of the picture)"
        assert count_reasons([*found, "cat: big: in pieces"]) == {"too small": 2, "in pieces": 1}
        assert "its largest piece is 100%" in explain("cat: big: in pieces", scores)

    def test_every_reason_can_be_explained(self) -> None:
        strict = FilterSettings(least=1.0, most=1.0, component=1.0, corners=0, contrast=1.0)
        owner = square(20, 0, 0, 6) + square(20, 10, 10, 4)
        scores = scored(owner)
        texts = [explain(reason, scores) for reason in (*reasons(scores, settings=strict), "dog: too large")]
        assert len(texts) == 5 and all("(" in text for text in texts)

    @pytest.mark.parametrize("settings", [{"least": 0.8}, {"most": 1.2}, {"component": 2}, {"contrast": -1}, {"corners": -1}])
    def test_settings_that_cannot_be_used(self, settings: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            FilterSettings(**settings)


def synthesizer(backbone: UNetBackbone, *, objects: tuple[int, int] = (1, 1), method: Any = "daam", **options: Any) -> Synthesizer:
    drawing = {"steps": 3, "guidance": 2.0, "filters": LOOSE, "attempts": 3}
    settings = SynthesisSettings(**(drawing | options.pop("drawing", {})))
    prompts = LabelPrompts(WORDS, TEMPLATES, objects=objects, seed=options.get("seed", 0))
    return Synthesizer(backbone, prompts, method, settings=settings, **options)


def same(one: Drawn, other: Drawn) -> bool:
    return one.pair == other.pair and np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pictures(folder: Path) -> dict[str, bytes]:
    """Images and masks."""
    return {name: data for name, data in content(folder).items() if name.endswith(".png")}


def filled(one: Synthesizer, folder: Path, places: Sequence[int] | range, *, stops: Sequence[int] = ()) -> list[Drawn]:
    """All new attempts of runs that end after so many each, and of one that goes on to the end."""
    drawn: list[Drawn] = []
    for number, stop in enumerate((*stops, None)):
        with PairStore.open(folder, one.decisive(), WORDS, resume=number > 0) as store:
            drawn += list(islice(one.run(places, store), stop))
    return drawn


class TestSynthesizer:
    def test_a_pair_is_a_function_of_seed_place_and_attempt(self, backbone: UNetBackbone) -> None:
        before = digest(backbone.unet)
        one = synthesizer(backbone).make(5, 1)
        assert same(one, synthesizer(backbone).make(5, 1))
        assert digest(backbone.unet) == before
        for other in (synthesizer(backbone).make(5, 0), synthesizer(backbone).make(4, 1), synthesizer(backbone, seed=1).make(5, 1)):
            assert not np.array_equal(other.image, one.image) and other.pair.seed != one.pair.seed
        assert one.image.shape == (16, 16, 3) and one.mask.shape == (16, 16) and one.image.dtype == one.mask.dtype == np.uint8

    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_stopped_run_that_goes_on_equals_one_that_was_not(self, backbone: UNetBackbone, tmp_path: Path, batch: int) -> None:
        one = synthesizer(backbone, batch=batch)
        whole = filled(one, tmp_path / "whole", range(7))
        parts = filled(one, tmp_path / "parts", range(7), stops=(1, 0, 4, 2))
        assert content(tmp_path / "whole") == content(tmp_path / "parts")
        assert len({(drawn.pair.number, drawn.pair.attempt) for drawn in whole}) == len(whole) > 7
        assert len(parts) <= len(whole)

    def test_what_is_there_is_not_drawn_again(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        one = synthesizer(backbone)
        filled(one, tmp_path, range(4))
        before = content(tmp_path)
        with PairStore.open(tmp_path, one.decisive(), WORDS, resume=True) as store, Passes(backbone.unet) as passes:
            assert list(one.run(range(4), store)) == []
        assert passes.count == 0 and content(tmp_path) == before

    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_set_may_grow(self, backbone: UNetBackbone, tmp_path: Path, batch: int) -> None:
        one = synthesizer(backbone, batch=batch)
        filled(one, tmp_path / "grown", range(4))
        with PairStore.open(tmp_path / "grown", one.decisive(), WORDS, resume=True) as store:
            list(one.run(range(8), store))
        filled(one, tmp_path / "whole", range(8))
        assert pictures(tmp_path / "grown") == pictures(tmp_path / "whole")

    def test_a_pair_made_alone_has_the_same_bytes(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        one = synthesizer(backbone)
        whole = filled(one, tmp_path / "whole", range(6))
        for drawn in whole:
            assert same(one.make(drawn.pair.number, drawn.pair.attempt), drawn)
        for batch in (1, 3):
            some = synthesizer(backbone, batch=batch)
            filled(some, tmp_path / f"all{batch}", range(6))
            filled(some, tmp_path / f"some{batch}", [1, 4])
            found, wanted = pictures(tmp_path / f"some{batch}"), pictures(tmp_path / f"all{batch}")
            assert found and found == {name: wanted[name] for name in wanted if name[-5] in "14"}

    def test_a_pair_always_shares_its_passes_with_the_same_others(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        """Rounding depends on what is drawn together, so that must not depend on what was there before."""
        one, groups = synthesizer(backbone, batch=3), {}
        draw = one.draw

        def noted(tasks: Sequence[tuple[int, int]]) -> list[Drawn]:
            for task in tasks:
                assert groups.setdefault(task, tuple(tasks)) == tuple(tasks)
            return draw(tasks)

        one.draw = noted  # type: ignore[method-assign]
        filled(one, tmp_path / "whole", range(7))
        for (place, attempt), group in groups.items():
            assert attempt or [other for other, _ in group] == list(range(place // 3 * 3, place // 3 * 3 + 3))
        filled(one, tmp_path / "parts", range(5), stops=(1, 2))
        filled(one, tmp_path / "parts2", [1, 5, 6])

    def test_a_place_is_tried_again_until_it_is_full_or_given_up(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        none = dataclasses.replace(LOOSE, component=1.0, contrast=1.0)
        drawn = filled(synthesizer(backbone, drawing={"filters": none}), tmp_path / "none", range(2))
        assert [(one.pair.number, one.pair.attempt) for one in drawn] == [(n, a) for n in range(2) for a in range(3)]
        assert not any(one.pair.kept for one in drawn) and not list((tmp_path / "none" / "images").iterdir())
        drawn = filled(synthesizer(backbone), tmp_path / "some", range(12))
        for number in range(12):
            kept = [one.pair.kept for one in drawn if one.pair.number == number]
            assert kept == [False] * (len(kept) - 1) + [kept[-1]] and (kept[-1] or len(kept) == 3)
        assert all(bool(one.pair.reasons) != one.pair.kept for one in drawn)

    def test_more_attempts_go_on_where_fewer_gave_up(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        few, many = (synthesizer(backbone, drawing={"attempts": attempts}) for attempts in (1, 3))
        assert few.decisive() == many.decisive()
        filled(few, tmp_path / "grown", range(6))
        with PairStore.open(tmp_path / "grown", many.decisive(), WORDS, resume=True) as store:
            list(many.run(range(6), store))
        filled(many, tmp_path / "whole", range(6))
        assert pictures(tmp_path / "grown") == pictures(tmp_path / "whole")

    def test_several_labels_have_a_number_each(self, backbone: UNetBackbone) -> None:
        factors = {"attention_factors": (1, 2), "grid_factor": 1}
        one = synthesizer(backbone, objects=(2, 3), method="attentioncut", method_settings=factors)
        numbers = {label.name: number for number, label in enumerate(WORDS.foreground, start=1)}
        for number in range(6):
            drawn = one.make(number)
            assert 2 <= len(drawn.pair.labels) <= 3 and tuple(drawn.pair.scores) == drawn.pair.labels
            assert set(np.unique(drawn.mask)) <= {0, 255, *(numbers[name] for name in drawn.pair.labels)}
            assert drawn.mask.any()

    def test_listed_prompts_are_drawn_as_they_stand(self, backbone: UNetBackbone) -> None:
        one = Synthesizer(backbone, ListedPrompts(WORDS, ["a dog in snow"]), "daam", settings=SynthesisSettings(steps=2, guidance=1.0))
        pair = one.make(3).pair
        assert pair.prompt == "a dog in snow" and pair.labels == ("dog",)

    def test_what_decides_is_json_and_complete(self, backbone: UNetBackbone) -> None:
        one = synthesizer(backbone)
        assert json.loads(json.dumps(one.decisive())) == one.decisive()
        others = [
            synthesizer(backbone, seed=1), synthesizer(backbone, batch=2), synthesizer(backbone, objects=(1, 2)),
            synthesizer(backbone, method_settings={"threshold": 0.3}),
            *(synthesizer(backbone, drawing=changed) for changed in (
                {"steps": 5}, {"guidance": 3.0}, {"side": 8}, {"read_steps": 1}, {"read_part": (0.0, 1.0)}, {"masks": PLAIN},
                {"filters": FilterSettings()},
            )),
        ]  # fmt: skip
        assert len({json.dumps(each.decisive()) for each in (one, *others)}) == 1 + len(others)

    def test_a_models_own_settings_come_between_defaults_and_options(self) -> None:
        synthesis = {"guidance": 3.0, "templates": ["a {}"], "steps": 9, "side": 8}
        assert SynthesisSettings.suited(synthesis, steps=4, guidance=None) == SynthesisSettings(steps=4, guidance=3.0, side=8)
        own = build_backbone(sidecar={"methods": {"daam": {"threshold": 0.3, "skip": [4]}}, "synthesis": synthesis})
        made = Synthesizer(own, LabelPrompts(WORDS, TEMPLATES), "daam", method_settings={"skip": [2]})
        assert (made.method.threshold, made.method.skip) == (0.3, (2,))
        assert (made.settings.steps, made.settings.guidance, made.settings.side) == (9, 3.0, 8)
        assert made.make(0).image.shape == (8, 8, 3) and made.make(0).mask.shape == (8, 8)

    def test_sets_of_the_native_side_say_what_they_said_before_there_was_a_choice(self, backbone: UNetBackbone) -> None:
        assert "side" not in synthesizer(backbone).decisive() and synthesizer(backbone, drawing={"side": 8}).decisive()["side"] == 8

    def test_words_that_a_closed_model_does_not_know_are_told(self, caplog: pytest.LogCaptureFixture) -> None:
        closed = build_backbone(sidecar={"words": "a photo of in snow the on grass dog cat red".split(), "advice": "Use others."})
        Synthesizer(closed, LabelPrompts(WORDS, TEMPLATES), "daam")
        assert [record.getMessage() for record in caplog.records] == ["tiny does not know apple. Use others."]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"steps": 0}, "steps is 0"), ({"guidance": -1.0}, "guidance is -1"), ({"guidance": float("nan")}, "guidance is nan"),
            ({"guidance": float("inf")}, "guidance is inf"), ({"attempts": 0}, "attempts is 0"),
            ({"side": 0}, "side is 0"), ({"read_part": (0.9, 0.1)}, "part of 0..1"),
        ],
    )  # fmt: skip
    def test_settings_that_cannot_be_used(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            SynthesisSettings(**settings)

    def test_options_that_cannot_be_used(self, backbone: UNetBackbone) -> None:
        many = Vocabulary.parse([f"word {number}" for number in range(255)])
        with pytest.raises(VocabularyError, match="255 labels: a mask of 8 bits holds at most 254"):
            refuse_many(many)
        with pytest.raises(SettingsError, match="unknown method 'diffsegmenter': choose one of attentioncut, daam"):
            synthesizer(backbone, method="diffsegmenter")
        with pytest.raises(SettingsError, match="side is 10: tiny draws sides that are multiples of 4"):
            synthesizer(backbone, drawing={"side": 10})
        with pytest.raises(SettingsError, match="batch must be at least 1"):
            synthesizer(backbone, batch=0)
        with pytest.raises(SettingsError, match="go into the method object"):
            synthesizer(backbone, method=synthesizer(backbone).method, method_settings={"threshold": 0.3})


def test_drawing_reads_no_picture(backbone: UNetBackbone, tmp_path: Path) -> None:
    made = synthesizer(backbone)
    with PairStore.open(tmp_path / "pairs", made.decisive(), WORDS, resume=False) as store, opened_pictures() as opened:
        assert list(made.run(range(8), store))
        assert not opened
        kept = store.kept[0]
        store.read_image(kept)  # the watcher does see a picture that is read
    assert opened == {store.image_path(kept)}
