import math

import pytest
import torch

from maskwright.readings.keys import TextKeys, merge_padding
from tests.tiny import random
from tests.tolerances import assert_close

COLUMNS = ((((0, 2), (0, 3)),), (((1, 1),), ((2, 1), (2, 2))), (((0, 3),),))  # the second label has a synonym


@pytest.fixture
def keys() -> TextKeys:
    return TextKeys(random(3, 5, 4), torch.zeros(3, 5), COLUMNS)


def test_tokens_are_distinct_and_sorted(keys: TextKeys) -> None:
    assert len(keys) == 3
    assert keys.tokens == ((0, 2), (0, 3), (1, 1), (2, 1), (2, 2))
    assert keys.members == ((0, 1), (2, 3, 4), (1,))


def test_weights_are_shared_equally_by_names_then_by_tokens(keys: TextKeys) -> None:
    expected = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.25, 0.25], [0, 1, 0, 0, 0]])
    assert torch.equal(keys.weights, expected)
    assert_close(keys.weights.sum(1), torch.ones(3))


def test_the_keys_of_one_label_hold_its_own_texts_only(keys: TextKeys) -> None:
    alone = keys.label(1)
    assert alone.columns == ((((0, 1),), ((1, 1), (1, 2))),)
    assert torch.equal(alone.embeddings, keys.embeddings[1:]) and alone.log_weight.shape == (2, 5)
    assert keys.label(2).columns == ((((0, 3),),),)


def test_merged_padding_stands_for_as_many_tokens_as_it_replaces() -> None:
    embeddings = random(2, 6, 4)
    kept, log_weight = merge_padding(embeddings, [1, 3])
    assert kept.shape == (2, 5, 4) and log_weight.shape == (2, 5)
    assert torch.equal(kept[:, :4], embeddings[:, :4])
    assert_close(kept[0, 4], embeddings[0, 2:].mean(0))
    assert_close(kept[1, 4], embeddings[1, 4:].mean(0))
    off = -math.inf
    assert_close(log_weight, torch.tensor([[0, 0, off, off, math.log(4)], [0, 0, 0, 0, math.log(2)]]))


def test_a_text_without_padding_has_none_to_merge() -> None:
    kept, log_weight = merge_padding(random(1, 4, 3), [3])
    assert kept.shape == (1, 5, 3) and bool(kept.isfinite().all())
    assert log_weight.tolist() == [[0, 0, 0, 0, -math.inf]]


def test_merging_half_precision_sums_in_full() -> None:
    """Seventy values near 2000 overflow float16 when they are summed in it."""
    embeddings = torch.full((1, 77, 2), 2000, dtype=torch.float16)
    kept, _ = merge_padding(embeddings, [3])
    assert kept.dtype == torch.float16 and kept[0, -1].tolist() == [2000, 2000]
