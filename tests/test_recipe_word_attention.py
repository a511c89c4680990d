"""What a training tells cross-attention of words: the lists that are asked, the loss, and that it moves what it should."""

import numpy as np
import pytest
import torch

from tests.tiny_words import feed, open_toys, save_autoencoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A set of two objects and two grounds at 32 pixels."""
    return open_toys(tmp_path_factory.mktemp("words"))


@pytest.fixture
def make_trainer(tmp_path, scenes):
    """Trainers in one folder, with an autoencoder of random weights."""
    from maskwright_recipes.text_to_image import Course, Trainer

    size = save_autoencoder(tmp_path)
    return lambda attend=0.5, samples=8: Trainer(tmp_path, scenes, size, Course(samples, 2, 1e-3, 0.9, attend=attend), device=CPU)


class TestAsk:
    @pytest.fixture(scope="class")
    def full(self):
        """The full list and the bundled tokenizer of it."""
        from transformers import CLIPTokenizer

        from maskwright.backbones.catalog import find_row
        from maskwright.datasets.scenes import open_scenes

        return open_scenes("scenes-full"), CLIPTokenizer.from_pretrained(find_row("sticker-full").folder / "tokenizer")

    @pytest.mark.parametrize("length", [40, 16])
    def test_words_own_their_tokens_and_only_shown_ones_are_shown(self, full, length):
        from maskwright_recipes.word_attention import ask

        scenes, tokenizer = full
        words = scenes.words
        names = {name.lower(): place for place, word in enumerate(words.all) for name in word.names}
        rng, begun = np.random.default_rng(0), 0
        for seed in range(60):
            shown = scenes.places(scenes.contents(seed))
            asked = ask([shown], words, tokenizer, rng, length=length)
            assert asked.tokens.shape == (1, length) and asked.tokens[0, 0] == tokenizer.bos_token_id
            assert asked.tokens[0, -1] in (tokenizer.eos_token_id, tokenizer.pad_token_id)
            assert asked.owners.sum(1).max() == 1, "two words own one token"
            for row in range(len(asked.shown[0])):
                own = asked.tokens[0][asked.owners[0, row] == 1]
                if len(own):
                    assert asked.shown[0, row] == (names[tokenizer.decode(own).strip()] in shown)
                else:
                    assert asked.shown[0, row] == 0
            if length == 40:
                assert asked.shown.sum() == len(set(shown)), "a word of the picture was lost"
            begun += int((asked.owners.sum(2) > 0).sum() > asked.shown.sum())
        assert begun > (50 if length == 40 else 5), "hardly any list names what is not there"

    def test_a_list_reads_as_methods_write_it(self, full):
        from maskwright_recipes.word_attention import ask

        scenes, tokenizer = full
        asked = ask([[0, len(scenes.words.all) - 1]] * 40, scenes.words, tokenizer, np.random.default_rng(3), length=40)
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in asked.tokens]
        for text, row in zip(texts, asked.tokens, strict=True):
            again = tokenizer(text, padding="max_length", max_length=40).input_ids
            assert again == row.tolist(), "the parts of a list are tokenised as the whole is"


class TestLoss:
    def test_it_is_none_where_each_place_attends_to_what_is_there_and_each_word_finds_places(self):
        owners, shown = torch.zeros(1, 3, 5), torch.tensor([[1.0, 1.0, 0.0]])
        for row in range(3):
            owners[0, row, row + 1] = 1

        def loss(*places):
            return float(attended(torch.tensor(places, dtype=torch.float32), owners, shown))

        good = loss(*[[9, 0, 0]] * 50, *[[0, 9, 0]] * 50)
        lost = loss(*[[9, 0, 0]] * 100)
        wrong = loss(*[[9, 0, 0]] * 50, *[[0, 9, 0]] * 25, *[[0, 0, 9]] * 25)
        assert good < 0.01 < min(lost, wrong) and lost > 1 and wrong > 2

    def test_what_the_begin_token_gets_does_not_matter(self):
        owners, shown = torch.zeros(1, 2, 5), torch.tensor([[1.0, 0.0]])
        owners[0, 0, 1] = owners[0, 1, 2] = 1
        low, high = ([attended(torch.tensor([[2.0, 1.0]] * 36), owners, shown, begin=begin)] for begin in (0.0, 4.0))
        torch.testing.assert_close(low, high)

    def test_pictures_count_by_their_weight(self):
        from maskwright_recipes.word_attention import word_loss

        layers, shown = [torch.rand(2, 36, 2).softmax(-1)], torch.tensor([[1.0, 0.0]] * 2)

        def weighed(*weight):
            return word_loss(layers, shown, torch.tensor(weight), pictures=torch.zeros(2, 3, 6, 6), least=0.1)

        one, other, both = weighed(1.0, 0.0), weighed(0.0, 1.0), weighed(1.0, 3.0)
        torch.testing.assert_close(both, (one + 3 * other) / 4)


def layer_of(logits, owners, *, begin=0.0):
    """Inputs of `word_shares` for one layer whose logits of the tokens 1, 2, .. are those given, (n, places, words)."""
    layer = torch.nn.Module()
    layer.heads, layer.scale, layer.to_k = 1, 1.0, torch.nn.Identity()
    query = torch.zeros(*logits.shape[:2], owners.shape[2])
    query[..., 0] = begin
    query[..., 1 : 1 + logits.shape[2]] = logits
    return [(layer, query)], torch.eye(owners.shape[2]).expand(len(logits), -1, -1), owners


def attended(logits, owners, shown, **begin):
    """`word_loss` of one layer and one picture whose upper half is black and lower half white, (places, words)."""
    from maskwright_recipes.word_attention import word_loss, word_shares

    layers = word_shares(*layer_of(logits[None], owners, **begin))
    pictures = torch.ones(1, 3, 20, 20)
    pictures[:, :, :10] = -1
    return word_loss(layers, shown, torch.ones(1), pictures=pictures, least=0.03)


class TestEdges:
    @pytest.fixture
    def colours(self):
        """A picture of 8 x 8 places with an edge in the middle."""
        colours = torch.zeros(1, 3, 8, 8)
        colours[..., 4:] = 1
        return colours

    @pytest.mark.parametrize("edge", range(9))
    def test_it_is_least_where_words_part_at_the_edge_or_nowhere(self, colours, edge):
        from maskwright_recipes.word_attention import edge_loss

        parted = torch.zeros(1, 2, 8, 8)
        parted[:, 0, :, :edge] = parted[:, 1, :, edge:] = 1
        loss = float(edge_loss(parted.flatten(2).transpose(1, 2), colours))
        assert loss == pytest.approx(0, abs=1e-6) if edge in (0, 4, 8) else loss > 0.01

    def test_it_is_what_the_equation_says(self):
        from maskwright_recipes.word_attention import LIKE, NEAR, REACH, edge_loss

        generator = torch.Generator().manual_seed(0)
        shares = torch.rand(2, 30, 3, generator=generator).softmax(-1)
        colours = torch.rand(2, 3, 5, 6, generator=generator) * 0.3
        places = [(row, column) for row in range(5) for column in range(6)]
        for picture in range(2):
            apart = together = 0.0
            for one, (row, column) in enumerate(places):
                for other, (down, right) in enumerate(places):
                    if one == other or abs(row - down) > REACH or abs(column - right) > REACH:
                        continue
                    differ = float((colours[picture, :, row, column] - colours[picture, :, down, right]).square().sum())
                    like = np.exp(-((row - down) ** 2 + (column - right) ** 2) / (2 * NEAR**2) - differ / (2 * LIKE**2))
                    apart += like * (1 - float(shares[picture, one] @ shares[picture, other]))
                    together += like
            assert float(edge_loss(shares, colours)[picture]) == pytest.approx(apart / together, rel=1e-4)


class TestTraining:
    def test_overhearing_changes_no_prediction(self, make_trainer):
        trainer = make_trainer()
        tokens = trainer.tokenizer(["a box", ""], padding="max_length", return_tensors="pt").input_ids
        given = torch.randn(2, 8, 8, 8), torch.tensor([3, 700]), tokens
        heard = []
        with torch.no_grad():
            predicted, *_ = trainer.model.observe(*given, heard)
            assert torch.equal(predicted, trainer.model(*given))
        assert [query.shape[1] for _, query in heard] == [16, 16, 64, 64], "the layers on the way up, two at each resolution"

    def test_it_teaches_keys_and_queries(self, make_trainer):
        trainer = make_trainer()
        pixels = torch.from_numpy(np.stack([trainer.scenes.render(seed).image for seed in range(2)])).permute(0, 3, 1, 2) / 127.5 - 1
        given = pixels, ["", ""], None, torch.Generator().manual_seed(0)
        asked = trainer.ask(0, range(2))
        without, told = trainer.loss(*given), trainer.loss(pixels, ["", ""], asked, torch.Generator().manual_seed(0))
        (told - without).backward()
        attention = trainer.model.unet.up_blocks[-1].attentions[-1].transformer_blocks[0].attn2
        for layer in (attention.to_q, attention.to_k, trainer.model.text_encoder.get_input_embeddings()):
            assert layer.weight.grad.abs().max() > 0
        assert attention.to_v.weight.grad is None or attention.to_v.weight.grad.abs().max() < 1e-6

    def test_words_are_learned(self, make_trainer):
        from maskwright_recipes.streams import painted_batches

        trainer = make_trainer(attend=5.0, samples=160)
        batch = next(painted_batches(trainer.scenes, 1000, 8))

        def told():
            without = trainer.loss(*batch, None, torch.Generator().manual_seed(0))
            asked = trainer.ask(0, range(1000, 1008))
            return float(trainer.loss(*batch, asked, torch.Generator().manual_seed(0)) - without)

        before = told()
        trainer.run(*feed(trainer))
        assert told() < 0.9 * before

    def test_a_training_goes_on_without(self, make_trainer):
        trainer = make_trainer()
        trainer.run(*feed(trainer))
        later = make_trainer(attend=0.0, samples=12)
        assert later.first == 4 and later.ask(0, range(2)) is None
