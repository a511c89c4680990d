from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.errors import ImageError, SettingsError
from maskwright.text.captioning import CHUNK, REMEMBERED, Captioner, join
from tests.tiny_text_models import build_blip, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture
def captioner(folder: Path) -> Captioner:
    return Captioner.from_pretrained(folder, offline=True)


def reference(captioner: Captioner, pixels: np.ndarray, prefix: str) -> str:
    """The caption as transformers' own generate gives it, prefix and all, in lower case."""
    checkpoint = captioner.checkpoint
    tokens = checkpoint.tokenizer(prefix, return_tensors="pt")
    written = checkpoint.model.generate(
        checkpoint.pixel_values([pixels]),
        input_ids=tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        max_new_tokens=20,
    )
    return checkpoint.tokenizer.decode(written[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("prefix", ["", "a picture of", "a picture of a dog on"])
def test_captions_are_those_of_the_published_model(prefix: str, captioner: Captioner) -> None:
    for seed in range(5):
        assert captioner.continue_prompt(picture(seed), prefix) == reference(captioner, picture(seed), prefix)


PREFIXES = ["A picture of", "A  Picture OF ", "a photo of a Dog,", "a Pictúre of", "a photo of 犬", "🦉", "don't", " ", "  A dog"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_prefix_is_kept_as_written_and_once(prefix: str, captioner: Captioner) -> None:
    for seed in range(4):
        caption = captioner.continue_prompt(picture(seed), prefix)
        tail = caption.removeprefix(prefix)
        assert len(tail) < len(caption) and tail.strip()
        assert not tail.strip().lower().startswith(prefix.strip().lower() or "?")
        assert "  " not in tail and not tail.endswith(" ")
        assert not (prefix[-1].isspace() and tail[0].isspace())
        assert prefix[-1].isspace() or tail[0].isspace() or tail[0] in ",.'-"


def test_the_same_call_gives_the_same_captions(captioner: Captioner, folder: Path) -> None:
    pictures = [picture(seed) for seed in range(4)]
    first = captioner.caption(pictures)
    torch.manual_seed(99)
    assert captioner.caption(pictures) == first
    assert Captioner.from_pretrained(folder, offline=True).caption(pictures) == first
    assert len(set(first)) > 1  # otherwise this file would test little


def test_neighbours_in_a_batch_change_nothing(captioner: Captioner, folder: Path) -> None:
    pictures = [picture(seed, size=(10 + seed, 40 - seed)) for seed in range(CHUNK + 3)]
    alone = Captioner.from_pretrained(folder, offline=True)
    assert captioner.caption(pictures, prefix="a picture of") == [alone.continue_prompt(p, "a picture of") for p in pictures]


def test_a_picture_is_encoded_once_for_many_prefixes(captioner: Captioner) -> None:
    seen = []
    captioner.checkpoint.model.vision_model.register_forward_hook(lambda *call: seen.append(call[2].last_hidden_state.shape[0]))
    for prefix in ("", "a dog", "a cat"):
        captioner.caption([picture(0), picture(1), picture(0)], prefix=prefix)
    assert seen == [2]
    captioner.caption([picture(0)[::-1], picture(0)[:, ::2]])  # views of other content are other pictures
    assert seen == [2, 2]
    captioner.caption([picture(seed) for seed in range(10, 10 + REMEMBERED)])
    assert len(captioner._seen) == REMEMBERED


def test_no_pictures_no_captions(captioner: Captioner) -> None:
    assert captioner.caption([]) == []


def test_the_length_is_limited(folder: Path) -> None:
    for longest in (1, 5):
        captioner = Captioner.from_pretrained(folder, offline=True, max_new_tokens=longest)
        assert len(captioner.continue_prompt(picture(1), "a picture of").split()) == 3 + longest


def test_a_caption_that_ends_at_once_is_its_prefix(captioner: Captioner) -> None:
    captioner.checkpoint.model.text_decoder.cls.predictions.bias[3] = 1e4  # the end token
    assert captioner.caption([picture(0)], prefix="A Dog") == ["A Dog"]
    assert captioner.caption([picture(0)]) == [""]


def test_settings_that_leave_no_room(captioner: Captioner, folder: Path) -> None:
    for wrong in (0, -1, 40):
        with pytest.raises(SettingsError, match="choose a number from 1 to 39"):
            Captioner.from_pretrained(folder, offline=True, max_new_tokens=wrong)
    assert captioner.continue_prompt(picture(0), "a " * 19)
    with pytest.raises(SettingsError, match="20 tokens: shorten it to 19"):
        captioner.continue_prompt(picture(0), "a " * 20)


def test_arrays_that_are_no_pictures(captioner: Captioner) -> None:
    with pytest.raises(ImageError):
        captioner.caption([np.zeros((3, 8, 8), np.uint8)])


@pytest.mark.parametrize(
    ("prefix", "tail", "whole"),
    [
        ("", " a dog", "a dog"),
        ("A", " dog", "A dog"),
        ("A ", " dog", "A dog"),
        ("a traf", "fic light", "a traffic light"),
        ("A dog", ", a cat ", "A dog, a cat"),
        ("A ", " ", "A "),
        ("", "", ""),
    ],
)
def test_join(prefix: str, tail: str, whole: str) -> None:
    assert join(prefix, tail) == whole
