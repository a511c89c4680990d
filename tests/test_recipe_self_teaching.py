"""What a model teaches its own attention of edges: the targets, their loss, and that the teacher is the average."""

import numpy as np
import pytest
import torch

from tests.tiny_words import feed, open_toys, save_autoencoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CPU = torch.device("cpu")


@pytest.fixture
def make_trainer(tmp_path):
    """Trainers in one folder, with an autoencoder of random weights."""
    from maskwright_recipes.text_to_image import Course, Trainer

    scenes, size = open_toys(tmp_path), save_autoencoder(tmp_path)
    return lambda samples=8, **course: Trainer(tmp_path, scenes, size, Course(samples, 2, 1e-3, 0.9, **course), device=CPU)


def square(side, first, last):
    """A picture (1, 3, side, side) of -1 with a square of 1 from `first` to before `last`."""
    picture = torch.full((1, 3, side, side), -1.0)
    picture[..., first:last, first:last] = 1
    return picture


class TestTargets:
    def test_they_end_where_colours_do(self):
        """Shares that blur a square over two places of 16 x 16 in each direction, against the square."""
        from maskwright_recipes.self_teaching import draw_to_edges

        truth = (square(64, 16, 48)[0, 0].unflatten(0, (16, 4)).unflatten(2, (16, 4)).mean((1, 3)) + 1) / 2
        blurred = torch.nn.functional.avg_pool2d(truth[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
        shares = torch.stack([blurred, 1 - blurred, torch.zeros_like(blurred)])[None]
        target = draw_to_edges(shares, torch.tensor([[1.0, 1.0, 0.0]]), square(64, 16, 48))
        assert (target[0, 0] - truth).abs().mean() < 0.25 * (blurred - truth).abs().mean()
        torch.testing.assert_close(target.sum(1), torch.ones(1, 16, 16))
        assert not target[0, 2].any(), "a word that is not there"

    def test_pictures_do_not_touch_each_other_and_one_without_words_has_no_target(self):
        from maskwright_recipes.self_teaching import draw_to_edges

        generator = torch.Generator().manual_seed(0)
        pictures = torch.rand(3, 3, 48, 48, generator=generator) * 2 - 1
        shares = torch.rand(3, 2, 8, 8, generator=generator).softmax(1)
        shown = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
        together = draw_to_edges(shares, shown, pictures)
        for place in range(3):
            alone = draw_to_edges(shares[place : place + 1], shown[place : place + 1], pictures[place : place + 1])
            torch.testing.assert_close(together[place], alone[0])
        assert not together[1].any() and torch.allclose(together[2, 0], torch.ones(8, 8))

    def test_words_that_are_not_there_get_nothing_from_the_teacher(self, make_trainer):
        trainer = make_trainer(attend=0.5, teach=True)
        asked = trainer.ask(0, range(2))
        shares = trainer.teacher(torch.randn(2, 8, 8, 8), torch.tensor([50, 300]), asked)
        assert shares.shape == (2, asked.shown.shape[1], 8, 8)
        assert not shares[asked.shown == 0].any()
        torch.testing.assert_close(shares.sum(1), torch.ones(2, 8, 8))


class TestLoss:
    def test_it_is_least_at_the_target_of_either_grid(self):
        from maskwright_recipes.word_attention import taught_loss

        target = torch.zeros(1, 2, 8, 8)
        target[:, 0, :, :4] = target[:, 1, :, 4:] = 1
        for side in (8, 4):
            right = torch.nn.functional.adaptive_avg_pool2d(target, side).flatten(2).transpose(1, 2)
            assert float(taught_loss(right, target)) == pytest.approx(0, abs=1e-5)
            assert float(taught_loss(1 - right, target)) > 5
            half = torch.full_like(right, 0.5)
            assert float(taught_loss(half, target)) == pytest.approx(np.log(2), rel=1e-4)


class TestTraining:
    def test_the_teacher_is_the_average_and_learns_nothing_itself(self, make_trainer):
        trainer = make_trainer(attend=0.5, teach=True)
        asked, pixels = trainer.ask(0, range(2)), square(32, 8, 24).repeat(2, 1, 1, 1)
        latents = torch.randn(2, 8, 8, 8)
        before = trainer.teach(latents, asked, pixels, torch.Generator().manual_seed(0))
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        assert torch.equal(before, trainer.teach(latents, asked, pixels, torch.Generator().manual_seed(0)))
        trainer.loss(pixels, ["", ""], asked, torch.Generator().manual_seed(0)).backward()
        assert all(parameter.grad is None for parameter in trainer.average.parameters())
        with torch.no_grad():
            for parameter in trainer.average.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        assert not torch.equal(before, trainer.teach(latents, asked, pixels, torch.Generator().manual_seed(0)))

    def test_attention_comes_nearer_to_what_a_teacher_finds(self, make_trainer, monkeypatch):
        """A teacher that is sure: the first of a scene's words on the left, the second on the right."""
        from maskwright_recipes import word_attention

        trainer = make_trainer(attend=5.0, teach=True, samples=2000)
        scenes = [trainer.scenes.render(seed) for seed in range(2)]
        batch = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2) / 127.5 - 1, ["", ""]
        target = torch.zeros(*trainer.ask(0, range(2)).shown.shape, 8, 8)
        for own, shown in zip(target, trainer.ask(0, range(2)).shown, strict=True):
            first, second = shown.nonzero()[[0, -1], 0]
            own[first, :, :4] = own[second, :, 4:] = 1
        monkeypatch.setattr(trainer, "teach", lambda *_: target)

        def loss(weight):
            with monkeypatch.context() as changed, torch.no_grad():
                changed.setattr(word_attention, "TAUGHT", weight)
                return float(trainer.loss(*batch, trainer.ask(0, range(2)), torch.Generator().manual_seed(0)))

        before = loss(1.0) - loss(0.0)
        for number in range(40):
            found = trainer.loss(*batch, trainer.ask(0, range(2)), torch.Generator().manual_seed(number))
            trainer.optimiser.zero_grad()
            found.backward()
            trainer.optimiser.step()
        assert loss(1.0) - loss(0.0) < 0.8 * before

    def test_what_is_exported_is_an_ordinary_model(self, make_trainer, tmp_path):
        from diffusers import UNet2DConditionModel

        trainer = make_trainer(attend=0.5, teach=True)
        trainer.run(*feed(trainer))
        unet = UNet2DConditionModel.from_pretrained(tmp_path / "model" / "unet", torch_dtype=torch.float32)
        own = dict(trainer.average.unet.named_parameters())
        assert all(torch.allclose(parameter, own[name].half().float()) for name, parameter in unet.named_parameters())

    def test_it_needs_words(self, make_trainer, tmp_path):
        from maskwright.errors import SettingsError
        from maskwright_recipes.steps import Plan, run_training
        from maskwright_recipes.text_to_image import Course

        trainer = make_trainer()
        assert trainer.teacher is None
        with pytest.raises(SettingsError, match="--attend"):
            run_training(Plan(trainer.scenes, trainer.size, tmp_path, CPU), Course(4, 2, 1e-3, 0.9, teach=True))
