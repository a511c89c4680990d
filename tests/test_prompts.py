"""What is drawn: templates, and the order in which labels and prompts come."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from maskwright.discovery.prompts import LabelPrompts, ListedPrompts, unknown_words
from maskwright.discovery.seeds import mix, pair_seed, shuffled
from maskwright.discovery.templates import Templates, fill, read_lines
from maskwright.errors import SettingsError
from maskwright.text.prompts import find_labels
from maskwright.vocabulary import Vocabulary

ANIMALS = Vocabulary.parse("dog, cat|kitten, owl, red apple, apple")
OWN = Templates.suited({})


def counts(prompts: LabelPrompts | ListedPrompts, places: int, vocabulary: Vocabulary) -> Counter[str]:
    """How often each label is named in the first places."""
    tally = Counter({label.name: 0 for label in vocabulary.foreground})
    for number in range(places):
        tally.update(label.name for label in prompts.request(number, 0).labels)
    return tally


@pytest.mark.parametrize("objects", [(1, 1), (2, 2), (1, 3), (5, 5)])
def test_every_prefix_is_balanced(objects: tuple[int, int]) -> None:
    prompts = LabelPrompts(ANIMALS, OWN, objects=objects, seed=3)
    sizes = set()
    for places in range(1, 60):
        tally = counts(prompts, places, ANIMALS)
        assert max(tally.values()) - min(tally.values()) <= 1
        names = [label.name for label in prompts.request(places, 0).labels]
        assert len(set(names)) == len(names) and objects[0] <= len(names) <= objects[1]
        sizes.add(len(names))
    assert sizes == set(range(objects[0], objects[1] + 1))


def test_rounds_differ_from_each_other_and_between_seeds() -> None:
    orders = {
        tuple(LabelPrompts(ANIMALS, OWN, seed=seed).request(5 * turn + place, 0).labels[0].name for place in range(5))
        for seed in range(3)
        for turn in range(4)
    }
    assert len(orders) > 6 and all(sorted(order) == sorted(ANIMALS.names) for order in orders)


def test_every_prompt_holds_its_labels_once_and_no_other() -> None:
    for objects in ((1, 1), (3, 3)):
        prompts = LabelPrompts(ANIMALS, OWN, objects=objects)
        for number in range(200):
            request = prompts.request(number, number % 3)
            found = find_labels(request.prompt, ANIMALS.foreground)
            assert tuple(found) == request.labels and all(len(spans) == 1 for spans in found.values())
            assert "a owl" not in request.prompt and "{" not in request.prompt


def test_a_request_depends_on_seed_place_and_attempt_alone() -> None:
    asked = LabelPrompts(ANIMALS, OWN, objects=(1, 2), seed=5)
    everything = {(number, attempt): asked.request(number, attempt) for attempt in range(3) for number in range(30)}
    for task in ((17, 2), (3, 0), (29, 1)):
        assert LabelPrompts(ANIMALS, OWN, objects=(1, 2), seed=5).request(*task) == everything[task]
    assert all(everything[number, 0].labels == everything[number, 2].labels for number in range(30))
    assert sum(everything[number, 0].prompt != everything[number, 1].prompt for number in range(30)) > 15
    other = LabelPrompts(ANIMALS, OWN, objects=(1, 2), seed=6)
    assert [other.request(number, 0) for number in range(30)] != [everything[number, 0] for number in range(30)]


def test_seeds_never_change() -> None:
    """Data sets that exist can be made again only as long as these numbers stay."""
    assert pair_seed(0, 17, 2) == mix("pair", 0, 17, 2) == 1591218888632108473
    assert shuffled(6, "round", 0, 0) == [4, 3, 2, 0, 1, 5]
    assert len({pair_seed(*task) for task in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (0, 12, 0), (0, 1, 20))}) == 5
    assert mix("1") != mix(1) and mix("ab", "c") != mix("a", "bc")


def test_a_third_of_the_prompts_is_plain() -> None:
    prompts = LabelPrompts(Vocabulary.parse("dog"), OWN)
    texts = [prompts.request(number, 0).prompt for number in range(600)]
    assert 160 < texts.count("a photo of a dog") < 240
    assert len(set(texts)) == 1 + len(OWN.scenes)
    only = LabelPrompts(Vocabulary.parse("dog"), Templates((), ("{} and snow",)))
    assert only.request(0, 0).prompt == "dog and snow"


@pytest.mark.parametrize(
    ("template", "names", "prompt"),
    [
        ("a photo of a {}", ["owl"], "a photo of an owl"),
        ("An {} outside", ["dog"], "A dog outside"),
        ("a {} on snow", ["dog", "owl"], "a dog and an owl on snow"),
        ("the {} at night", ["dog", "owl"], "the dog and the owl at night"),
        ("snow with {}", ["dog", "cat", "owl"], "snow with dog, cat and owl"),
        ("a {}", ["unicorn"], "a unicorn"),
        ("a {}", ["hourglass"], "an hourglass"),
        ("pizza {}", ["Umbrella"], "pizza Umbrella"),
    ],
)
def test_articles_fit_their_words(template: str, names: list[str], prompt: str) -> None:
    assert fill(template, names) == prompt


def test_a_template_that_names_a_label_is_left_out() -> None:
    templates = Templates(("a {}",), ("a {} and its cat", "a {} with two kittens", "a {} under a tree"))
    assert LabelPrompts(ANIMALS, templates).texts()[:2] == ("a {}", "a {} under a tree")
    with pytest.raises(SettingsError, match="every template names one of the labels"):
        LabelPrompts(ANIMALS, Templates((), ("a {} and its cat",)))
    hot = LabelPrompts(Vocabulary.parse("dog, hot dog"), Templates((), ("a hot {}", "a {} outside")))
    assert {hot.request(number, 0).prompt for number in range(20)} <= {"a dog outside", "a hot dog outside", "a hot hot dog"}


def test_a_label_that_the_rest_of_the_sentence_holds_too_cannot_be_drawn() -> None:
    with pytest.raises(SettingsError, match="no template holds"):
        LabelPrompts(Vocabulary.parse("dog, and"), Templates((), ("a {}",)), objects=(2, 2))  # "a dog and an and"


def test_templates_that_get_too_long_are_passed_over() -> None:
    templates = Templates((), ("a {}", "a {} in a wide empty landscape"))
    short = LabelPrompts(ANIMALS, templates, fits=lambda prompt: len(prompt) < 20)
    assert {short.request(number, 0).prompt for number in range(20)} == {"a dog", "a cat", "an owl", "a red apple", "an apple"}
    with pytest.raises(SettingsError, match="no template holds red apple and apple once and is short enough"):
        LabelPrompts(ANIMALS, templates, objects=(1, 2), fits=lambda prompt: len(prompt) < 20)


def test_a_models_own_templates_come_first() -> None:
    assert Templates.suited({"templates": ["a {} on grass"]}) == Templates(OWN.plain, ("a {} on grass",))
    assert Templates.suited({"templates": [], "plain": ["a {}"]}) == Templates(("a {}",), ())


LISTED = ("a dog", "a dog in the rain", "two kittens asleep", "an owl and a cat", "a dog barks", "rain")


def test_listed_prompts_take_turns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "maskwright"):
        prompts = ListedPrompts(ANIMALS, LISTED, seed=1)
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 6 prompts name no label and are skipped",
        "no prompt names red apple, apple",
    ]
    named = Vocabulary.parse("dog, cat, owl")
    for places in range(1, 40):
        tally = counts(prompts, places, named)
        assert max(tally.values()) - min(tally.values()) <= max(1, places // 3)  # an owl never comes without a cat
        assert abs(tally["dog"] - tally["owl"]) <= 1
    uses = Counter(prompts.request(number, 0).prompt for number in range(40))
    assert set(uses) == {*LISTED} - {"rain"}
    assert max(uses[text] for text in LISTED if "dog" in text) - min(uses[text] for text in LISTED if "dog" in text) <= 1


def test_listed_prompts_depend_on_seed_place_and_attempt_alone() -> None:
    asked = ListedPrompts(ANIMALS, LISTED)
    everything = {(number, attempt): asked.request(number, attempt) for attempt in range(4) for number in range(20)}
    assert ListedPrompts(ANIMALS, LISTED).request(11, 3) == everything[11, 3]
    for number in range(20):  # all attempts share a label, and not all a prompt
        assert set.intersection(*({*everything[number, attempt].labels} for attempt in range(4)))
    assert any(everything[number, 0] != everything[number, 1] for number in range(20))


def test_listed_prompts_that_cannot_be_used() -> None:
    with pytest.raises(SettingsError, match="no prompt can be used: 1 of 2 name no label, 1 are too long"):
        ListedPrompts(ANIMALS, ["rain", "a very long dog"], fits=lambda prompt: len(prompt) < 10)


def test_words_that_a_closed_model_does_not_know() -> None:
    prompts = LabelPrompts(ANIMALS, Templates((), ("a {} by the sea",)))
    assert unknown_words(prompts, None) == ()
    assert unknown_words(prompts, ["a", "by", "dog", "cat", "red", "apple"]) == ("the", "sea", "owl")
    assert unknown_words(ListedPrompts(ANIMALS, ["a Dog barks"]), ["a", "dog"]) == ("barks",)


def test_settings_change_with_what_is_drawn() -> None:
    one, other = (ListedPrompts(ANIMALS, texts).settings() for texts in (["a dog"], ["a dog "]))
    assert one != other and one["prompts"] == 1
    assert LabelPrompts(ANIMALS, OWN).settings() != LabelPrompts(ANIMALS, OWN, objects=(1, 2)).settings()


def test_files_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("\ufeffa  {} outside\n\n# no template\na {} inside\n", encoding="utf-8")
    assert read_lines(path, "templates") == ["a {} outside", "a {} inside"]
    assert Templates.from_file(path) == Templates((), ("a {} outside", "a {} inside"))
    path.write_text("# nothing\n \n")
    with pytest.raises(SettingsError, match=r"lines\.txt holds no prompts"):
        read_lines(path, "prompts")
    with pytest.raises(SettingsError, match=r"cannot read prompts from .* \(No such file"):
        read_lines(tmp_path / "missing", "prompts")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_lines(path, "prompts")


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (((), ()), "no templates"),
        (((), ("a dog",)), "must hold {} exactly once"),
        ((("{} {}",), ()), "exactly once"),
        ((("a {}", 3), ()), "texts"),
    ],
)
def test_templates_that_are_none(templates: tuple[tuple[str, ...], tuple[str, ...]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Templates(*templates)


@pytest.mark.parametrize("objects", [(0, 1), (2, 1), (1, 6)])
def test_a_number_of_objects_that_is_none(objects: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match="of 5 labels"):
        LabelPrompts(ANIMALS, OWN, objects=objects)
