import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ImageError, SettingsError, VocabularyError
from maskwright.exports import to_coco, to_document
from maskwright.grouping import Grouper, distinct, largest_first, mean_scores, share_passes
from maskwright.methods.diffcut.method import DiffCut
from maskwright.methods.diffseg.method import DiffSeg
from maskwright.methods.kmeans.method import KMeans
from maskwright.methods.maskdiffusion_unsupervised.method import MaskDiffusionUnsupervised
from maskwright.projection import Projection
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Segmenter
from tests.tiny import Passes, build_backbone, pixels, save_folder

FACTORS = (2, 1)  # feature grids of a U-Net of two levels
TOGETHER: dict[str, Any] = {"timesteps": (50,), "noise": True}
ALL = [
    MaskDiffusionUnsupervised(feature_factors=FACTORS, **TOGETHER), DiffSeg(threshold=0.25, **TOGETHER), DiffCut(**TOGETHER),
    KMeans(feature_factors=FACTORS, **TOGETHER),
]  # fmt: skip
NAMES = ["maskdiffusion-unsupervised", "diffseg", "diffcut", "kmeans"]
KMEANS = KMeans(feature_factors=FACTORS, regions=4)
NAMING: dict[str, Any] = {"attention_factors": (1, 2), "feature_factors": FACTORS}


def grouper(backbone: UNetBackbone, method: Any = KMEANS, **options: Any) -> Grouper:
    return Grouper(backbone, method, **{"naming_settings": NAMING, **options})


def same(one: Segmentation, two: Segmentation) -> None:
    assert np.array_equal(one.label_map, two.label_map) and np.array_equal(one.scores, two.scores) and one.names == two.names


class TestRegions:
    @pytest.mark.parametrize("method", ALL, ids=NAMES)
    @pytest.mark.parametrize("size", [(24, 24), (20, 45), (45, 20), (1, 3)])
    def test_results_have_the_pictures_own_size(self, backbone: UNetBackbone, method: Any, size: tuple[int, int]) -> None:
        found = grouper(backbone, method).regions(pixels(size=size))
        assert found.label_map.shape == size and found.label_map.dtype == np.uint16
        assert found.scores.shape == (len(found.names), *size) and found.scores.dtype == np.float32
        assert found.names == tuple(f"region {number + 1}" for number in range(len(found.names)))

    @pytest.mark.parametrize("method", ALL, ids=NAMES)
    def test_every_pixel_has_a_region_and_the_largest_is_the_first(self, backbone: UNetBackbone, method: Any) -> None:
        found = grouper(backbone, method, regions=4).regions(pixels(size=(20, 45)))
        areas = [region.area for region in found.regions]
        assert sum(areas) == 20 * 45 and areas == sorted(areas, reverse=True) and min(areas) > 0

    @pytest.mark.parametrize("method", ALL, ids=NAMES)
    def test_memberships_are_upsampled_and_the_best_wins(self, backbone: UNetBackbone, method: Any) -> None:
        found = grouper(backbone, method, regions=4).regions(pixels(size=(30, 40)))
        assert np.array_equal(found.label_map, found.scores.argmax(0) + 1)
        assert np.array_equal(found.confidence, found.scores.max(0))
        assert len(np.unique(found.scores[0])) > 8 * 12  # more values than the grid has pixels: not a label map that was enlarged

    def test_a_region_without_a_pixel_is_left_out(self, backbone: UNetBackbone) -> None:
        found = grouper(backbone, regions=8).regions(pixels(size=(1, 3)))
        assert 1 <= len(found.names) <= 3 and set(np.unique(found.label_map)) == set(range(1, len(found.names) + 1))

    def test_a_number_of_regions(self, backbone: UNetBackbone) -> None:
        for regions in (1, 2, 5):
            found = grouper(backbone, regions=regions).regions(pixels(size=(32, 32)))
            assert len(found.names) == regions and found.record.settings["regions"] == regions

    def test_the_same_seed_gives_the_same_bits(self, backbone: UNetBackbone) -> None:
        one, two = (grouper(backbone, seed=3).regions(pixels()) for _ in range(2))
        same(one, two)

    def test_exports_take_it(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        found = grouper(backbone).regions(pixels(), "dog, cat")
        assert len(to_coco(found)["annotations"]) == len(found.names) and to_document(found)["background"]["area"] == 0
        assert json.loads(found.save(tmp_path)[-1].read_text())["record"]["method"] == "kmeans"

    @pytest.mark.parametrize("refine", ["guided", "pamr"])
    def test_refiners_move_borders(self, backbone: UNetBackbone, refine: Any) -> None:
        plain, found = (grouper(backbone, refine=name).regions(pixels(size=(48, 48))) for name in ("none", refine))
        assert found.record.refine == refine and not np.array_equal(plain.label_map, found.label_map)


class TestPictures:
    def test_lists_give_lists_in_order(self, backbone: UNetBackbone) -> None:
        sizes = [(24, 24), (24, 24), (20, 45), (24, 24), (45, 20)]
        pictures = [pixels(number, size=size) for number, size in enumerate(sizes)]
        found = grouper(backbone, batch=2).regions(pictures)
        assert [one.picture.size for one in found] == sizes
        for one, picture in zip(found, pictures, strict=True):
            assert np.array_equal(one.picture.pixels, picture)
            assert float(np.mean(one.label_map != grouper(backbone).regions(picture).label_map)) < 0.01  # read at its own shape
        assert grouper(backbone).regions([]) == []

    def test_neighbours_of_one_shape_share_a_pass(self, backbone: UNetBackbone) -> None:
        for batch, passes in ((1, 4), (3, 2), (8, 1)):
            with Passes(backbone.unet) as counted:
                list(grouper(backbone, batch=batch).regions_many([pixels(number) for number in range(4)]))
            assert (counted.count, counted.rows) == (passes, 4)

    @pytest.mark.parametrize("method", ALL, ids=NAMES)
    def test_neighbours_in_a_batch_do_not_matter(self, backbone: UNetBackbone, method: Any) -> None:
        pictures = [pixels(number, size=(20, 28)) for number in range(3)]
        whole = grouper(backbone, method, batch=3, regions=3)
        for together, picture in zip(whole.regions(pictures, "dog, cat"), pictures, strict=True):
            alone = whole.regions(picture, "dog, cat")
            assert float(np.mean(together.label_map != alone.label_map)) < 0.01 and together.names == alone.names

    def test_pictures_are_opened_when_their_turn_comes(self, backbone: UNetBackbone) -> None:
        for batch in (1, 2, 4):
            stream = grouper(backbone, batch=batch).regions_many([pixels(), pixels(1), pixels(2), "no-such.png"])
            assert len([next(stream) for _ in range(3)]) == 3
            with pytest.raises(ImageError, match="no-such"):
                next(stream)

    def test_squash_reads_at_the_models_square(self, backbone: UNetBackbone) -> None:
        seen: list[tuple[int, ...]] = []
        handle = backbone.unet.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
        methods = [KMeans(feature_factors=FACTORS), MaskDiffusionUnsupervised(feature_factors=FACTORS, squash=True)]
        grouper(backbone, methods).by_method(pixels(size=(20, 40)))
        handle.remove()
        assert seen == [(1, 4, 6, 12), (1, 4, 8, 8)]


class TestSeveralMethods:
    def test_one_pass_serves_them_all(self, backbone: UNetBackbone) -> None:
        with Passes(backbone.unet) as passes:
            found = grouper(backbone, ALL).by_method(pixels())
        assert (passes.count, passes.rows) == (1, 1) and list(found) == NAMES
        with Passes(backbone.unet) as passes:
            several = grouper(backbone, ALL, batch=2).by_method([pixels(), pixels(1)])
        assert (passes.count, passes.rows) == (1, 2) and [list(one) for one in several] == [NAMES] * 2

    def test_together_they_find_what_each_finds_alone(self, backbone: UNetBackbone) -> None:
        together = grouper(backbone, ALL).by_method(pixels(size=(20, 28)))
        for method in ALL:
            alone = grouper(backbone, method).regions(pixels(size=(20, 28)))
            assert float(np.mean(together[method.name].label_map != alone.label_map)) < 0.01
            assert together[method.name].record.method == alone.record.method == method.name

    def test_what_cannot_be_read_together_takes_as_few_passes_as_it_can(self, backbone: UNetBackbone) -> None:
        methods = {one.name: one for one in (DiffCut(timesteps=(50,)), DiffSeg(timesteps=(300,)), KMEANS)}
        methods["other"] = MaskDiffusionUnsupervised(feature_factors=FACTORS)  # the clean latent, as KMEANS
        passes = share_passes(methods)
        assert [one.methods for one in passes] == [("diffcut",), ("diffseg",), ("kmeans", "other")]
        with Passes(backbone.unet) as counted:
            grouper(backbone, list(methods.values())).by_method(pixels())
        assert counted.count == 3

    def test_settings_go_to_each_method_given_by_name(self, backbone: UNetBackbone) -> None:
        methods = grouper(backbone, ["diffseg", "diffcut"], settings=TOGETHER, regions=3).methods.values()
        assert list(methods) == [DiffSeg(regions=3, **TOGETHER), DiffCut(regions=3, **TOGETHER)]

    def test_a_sidecars_settings_are_used_unless_the_user_has_others(self) -> None:
        model = build_backbone(sidecar={"methods": {"kmeans": {"feature_factors": [2, 1], "regions": 3}}})
        assert Grouper(model, "kmeans").methods["kmeans"] == KMeans(feature_factors=FACTORS, regions=3)
        assert Grouper(model, "kmeans", regions="auto").methods["kmeans"] == KMeans(feature_factors=FACTORS)

    def test_regions_is_for_one_method(self, backbone: UNetBackbone) -> None:
        both = grouper(backbone, ALL[:2])
        for ask in (both.regions, lambda image: both.regions_many([image]), both.record):
            with pytest.raises(SettingsError, match="has the methods maskdiffusion-unsupervised, diffseg: ask it by_method"):
                ask(*([] if ask == both.record else [pixels()]))


class TestOracle:
    def test_it_needs_the_truth_before_anything_is_read(self, backbone: UNetBackbone) -> None:
        with Passes(backbone.unet) as passes, pytest.raises(SettingsError, match='"oracle" needs the number of regions'):
            grouper(backbone, regions="oracle").regions(pixels())
        assert passes.count == 0

    def test_it_gives_the_true_number_and_says_so(self, backbone: UNetBackbone) -> None:
        pictures = [pixels(number, size=(32, 32)) for number in range(3)]
        found = grouper(backbone, regions="oracle", batch=2).regions(pictures, oracle=[2, 4, 1])
        assert [len(one.names) for one in found] == [2, 4, 1]
        assert {one.record.settings["regions"] for one in found} == {"oracle"}
        assert len(grouper(backbone, regions="oracle").regions(pictures[0], oracle=3).names) == 3

    def test_too_few_numbers(self, backbone: UNetBackbone) -> None:
        with pytest.raises(SettingsError, match="fewer numbers of regions than there are pictures"):
            grouper(backbone, regions="oracle").regions([pixels(), pixels(1)], oracle=[2])


class TestNaming:
    def test_regions_get_the_word_with_the_highest_mean_score_inside(self, backbone: UNetBackbone) -> None:
        labels = "dog, cat|kitten, red apple"
        found = grouper(backbone, regions=5).regions(pixels(size=(30, 40)), labels)
        scores = Segmenter(backbone, "maskdiffusion", settings=NAMING, background="none").segment(pixels(size=(30, 40)), labels)
        for region in found.regions:
            inside = found.label_map == region.number
            best = max(scores.names, key=lambda name: float(scores.score(name)[inside].mean()))
            assert region.name.rstrip("0123456789 ") == best

    def test_naming_changes_neither_regions_nor_their_order(self, backbone: UNetBackbone) -> None:
        plain, named = (grouper(backbone).regions(pixels(), labels) for labels in (None, "dog, cat"))
        assert np.array_equal(plain.label_map, named.label_map) and np.array_equal(plain.scores, named.scores)

    def test_names_differ(self) -> None:
        assert distinct(["dog", "cat", "dog", "Dog", "cat"]) == ("dog", "cat", "dog 2", "Dog 3", "cat 2")
        assert distinct(["dog", "dog", "dog 2"]) == ("dog", "dog 3", "dog 2")
        assert distinct(["dog 2", "dog", "dog"]) == ("dog 2", "dog", "dog 3")

    def test_one_word_names_them_all(self, backbone: UNetBackbone) -> None:
        assert grouper(backbone).regions(pixels(size=(32, 32)), "dog").names == ("dog", "dog 2", "dog 3", "dog 4")

    def test_mean_scores(self) -> None:
        maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]])
        projection = Projection(ScoreMaps(maps, "none", (True, True), "test"), (2, 2))
        means = mean_scores(projection, np.array([[1, 1], [2, 1]], dtype=np.uint16))
        np.testing.assert_allclose(means, [[7 / 3, 3], [8 / 3, 0]])

    def test_the_largest_comes_first_and_ties_keep_their_order(self) -> None:
        label_map = np.array([[3, 3, 5], [1, 5, 4]], dtype=np.uint16)
        assert largest_first(label_map).tolist() == [3, 5, 1, 4]

    def test_it_takes_one_more_pass_for_all_pictures_of_a_batch(self, backbone: UNetBackbone) -> None:
        with Passes(backbone.unet) as passes:
            grouper(backbone, ALL, batch=2).by_method([pixels(), pixels(1)], "dog, cat, owl")
        assert (passes.count, passes.rows) == (2, 4)

    def test_the_record_says_how(self, backbone: UNetBackbone) -> None:
        whole = grouper(backbone)
        named, plain = (whole.regions(pixels(), labels) for labels in ("dog, cat|kitten", None))
        naming = named.record.as_dict()["naming"]
        assert naming["method"] == "maskdiffusion" and naming["settings"]["feature_factors"] == [2, 1]
        assert naming["labels"] == [["dog", []], ["cat", ["kitten"]]]
        assert plain.record.naming is None

    def test_another_method_may_name(self, backbone: UNetBackbone) -> None:
        found = Grouper(backbone, KMEANS, naming="diffsegmenter", naming_settings={"hops": 0}).regions(pixels(), "dog, cat")
        assert found.record.naming is not None and found.record.naming["settings"]["hops"] == 0

    def test_unknown_words_are_told_once(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logging.getLogger("maskwright"), "propagate", True)
        model = build_backbone(sidecar={"words": ["dog", "cat"], "advice": "Ask for animals."})
        with caplog.at_level(logging.WARNING, logger="maskwright"):
            found = grouper(model).regions([pixels(), pixels(1, size=(20, 45))], "dog, yak")
        assert [record.getMessage() for record in caplog.records] == ["tiny does not know yak. Ask for animals."]
        assert found[1].record.warnings == ("tiny does not know yak",)

    def test_labels_are_checked_at_once(self, backbone: UNetBackbone) -> None:
        with pytest.raises(VocabularyError, match="no labels"):
            grouper(backbone).regions_many([pixels()], "")


class TestOptions:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"refine": "crf"}, "unknown refine 'crf': use none, guided, pamr"),
            ({"batch": 0}, "batch must be at least 1"),
            ({"method": "daam"}, "unknown method 'daam': choose one of maskdiffusion-unsupervised, diffseg, diffcut, kmeans"),
            ({"method": ["diffseg", "daam"]}, "unknown method 'daam'"),
            ({"settings": {"steps": 1}}, "has no setting steps"),
            ({"regions": 0}, "regions must be a whole number of at least 1"),
            ({"naming": "nope"}, "unknown method 'nope': choose one of diffsegmenter, maskdiffusion"),
            ({"naming_settings": {"steps": 1}}, "maskdiffusion has no setting steps"),
        ],
    )
    def test_they_are_told_before_a_model_is_loaded(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Grouper("/no/such/folder", **wrong)

    def test_methods_must_differ(self, backbone: UNetBackbone) -> None:
        for methods in ([], [KMEANS, KMeans()]):
            with pytest.raises(SettingsError, match="one or more different methods"):
                grouper(backbone, methods)
        with pytest.raises(SettingsError, match="settings go into the method object"):
            grouper(backbone, settings={"regions": 2})

    def test_the_record_makes_the_result_again(self, tmp_path: Path) -> None:
        folder = save_folder(tmp_path / "tiny")
        settings = {"feature_factors": FACTORS}
        found = Grouper(folder, "kmeans", settings=settings, regions=3, seed=5, device="cpu").regions(pixels())
        record = found.record
        assert (record.model, record.method, record.seed, record.prompting) == (str(folder), "kmeans", 5, None)
        assert set(record.timings) == {"read", "group", "full_size"} and record.versions["torch"] == torch.__version__
        same(Grouper(record.model, record.method, settings=record.settings, seed=record.seed, device="cpu").regions(pixels()), found)
