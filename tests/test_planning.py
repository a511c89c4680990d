import pytest
import torch

from maskwright.backbones.text_tower import TextTower
from maskwright.errors import SettingsError, VocabularyError
from maskwright.readings.keys import Token
from maskwright.text.planning import TextPlan, plan_text
from maskwright.text.wording import Wording
from maskwright.vocabulary import Label, Vocabulary
from tests.tolerances import assert_close

WORDING = Wording(template="a photograph of a {}")
MANY = [f"{first} {second}" for first in "dog cat owl red sky zebu yak emu ant eel".split() for second in "abcdefghijklmnopqr"][:171]


def words(tower: TextTower, texts: list[str], tokens: tuple[Token, ...]) -> str:
    """What the tokens of a label spell in these texts, groups of a joint prompt laid end to end."""
    ids = [tower.tokenizer(text, padding="max_length", max_length=tower.length).input_ids for text in texts]
    flat = [token for row in ids for token in row]
    return tower.tokenizer.decode([flat[text * tower.length + place] for text, place in tokens]).strip()


@pytest.mark.parametrize("label", ["dog", "traffic light", "t-shirt", "café", "🦉"])
@pytest.mark.parametrize("prompting", ["shared", "per-label", "joint"])
def test_property_6_a_label_owns_all_its_tokens(tower: TextTower, label: str, prompting: str) -> None:
    plan = plan_text(tower, Vocabulary.parse(["cat", label, "sky"]), WORDING, prompting)
    texts = ["a photograph of a cat", f"a photograph of a {label}", "a photograph of a sky"]
    if prompting == "joint":
        texts = [f"a photograph of a cat and {label} and sky"]
    (tokens,) = plan.keys.columns[1]
    assert words(tower, texts, tokens).replace(" ", "") == label.replace(" ", "")


def test_last_token_only(tower: TextTower) -> None:
    wording = Wording(template="a {}", tokens="last")
    plan = plan_text(tower, Vocabulary.parse(["traffic light"]), wording, "shared")
    (tokens,) = plan.keys.columns[0]
    assert len(tokens) == 1 and words(tower, ["a traffic light"], tokens) == "light"


def test_shared_mode_tells_the_model_nothing(tower: TextTower) -> None:
    plan = plan_text(tower, Vocabulary.parse("dog, cat"), WORDING, "shared")
    (one,) = plan.passes
    assert one.labels == (0, 1) and torch.equal(one.condition, tower.encode([""]).embeddings)


def test_per_label_mode_reads_a_label_under_its_name_and_asks_for_its_synonyms_too(tower: TextTower) -> None:
    plan = plan_text(tower, Vocabulary.parse("dog|red dog, cat"), WORDING, "per-label")
    assert [one.labels for one in plan.passes] == [(0,), (1,)]
    expected = tower.encode(["a photograph of a dog", "a photograph of a cat"]).embeddings
    assert torch.equal(torch.cat([one.condition for one in plan.passes]), expected)
    assert [len(label) for label in plan.keys.columns] == [2, 1]
    texts = [f"a photograph of a {name}" for name in ("dog", "red dog", "cat")]
    assert [words(tower, texts, name) for label in plan.keys.columns for name in label] == ["dog", "red dog", "cat"]


class TestJoint:
    def test_maskdiffusion_property_3_three_classes(self, tower: TextTower) -> None:
        plan = plan_text(tower, Vocabulary.parse(["traffic light", "fire hydrant", "sky"]), Wording(), "joint")
        prompt = "traffic light and fire hydrant and sky"
        assert torch.equal(plan.passes[0].condition, tower.encode([prompt]).embeddings)
        spelled = [words(tower, [prompt], name) for (name,) in plan.keys.columns]
        assert [text.replace(" ", "") for text in spelled] == ["trafficlight", "firehydrant", "sky"]

    def test_maskdiffusion_property_3_171_labels_are_split_and_none_is_cut(self, tower: TextTower) -> None:
        plan = plan_text(tower, Vocabulary.parse(MANY), Wording(), "joint")
        (one,) = plan.passes
        groups = one.condition.shape[1] // tower.length
        assert one.labels == tuple(range(171)) and groups > 1 and one.condition.shape[1] == groups * tower.length
        owner = [columns[0][0][1] // tower.length for columns in plan.keys.columns]
        texts = [" and ".join(name for name, group in zip(MANY, owner, strict=True) if group == number) for number in range(groups)]
        assert owner == sorted(owner) and all(tower.count_tokens(text) <= tower.room for text in texts)
        assert [words(tower, texts, name).replace(" ", "") for (name,) in plan.keys.columns] == [name.replace(" ", "") for name in MANY]
        assert torch.equal(one.condition[0], tower.encode(texts).embeddings.flatten(0, 1))

    def test_permuting_labels_permutes_columns(self, tower: TextTower) -> None:
        order = [2, 0, 3, 1]
        names = ["dog", "red apple", "cat", "owl"]
        plan = plan_text(tower, Vocabulary.parse([names[n] for n in order]), Wording(), "joint")
        prompt = " and ".join(names[n] for n in order)
        assert [words(tower, [prompt], name) for (name,) in plan.keys.columns] == [names[n] for n in order]

    def test_synonyms_stand_beside_each_other(self, tower: TextTower) -> None:
        plan = plan_text(tower, Vocabulary.parse("dog|red dog, cat"), Wording(), "joint")
        prompt = "dog and red dog and cat"
        assert [[words(tower, [prompt], name) for name in label] for label in plan.keys.columns] == [["dog", "red dog"], ["cat"]]


def test_permuting_labels_permutes_columns_of_separate_prompts(tower: TextTower) -> None:
    plan = plan_text(tower, Vocabulary.parse("dog, traffic light, cat"), WORDING, "per-label")
    other = plan_text(tower, Vocabulary.parse("cat, dog, traffic light"), WORDING, "per-label")
    for here, there in ((0, 1), (1, 2), (2, 0)):
        assert_close(plan.passes[here].condition, other.passes[there].condition)
        assert [token[1] for token in plan.keys.columns[here][0]] == [token[1] for token in other.keys.columns[there][0]]


class TestEmphasis:
    """Property 5: e' = e0 + w (e - e0) on the label's tokens."""

    @pytest.mark.parametrize("prompting", ["per-label", "joint"])
    def test_1_leaves_the_embeddings_bit_exact(self, tower: TextTower, prompting: str) -> None:
        plan = plan_text(tower, Vocabulary.parse("traffic light"), Wording(template="a {}", emphasis=1.0), prompting)
        assert torch.equal(plan.passes[0].condition, tower.encode(["a traffic light"]).embeddings)

    @pytest.mark.parametrize("prompting", ["per-label", "joint"])
    def test_1_21_moves_the_labels_tokens_only(self, tower: TextTower, prompting: str) -> None:
        wording = Wording(template="a photograph of a {}", emphasis=1.21)
        plan = plan_text(tower, Vocabulary.parse("traffic light"), wording, prompting)
        before, empty = tower.encode(["a photograph of a traffic light", ""]).embeddings
        own = [place for _, place in plan.keys.columns[0][0]]
        others = [place for place in range(tower.length) if place not in own]
        after = plan.passes[0].condition[0]
        assert torch.equal(after[others], before[others])
        assert_close(after[own], empty[own] + 1.21 * (before[own] - empty[own]))

    @pytest.mark.parametrize("prompting", ["shared", "per-label", "joint"])
    def test_the_whole_name_is_emphasised_whichever_token_makes_the_map(self, tower: TextTower, prompting: str) -> None:
        vocabulary = Vocabulary.parse("traffic light, red apple")
        every, last = (
            plan_text(tower, vocabulary, Wording(template="a {}", emphasis=1.21, tokens=tokens), prompting) for tokens in ("all", "last")
        )
        assert torch.equal(last.keys.embeddings, every.keys.embeddings)
        for one, other in zip(last.passes, every.passes, strict=True):
            assert torch.equal(one.condition, other.condition)
        assert [label[0] for label in last.keys.columns] == [label[0][-1:] for label in every.keys.columns]

    def test_a_participle_of_the_caption_is_not_emphasised(self, tower: TextTower) -> None:
        wording = Wording(emphasis=1.21, participle=True)
        plan = plan_text(tower, Vocabulary.parse("dog"), wording, "per-label", continue_prompt=lambda text: text + " running on grass")
        before, empty = tower.encode(["dog running on grass", ""]).embeddings
        name, participle = (place for _, place in plan.keys.columns[0][0])
        after = plan.passes[0].condition[0]
        assert torch.equal(after[participle], before[participle])
        assert_close(after[name], empty[name] + 1.21 * (before[name] - empty[name]))

    def test_what_is_remembered_stays_plain(self, tower: TextTower) -> None:
        before = tower.encode(["a photograph of a dog"]).embeddings.clone()
        plan_text(tower, Vocabulary.parse("dog"), Wording(template="a photograph of a {}", emphasis=2.0), "per-label")
        assert torch.equal(tower.encode(["a photograph of a dog"]).embeddings, before)

    def test_changed_weights_count_once_the_memory_is_cleared(self, tower: TextTower) -> None:
        parameter = next(tower.encoder.parameters())
        before, weight = tower.encode(["a rare text"]).embeddings.clone(), parameter.detach().clone()
        try:
            parameter.data.mul_(2)
            assert torch.equal(tower.encode(["a rare text"]).embeddings, before)
            tower.forget()
            assert not torch.equal(tower.encode(["a rare text"]).embeddings, before)
        finally:
            parameter.data.copy_(weight)
            tower.forget()


class TestCaptions:
    def plan(self, tower: TextTower, caption: str, **options: object) -> tuple[TextPlan, list[str]]:
        written: list[str] = []

        def carry_on(prompt: str) -> str:
            written.append(prompt + caption)
            return written[-1]

        wording = Wording(**({"template": "a photograph of a {}"} | options))
        return plan_text(tower, Vocabulary.parse("dog, cat"), wording, "per-label", continue_prompt=carry_on), written

    def test_each_labels_prompt_is_continued(self, tower: TextTower) -> None:
        plan, written = self.plan(tower, " on grass")
        assert written == ["a photograph of a dog on grass", "a photograph of a cat on grass"]
        assert torch.equal(torch.cat([one.condition for one in plan.passes]), tower.encode(written).embeddings)

    @pytest.mark.parametrize(("participle", "expected"), [(True, "dog running"), (False, "dog")])
    def test_a_participle_counts_when_asked_for(self, tower: TextTower, participle: bool, expected: str) -> None:
        plan, written = self.plan(tower, " running on grass", participle=participle)
        assert words(tower, written, plan.keys.columns[0][0]) == expected

    def test_a_caption_that_is_too_long_loses_its_last_words(self, tower: TextTower) -> None:
        plan, written = self.plan(tower, " on grass" * 60)
        kept = "a photograph of a dog" + " on grass" * 60
        while tower.count_tokens(kept) > tower.room:
            kept = kept.rpartition(" ")[0]
        assert tower.count_tokens(written[0]) > tower.room == tower.count_tokens(kept)
        assert torch.equal(plan.passes[0].condition, tower.encode([kept]).embeddings)
        assert words(tower, [kept], plan.keys.columns[0][0]) == "dog"

    def test_joint_prompts_are_not_continued(self, tower: TextTower) -> None:
        plan = plan_text(tower, Vocabulary.parse("dog"), Wording(), "joint", continue_prompt=lambda text: text + " on grass")
        assert torch.equal(plan.passes[0].condition, tower.encode(["dog"]).embeddings)


class TestRefusals:
    @pytest.mark.parametrize("prompting", ["shared", "per-label", "joint"])
    def test_a_label_that_does_not_fit(self, tower: TextTower, prompting: str) -> None:
        with pytest.raises(VocabularyError, match=r"has \d+ tokens, this model reads 75: use a shorter"):
            plan_text(tower, Vocabulary.parse(["dog", "q" * 90]), WORDING, prompting)

    def test_a_label_that_just_fits(self, tower: TextTower) -> None:
        plan = plan_text(tower, Vocabulary.parse(["q" * 75]), Wording(), "shared")
        assert [place for _, place in plan.keys.columns[0][0]] == list(range(1, 76))
        assert bool(torch.isfinite(plan.keys.embeddings).all())

    def test_an_unknown_mode(self, tower: TextTower) -> None:
        with pytest.raises(SettingsError, match="shared, per-label, joint"):
            plan_text(tower, Vocabulary.parse("dog"), WORDING, "each")  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [{"template": "a photo"}, {"template": "{} {}"}, {"tokens": "first"}, {"padding": "none"}])
    def test_wordings_that_cannot_be_used(self, wrong: dict[str, str]) -> None:
        with pytest.raises(SettingsError):
            Wording(**wrong)  # type: ignore[arg-type]


class TestTower:
    def test_what_was_encoded_is_not_encoded_again(self, tower: TextTower) -> None:
        first = tower.encode(["a cat on snow", "a cat on snow", "tree"])
        assert torch.equal(first.embeddings[0], first.embeddings[1])
        calls: list[int] = []
        handle = tower.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
        again = tower.encode(["tree", "a cat on snow"])
        handle.remove()
        assert not calls and torch.equal(again.embeddings, first.embeddings[[2, 0]])

    def test_offsets_and_ends(self, tower: TextTower) -> None:
        encoding = tower.encode(["red apple", ""])
        assert encoding.ends == (3, 1)
        assert encoding.offsets[0][:5] == ((0, 0), (0, 3), (4, 9), (0, 0), (0, 0))
        assert encoding.embeddings.shape == (2, 77, 16)

    def test_many_texts_make_the_same_embeddings_as_one(self, tower: TextTower) -> None:
        texts = [f"a {letter} dog" for letter in "abcdefghijklmnopqrstuvwxyz"]
        fresh = TextTower(tower.tokenizer, tower.encoder, tower.device)
        assert_close(tower.encode(texts).embeddings[20], fresh.encode(texts[20:21]).embeddings[0])


def test_labels_given_as_objects(tower: TextTower) -> None:
    vocabulary = Vocabulary((Label("dog", ("cat",)), Label("sky", background=True)))
    assert len(plan_text(tower, vocabulary, WORDING, "shared").keys) == 2
