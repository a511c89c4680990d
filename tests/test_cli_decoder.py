"""`discover` and `segment` with a trained decoder, and decoders in `evaluate`; the decoders here were never trained."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.datasets.registry import open_dataset
from maskwright.datasets.scenes import load_words
from maskwright.decoders.decoder import Decoder
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.task import Task
from tests.command_line import documents, load_once, no_model, outputs, refused, run, scene, surroundings, three
from tests.tiny_decoders import build_decoder

__all__ = ["no_model", "surroundings"]  # fixtures, the second of every test here

THINGS = len(load_words().objects)
FOUND = (".mask.png", ".overlay.png", ".json")


def saved(name: str, *, labels: str = "", **settings: object) -> str:
    """Folder of a decoder for the bundled model."""
    build_decoder(load_once("sticker"), labels=labels, **settings).save(name)
    return name


def test_discover_needs_no_words_and_writes_three_files() -> None:
    result = run("discover", scene(Path("in/a.png"), side=80), "--decoder", saved("decoder"), "--boxes", "--out", "out")
    assert outputs(Path("out")) == sorted(f"a{ending}" for ending in FOUND)
    assert "object" in result.stdout and "box (x, y, width, height)" in result.stdout and "the word" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert "sticker" in line and line.endswith("; diffusionseg, without words")
    document = json.loads(Path("out/a.json").read_text())
    assert (document["words"], document["record"]["method"]) == (["object"], "diffusionseg")
    with Image.open("out/a.mask.png") as mask:
        assert mask.size == (80, 80) and np.count_nonzero(np.array(mask)) == document["area"]


def test_the_method_may_be_named_and_batches_give_what_single_pictures_give() -> None:
    decoder = saved("decoder", inversion="partial", steps=2)
    for number in range(3):
        scene(Path(f"in/{number}.png"), number)
    together = documents(run("discover", "in", "--decoder", decoder, "--method", "diffusionseg", "--json", "--out", "out"))
    alone = documents(run("discover", "in/1.png", "--decoder", decoder, "--json", "--batch", "1", "--out", "other"))
    assert len(together) == 3 and together[1]["score"] == pytest.approx(alone[0]["score"], abs=1e-3)


def test_a_decoder_with_words_takes_them_or_chooses() -> None:
    picture, decoder = scene(Path("a.png")), saved("decoder", prior="match")
    assert documents(run("discover", picture, "--decoder", decoder, "-l", "owl, dog", "--json"))[0]["words"] == ["owl", "dog"]
    (chosen,) = documents(run("discover", picture, "--decoder", decoder, "-l", "owl, dog", "--match", "--json"))
    assert chosen["words"] in (["owl"], ["dog"]) and chosen["choice"] == "best match of the given words"
    own = run("discover", picture, "--decoder", decoder)
    assert "the word: best match of the model's words" in own.stdout


def test_resume_keeps_what_the_same_decoder_made_wherever_it_lies() -> None:
    picture, document = scene(Path("a.png")), Path("out/a.json")

    def made_again(decoder: str, *arguments: str) -> bool:
        changed = document.stat().st_mtime_ns if document.exists() else 0
        run("discover", picture, "--out", "out", "-q", "--resume", "--decoder", decoder, *arguments)
        return document.stat().st_mtime_ns != changed

    one, other = saved("one"), saved("other", seed=1)
    assert made_again(one) and not made_again(one)
    assert made_again(other) and not made_again(other)  # the same settings, other weights
    saved("one")
    assert made_again(one) and made_again(one, "--refine", "guided")
    Path(other).rename("elsewhere")
    assert made_again("elsewhere") and not made_again("elsewhere")


def test_segment_gives_the_decoders_classes_or_those_that_are_asked_for() -> None:
    picture, decoder = scene(Path("a.png"), side=80), saved("decoder", labels="owl, dog|hound, cat")
    result = run("segment", picture, "--decoder", decoder, "--out", "out")
    assert outputs(Path("out")) == three("a") and "3 of 3 classes compete" in result.stderr
    (some,) = documents(run("segment", picture, "--decoder", decoder, "-l", "hound, owl", "--json", "--out", "some"))
    assert [label["name"] for label in some["labels"]] == ["dog", "owl"] and some["background"]["names"] == ["background"]
    assert some["record"]["method"] == "diffusionseg-semantic"


def test_resume_of_segment_follows_decoder_and_labels() -> None:
    picture, document, decoder = scene(Path("a.png")), Path("out/a.json"), saved("decoder", labels="owl, dog, cat")

    def made_again(*arguments: str) -> bool:
        changed = document.stat().st_mtime_ns if document.exists() else 0
        run("segment", picture, "--out", "out", "-q", "--resume", *arguments)
        return document.stat().st_mtime_ns != changed

    assert made_again("--decoder", decoder) and not made_again("--decoder", decoder)
    assert made_again("--decoder", decoder, "-l", "owl") and not made_again("--decoder", decoder, "-l", "owl")
    assert made_again("--decoder", saved("other", labels="owl, dog, cat", seed=1), "-l", "owl")
    assert made_again("-l", "owl")  # no decoder at all


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("discover", ["--decoder", "missing"], "'missing' holds no decoder (no decoder.json): give a folder that `maskwright train` wrote"),
        ("discover", ["--decoder", " "], "--decoder is empty"),
        ("discover", ["--decoder", "x", "--method", "daam"], "--decoder is for --method diffusionseg, not for daam"),
        ("discover", ["--decoder", "x", "--set", "timestep=50"], "--set has nothing to set"),
        ("discover", ["--decoder", "x", "--background", "grass"], "a decoder knows the background itself"),
        ("discover", ["--decoder", "x", "--model", "nope"], "unknown model 'nope'"),
        ("segment", ["--decoder", "missing"], "'missing' holds no decoder"),
        ("segment", ["--decoder", ""], "--decoder is empty"),
        ("segment", ["--decoder", "x", "--method", "diffsegmenter"], "--method: a decoder was settled when it was trained"),
        ("segment", ["--decoder", "x", "--prompting", "joint", "--tile", "auto"], "--prompting, --tile: a decoder was settled"),
        ("segment", ["--decoder", "x", "--flip"], "--flip: a decoder was settled"),
        ("segment", ["--decoder", "x", "--filter", "clip"], "--filter: a decoder was settled"),
        ("segment", ["--decoder", "x", "--background", "0.5"], "--background: a decoder was settled"),
        ("segment", ["--decoder", "x", "--set", "hops=2", "--caption"], "--set, --caption: a decoder was settled"),
        ("segment", ["--decoder", "x", "-l", " , "], "no labels"),
        ("segment", ["--decoder", "x", "--batch", "0"], "--batch is '0'"),
    ],
)
def test_options_that_cannot_be_used(command: str, options: list[str], message: str) -> None:
    assert message in refused(command, scene(Path("a.png")), *options)


def test_each_command_refuses_the_other_kind_of_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    saliency, semantic, picture = saved("saliency"), saved("semantic", labels="owl, dog"), scene(Path("a.png"))
    assert "'semantic' finds classes, not what stands out: use it with segment" in refused("discover", picture, "--decoder", semantic)
    assert "'saliency' finds what stands out, not classes: use it with discover" in refused("segment", picture, "--decoder", saliency)


def test_what_only_the_decoder_and_the_model_together_can_tell() -> None:
    saliency, semantic, picture = saved("saliency"), saved("semantic", labels="owl, dog"), scene(Path("a.png"))
    assert "trained without words" in refused("discover", picture, "--decoder", saliency, "-l", "owl")
    assert "not trained for 'cat': it knows owl, dog" in refused("segment", picture, "--decoder", semantic, "-l", "owl, cat")
    document = json.loads(Path("saliency/decoder.json").read_text())
    document["model"]["source"] = document["model"]["revision"] = "another"
    Path("saliency/decoder.json").write_text(json.dumps(document))
    assert "was trained on another" in refused("discover", picture, "--decoder", saliency)
    assert not Path("maskwright-out/a.json").exists()


def test_without_a_bundled_decoder_one_line_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwright.decoders.decoder.ASSETS", Path())
    for options in (["--method", "diffusionseg"], ["--decoder", "bundled"]):
        assert "train one with `maskwright train`" in refused("discover", scene(Path("a.png")), *options)


def test_the_bundled_decoder_is_for_the_bundled_model() -> None:
    (found,) = documents(run("discover", scene(Path("a.png")), "--method", "diffusionseg", "--json"))
    assert found["record"]["method"] == "diffusionseg" and Decoder.load("bundled").settings.task == "saliency"


class TestEvaluate:
    def test_decoders_are_measured_beside_other_methods_on_what_stands_out(self) -> None:
        saved("one"), saved("two", seed=1)
        options = ["--method", "diffusionseg,daam", "--sweep", "decoder=one,two", "--labels", "@truth", "--limit", "2", "--overlays", "0"]
        result = run("evaluate", "--dataset", "scenes-foreground", *options, "--set", "daam.timesteps=100", "--out", "out", "--json")
        (summary,) = documents(result)
        assert list(summary["methods"]) == ["diffusionseg[decoder=one]", "diffusionseg[decoder=two]", "daam"]
        wanted = {"iou", "accuracy", "mae", "max_f_tokencut", "max_f_selfmask", "max_e", "weighted_f", "corloc"}
        for method in summary["methods"].values():
            assert wanted <= set(method["metrics"]) and not method["failed"]
            assert all(method["metrics"][name]["low"] <= method["metrics"][name]["high"] for name in wanted)
        one, two = (summary["methods"][f"diffusionseg[decoder={name}]"]["settings"]["digest"] for name in ("one", "two"))
        assert one != two and summary["dataset"]["words"] == "@truth"

    def test_a_semantic_decoder_is_measured_on_the_classes_that_it_knows(self) -> None:
        names = [word.name for word in load_words().objects]
        saved("all", labels=", ".join(names)), saved("few", labels="unheard of, " + ", ".join(names[:5]))
        options = ["--method", "diffusionseg-semantic", "--sweep", "decoder=all,few", "--limit", "2", "--out", "out", "--overlays", "1"]
        (summary,) = documents(run("evaluate", "--dataset", "scenes-objects", *options, "--json"))
        for method in summary["methods"].values():
            assert method["headline"] == "miou" and not method["failed"]
        rows = np.array(summary["methods"]["diffusionseg-semantic[decoder=few]"]["confusion"])
        assert not rows[:, 6:-1].any() and rows[:, :6].any()  # what a decoder does not know is never found

    @pytest.mark.usefixtures("no_model")
    def test_what_cannot_be_measured_is_told_before_a_model_is_loaded(self) -> None:
        backbone_free = {
            ("scenes", "diffusionseg"): "finds one object, which a set of classes cannot measure",
            ("scenes-foreground", "diffusionseg-semantic"): "finds classes, which a set of foreground cannot measure",
            ("scenes-foreground", "diffusionseg"): "'missing' holds no decoder",
        }
        for (dataset, method), message in backbone_free.items():
            assert message in refused("evaluate", "--dataset", dataset, "--method", method, "--set", "decoder=missing", "--out", "out")
        assert "has no words for its pictures" in refused(
            "evaluate", "--dataset", f"folder:{folder_of_masks()}", "--labels", "@truth", "--method", "daam", "--out", "out"
        )

    def test_a_decoder_that_knows_no_class_of_the_set_is_refused(self) -> None:
        saved("strange", labels="unheard of")
        line = refused(
            "evaluate", "--dataset", "scenes-objects", "--method", "diffusionseg-semantic", "--set", "decoder=strange", "--out", "out"
        )
        assert "knows no class of scenes-objects" in line


def folder_of_masks() -> Path:
    """One picture and its mask."""
    for name in ("images", "masks"):
        scene(Path(f"set/{name}/a.png"))
    return Path("set")


class TestScenesAsForeground:
    def test_all_objects_stand_against_the_ground_and_each_is_one(self) -> None:
        plain, found = open_dataset("scenes").items[1], open_dataset("scenes-foreground").items[1]
        picture = found.open()
        labels, objects = plain.labels(picture), found.objects(picture)
        assert np.array_equal(picture.pixels, plain.open().pixels) and found.name == plain.name
        assert np.array_equal(found.foreground(picture), labels < THINGS) and np.array_equal(objects > 0, labels < THINGS)
        assert np.array_equal(objects[objects > 0] - 1, labels[objects > 0])

    def test_a_box_hits_where_it_fits_any_object(self) -> None:
        dataset = open_dataset("scenes-foreground")
        task = Task(dataset, Protocol())
        item = next(item for item in dataset.items if len(np.unique(item.objects(item.open()))) == 3)
        truth = task.truth(item, item.open())
        for number in np.unique(truth)[1:]:
            alone = (truth == number).astype(np.float32)
            assert task.count_foreground(truth, alone, None)["boxes"]["hit"]
        counted = task.count_foreground(truth, (truth > 0).astype(np.float32), None)
        assert counted["saliency"]["error"] == 0 and task.count_failure(truth, "diffusionseg", None)["saliency"]["error"] == 1

    def test_its_words_are_those_of_the_scene_the_ground_as_background(self) -> None:
        item = open_dataset("scenes-foreground", split="tuning").items[0]
        words = item.words()
        known = load_words().all
        present = [known[place].name for place in np.unique(open_dataset("scenes", split="tuning").items[0].labels(item.open()))]
        assert words is not None and list(words.names) == present and [label.background for label in words][-1]

    def test_objects_as_classes_are_numbered_as_synthesized_pairs_are(self) -> None:
        plain, objects = open_dataset("scenes"), open_dataset("scenes-objects")
        assert objects.background == 0 and objects.vocabulary.names[1:] == tuple(word.name for word in load_words().objects)
        picture = plain.items[2].open()
        labels, found = plain.items[2].labels(picture), objects.items[2].labels(picture)
        assert np.array_equal(found, np.where(labels < THINGS, labels + 1, 0))
