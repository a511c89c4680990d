import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.text.spans import extend_over_participle, token_span
from tests.tiny import build_tokenizer

TOKENIZER = build_tokenizer()


def spelled(text: str, start: int, end: int) -> str:
    """The tokens of a stretch of text, put together again."""
    encoded = TOKENIZER(text, return_offsets_mapping=True)
    span = token_span(encoded.offset_mapping, start, end)
    return TOKENIZER.decode([encoded.input_ids[place] for place in span]).strip()


def test_spans_by_offsets() -> None:
    offsets = [(0, 0), (0, 3), (4, 7), (7, 8), (9, 12), (0, 0), (0, 0)]
    assert token_span(offsets, 4, 8) == (2, 3)
    assert token_span(offsets, 0, 1) == (1,)
    assert token_span(offsets, 7, 10) == (3, 4)
    assert token_span(offsets, 3, 4) == ()  # only a space
    assert token_span(offsets, 0, 0) == () and token_span([], 0, 5) == ()


@pytest.mark.parametrize("label", ["dog", "traffic light", "t-shirt", "café crème", "naïve", "🦉", "👩‍🚀", "Ω", "日本"])
def test_property_6_every_kind_of_label_is_found_whole(label: str) -> None:
    prefix = "a photograph of "
    text = f"{prefix}{label} on grass"
    found = spelled(text, len(prefix), len(prefix) + len(label))
    assert found.replace(" ", "") == label.lower().replace(" ", "")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.from_regex(r"[a-zà-ö]{1,6}(-[a-z]{1,3})?", fullmatch=True), min_size=1, max_size=6), st.data())
def test_any_word_of_any_text_is_found_whole(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words) - 1))
    start = len(" ".join(words[:place])) + (place > 0)
    assert spelled(" ".join(words), start, start + len(words[place])).replace(" ", "") == words[place]


@pytest.mark.parametrize(
    ("text", "label", "extended"),
    [
        ("a dog running on grass", "dog", "dog running"),
        ("a dog  sleeping", "dog", "dog  sleeping"),
        ("a dog runs", "dog", "dog"),
        ("a dog, running", "dog", "dog"),
        ("a dog", "dog", "dog"),
        ("a dog running sitting", "dog", "dog running"),
        ("a dog ingot", "dog", "dog"),
    ],
)  # fmt: skip
def test_a_following_participle_belongs_to_the_label(text: str, label: str, extended: str) -> None:
    start = text.index(label)
    assert text[start : extend_over_participle(text, start + len(label))] == extended
