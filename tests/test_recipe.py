"""The recipe runs, resumes, and makes what diffusers loads; on a few steps of the real networks."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_words import draw_discs, feed, open_toys, save_autoencoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny_words(tmp_path_factory):
    """A word list of two glyph-less objects at 32 pixels."""
    folder = tmp_path_factory.mktemp("words")
    draw_discs(folder, "ball", "box")
    path = folder / "toys.toml"
    path.write_text(
        'side = 32\nmost = 2\n[style]\ncaptions = "rich"\nnoise = 0.02\n[objects]\n"red ball" = { picture = "ball.png" }\n'
        'box = { picture = "box.png", synonyms = ["crate"] }\n[grounds]\ngrass = {}\ntable = { draw = "tiles" }\n'
    )
    return path


@pytest.fixture
def make_trainer(tiny_words, tmp_path):
    """Trainers on the tiny list in one folder, with an autoencoder of random weights."""
    from maskwright_recipes.steps import open_set
    from maskwright_recipes.text_to_image import Course, Trainer

    scenes = open_set(tiny_words, tmp_path)
    size = save_autoencoder(tmp_path)

    def make(out=tmp_path, *, samples=8, init=None, size=size):
        return Trainer(out, scenes, size, Course(samples, 2, size.rate, size.average), device=CPU, init=init)

    return make


def test_every_known_word_is_one_token_and_others_fall_back_to_pieces():
    from maskwright_recipes.tokenizer import build_tokenizer, knows

    tokenizer = build_tokenizer()
    assert knows(tokenizer, "scenes") and not knows(tokenizer, "scenes-full")
    assert len(tokenizer("zebra", add_special_tokens=False).input_ids) > 1
    assert tokenizer.decode(tokenizer("a red apple", add_special_tokens=False).input_ids).strip() == "a red apple"
    full = build_tokenizer("scenes-full", 40)
    assert knows(full, "scenes-full") and len(full("the Statue of Liberty", add_special_tokens=False).input_ids) == 4


def test_words_of_any_script_are_one_token_a_piece(tiny_words):
    from maskwright_recipes.tokenizer import build_tokenizer, knows, split

    path = tiny_words.with_name("world.toml")
    names = {"собака": 1, "café": 1, "T-shirt": 3, "Boeing 747": 4}
    path.write_text("[objects]\n" + "".join(f'"{name}" = {{ picture = "ball.png" }}\n' for name in names) + "[grounds]\ngrass = {}\n")
    tokenizer = build_tokenizer(path)
    assert knows(tokenizer, path) and [len(split(name)) for name in names] == list(names.values())
    assert [len(tokenizer(name, add_special_tokens=False).input_ids) for name in names] == list(names.values())
    assert tokenizer.decode(tokenizer("Café", add_special_tokens=False).input_ids).strip() == "café"


def test_captions_of_the_full_set_fit_the_prompt():
    from maskwright.datasets.scenes import open_scenes
    from maskwright_recipes.networks import load_sizes
    from maskwright_recipes.tokenizer import build_tokenizer

    captions = [open_scenes("scenes-full").captions(seed, count=1)[0] for seed in range(500)]
    longest = max(len(tokens) for tokens in build_tokenizer("scenes-full", 40)(captions).input_ids)
    assert longest <= load_sizes()["full"].text_length


def test_every_process_learns_the_same_tokenizer():
    """A network is bound to the numbers of its tokens: ties between merges must not depend on hash seeds or threads."""
    code = "from maskwright_recipes.tokenizer import *; print(learn_merges(known_words()))"
    printed = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed,
                       "PYTHONPATH": "src"}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1 and len(next(iter(printed))) > 1000


def test_a_stopped_training_goes_on_exactly_as_if_it_had_not_been_stopped(make_trainer, tmp_path):
    whole = make_trainer()
    whole.checkpoint = tmp_path / "whole"
    whole.run(*feed(whole))
    stopped = make_trainer()
    stopped.steps = 2  # two of four; the learning rate belongs to four
    stopped.run(*feed(stopped))
    resumed = make_trainer()
    assert (stopped.first, resumed.first) == (0, 2)
    resumed.run(*feed(resumed))
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor, rtol=0, atol=0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["samples"] for line in lines] == [8, 4, 8]


def test_two_trainings_of_one_origin_are_blended(make_trainer, tmp_path):
    from maskwright.backbones.catalog import find_row
    from maskwright.errors import SettingsError
    from maskwright_recipes.export import export_checkpoint

    one, other = tmp_path / "one", tmp_path / "other"
    for folder, samples in ((one, 2), (other, 6)):
        shutil.copytree(tmp_path / "vae", folder / "vae")
        trainer = make_trainer(folder, samples=samples)
        trainer.run(*feed(trainer))
    export_checkpoint(one, tmp_path / "plain", trainer.size, 32)
    assert export_checkpoint(one, tmp_path / "mean", trainer.size, 32, blend=other) == 2
    folders = one / "model", other / "model", tmp_path / "mean"
    weights = [load_file(folder / "unet" / "diffusion_pytorch_model.safetensors") for folder in folders]
    name = "conv_in.weight"
    assert not torch.equal(weights[0][name], weights[1][name])
    torch.testing.assert_close(weights[2][name].float(), (weights[0][name].float() + weights[1][name].float()) / 2, rtol=2e-3, atol=1e-4)
    export_checkpoint(one, tmp_path / "same", trainer.size, 32, blend=other / "model")
    same = load_file(tmp_path / "same" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.allclose(same[key].float(), tensor.float(), rtol=2e-3, atol=1e-4) for key, tensor in weights[2].items())
    with pytest.raises(SettingsError, match="of other words or another size"):
        export_checkpoint(one, tmp_path / "x", trainer.size, 32, blend=find_row("sticker").folder)
    with pytest.raises(SettingsError, match="no checkpoint in"):
        export_checkpoint(one, tmp_path / "x", trainer.size, 32, blend=tmp_path / "nowhere")
    shutil.rmtree(other / "tokenizer")
    shutil.copytree(find_row("sticker").folder / "tokenizer", other / "tokenizer")
    with pytest.raises(SettingsError, match="of other words or another size"):
        export_checkpoint(one, tmp_path / "x", trainer.size, 32, blend=other)


def test_a_training_goes_on_from_the_average_alone(make_trainer):
    begun = make_trainer()
    begun.steps = 2
    begun.run(*feed(begun))
    for file in begun.checkpoint.glob("training-*"):
        file.unlink()
    carried = make_trainer()
    assert carried.first == carried.warm_from == 2
    for name, tensor in carried.model.state_dict().items():
        torch.testing.assert_close(tensor, carried.average.state_dict()[name], rtol=0, atol=0)
    carried.run(*feed(carried))
    assert make_trainer().first == 4


def test_a_training_refuses_what_would_scramble_it(make_trainer, tiny_words, tmp_path):
    import shutil
    from dataclasses import replace

    from maskwright.errors import SettingsError
    from maskwright_recipes.steps import Plan, refuse_no_model, run_training
    from maskwright_recipes.tokenizer import tokenizer_of

    begun = make_trainer()
    begun.save(1)
    with pytest.raises(SettingsError, match=r"not of the size tiny: name its size with --size"):
        make_trainer(size=replace(begun.size, unet=(32, 64)))
    with pytest.raises(SettingsError, match=r"began with other words: choose another --out, with --init"):
        tokenizer_of(tmp_path, "scenes")
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(SettingsError, match=r"trained with a vae that is missing there: bring it, too"):
        run_training(Plan(begun.scenes, begun.size, tmp_path, CPU), begun.course)
    with pytest.raises(SettingsError, match=r"unet, vae, text_encoder, tokenizer is missing: name a folder"):
        refuse_no_model(tiny_words.parent)


def test_an_autoencoder_goes_on_with_the_steps_it_was_begun_with(make_trainer, tmp_path):
    from dataclasses import replace

    from maskwright.errors import SettingsError
    from maskwright_recipes.autoencoder import steps_done, train_autoencoder
    from maskwright_recipes.streams import painted_batches

    trainer = make_trainer()
    options = {"batch": 2, "device": CPU}
    train_autoencoder(tmp_path, trainer.scenes, trainer.size, painted_batches(trainer.scenes, 0, 2), steps=2, **options)
    assert steps_done(tmp_path) == (2, 2) and steps_done(tmp_path / "nowhere") == (0, None)
    for size, steps, refusal in ((trainer.size, 4, "begun with --steps 2"), (replace(trainer.size, autoencoder=16), 2, "size tiny")):
        with pytest.raises(SettingsError, match=refusal):
            train_autoencoder(tmp_path, trainer.scenes, size, iter(()), steps=steps, **options)


def test_a_checkpoint_is_small_files_and_replaces_the_one_before(tmp_path):
    from maskwright.errors import SettingsError
    from maskwright_recipes.checkpoints import load_checkpoint, save_checkpoint, shards

    tensors = {f"layer {n}": torch.randn(100, 10) for n in range(7)}
    assert [len(group) for group in shards(tensors, limit=12_000)] == [3, 3, 1]
    assert load_checkpoint(tmp_path) is None
    for step in (1, 2):
        save_checkpoint(tmp_path, step=step, samples=32 * step, average=tensors, training=tensors)
    assert len(list(tmp_path.iterdir())) == 3
    kept = load_checkpoint(tmp_path)
    assert (kept.step, kept.samples) == (2, 64)
    assert all(torch.equal(kept.training[name], tensor) for name, tensor in tensors.items())
    assert all(torch.equal(kept.average[name], tensor.half().float()) for name, tensor in tensors.items())
    next(tmp_path.glob("average-*")).unlink()
    with pytest.raises(SettingsError, match="lacks average-0000002"):
        load_checkpoint(tmp_path)


def test_the_recipe_exports_a_pipeline_with_its_words(make_trainer, tiny_words, tmp_path):
    from diffusers import StableDiffusionPipeline

    from maskwright_recipes.export import export_checkpoint
    from maskwright_recipes.sidecar import SETTINGS, weights_digest, write_sidecar

    trainer = make_trainer(samples=2)
    trainer.run(*feed(trainer))
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", safety_checker=None)
    image = pipeline("a red ball on grass", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images[0]
    assert image.shape == (32, 32, 3) and np.isfinite(image).all()
    assert export_checkpoint(tmp_path, tmp_path / "again", trainer.size, 32) == 2
    assert weights_digest(tmp_path / "again") == weights_digest(tmp_path / "model")
    configs = [file.read_text() for file in (tmp_path / "again").rglob("config.json")]
    assert len(configs) == 3 and not any(str(tmp_path) in config for config in configs), "a path of the trainer's machine"
    write_sidecar(tmp_path / "model", tiny_words)
    sidecar = json.loads((tmp_path / "model" / "maskwright.json").read_text())
    assert sidecar["methods"] == json.loads((SETTINGS / "scenes.json").read_text()), "a list of one's own has the settings of its size"
    assert sidecar["objects"] == ["red ball", "box|crate"] and "2 objects and 2 grounds" in sidecar["advice"]


def test_a_side_to_draw_at_comes_with_settings_of_these_very_weights(tmp_path):
    """A list of one's own of the size of `scenes-full` has its methods' settings, but was not trained on its portraits."""
    from maskwright_recipes.sidecar import SETTINGS, write_sidecar

    words = open_toys(tmp_path, side=128).list.path
    full = SETTINGS / "scenes-full.json"
    found = []
    for settings in (None, full):
        write_sidecar(tmp_path, words, settings=settings)
        found.append(json.loads((tmp_path / "maskwright.json").read_text()))
    assert [sidecar["synthesis"].get("side") for sidecar in found] == [None, json.loads(full.read_text())["synthesis"]["side"]]
    assert found[0]["methods"] == found[1]["methods"] and "synthesis" not in found[0]["methods"]


def test_a_larger_model_starts_from_a_smaller_one_as_far_as_it_fits(make_trainer, tmp_path):
    from maskwright.backbones.catalog import find_row
    from maskwright_recipes.networks import Size

    landed = find_row("sticker").folder
    wide = Size("wide", (96, 32), text_width=128, text_layers=1, text_length=40, autoencoder=32, rate=1e-3, average=0.9, batch=2)
    trainer = make_trainer(tmp_path / "wide", init=landed, size=wide)
    unet, text = (load_file(landed / part) for part in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"))
    own = trainer.model.state_dict()
    assert torch.equal(own["unet.conv_in.weight"], unet["conv_in.weight"].float())
    assert own["unet.mid_block.resnets.0.conv1.weight"].shape != unet["mid_block.resnets.0.conv1.weight"].shape
    embedding = next(key for key in own if key.endswith("token_embedding.weight"))
    tokens, known = trainer.tokenizer.get_vocab(), json.loads((landed / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    rows = next(tensor for key, tensor in text.items() if key.endswith("token_embedding.weight"))
    for word in ("red</w>", "on</w>", "grass</w>", "<|endoftext|>"):
        assert torch.equal(own[embedding][tokens[word]], rows[known[word]].float())
    assert "crate</w>" in tokens and "crate</w>" not in known
    positions = next(key for key in own if key.endswith("position_embedding.weight"))
    assert len(own[positions]) == 40 and torch.equal(own[positions][:32], next(t for k, t in text.items() if "position_emb" in k).float())
    assert all(torch.equal(tensor, trainer.average.state_dict()[name]) for name, tensor in own.items())


def test_a_deeper_model_keeps_the_coarse_resolutions_of_the_one_it_starts_from():
    from maskwright.backbones.catalog import find_row
    from maskwright_recipes.networks import build_scheduler, build_unet, load_sizes, load_unet
    from maskwright_recipes.timesteps import shift_timesteps
    from maskwright_recipes.warm_start import copy_unet

    source, size = load_unet(find_row("sticker").folder), load_sizes()["medium"]
    target = build_unet(size, 128)
    share = copy_unet(target, source) / sum(parameter.numel() for parameter in target.parameters())
    assert 0.8 < share < 0.95
    old, new = source.state_dict(), target.state_dict()
    for name in ("attentions.0.transformer_blocks.0.attn2.to_q.weight", "resnets.0.conv1.weight"):
        assert torch.equal(new[f"down_blocks.1.{name}"], old[f"down_blocks.0.{name}"]) == ("attn" in name)  # its input is wider there
        assert torch.equal(new[f"down_blocks.2.{name}"], old[f"down_blocks.1.{name}"])
        assert torch.equal(new[f"mid_block.{name}"], old[f"mid_block.{name}"])
        assert torch.equal(new[f"up_blocks.0.{name}"], old[f"up_blocks.0.{name}"])
    times = torch.arange(0, 1000, 10)
    alike = shift_timesteps(build_scheduler().alphas_cumprod, 1 / 4)[times]  # pictures of half the side, hidden as much
    given, wanted = (unet.time_embedding(unet.time_proj(at)).detach() for unet, at in ((target, times), (source, alike)))
    assert (given - wanted).square().mean() < 0.1 * (wanted - wanted.mean(0)).square().mean()
    assert target.time_embedding.linear_1.weight.abs().max() < 5


def test_a_model_of_the_same_resolutions_keeps_all_weights_whatever_the_side():
    """Close-ups and whole scenes show things of the same size in pixels, so timesteps mean the same to both."""
    from maskwright_recipes.networks import build_unet, load_sizes
    from maskwright_recipes.warm_start import copy_unet

    source, target = (build_unet(load_sizes()["medium"], side) for side in (64, 128))
    copy_unet(target, source)
    wanted = source.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in target.state_dict().items())


def test_a_coarser_resolution_is_added_without_changing_what_the_others_do():
    from maskwright.backbones.catalog import find_row
    from maskwright_recipes.networks import build_unet, load_sizes, load_unet
    from maskwright_recipes.warm_start import copy_unet

    source, size = load_unet(find_row("sticker-full").folder), load_sizes()["deep"]
    target = build_unet(size, 128)
    share = copy_unet(target, source) / sum(parameter.numel() for parameter in target.parameters())
    assert share == pytest.approx(sum(parameter.numel() for parameter in source.parameters()) / 12.27e6, rel=0.01), "all of the source"
    old, new = source.state_dict(), target.state_dict()
    for name in ("attentions.0.transformer_blocks.0.attn2.to_q.weight", "resnets.0.conv1.weight"):
        for level in range(3):
            assert torch.equal(new[f"down_blocks.{level}.{name}"], old[f"down_blocks.{level}.{name}"])
            assert torch.equal(new[f"up_blocks.{level + 1}.{name}"], old[f"up_blocks.{level}.{name}"])
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(2, 160, 8, 8, generator=generator)
    pooled = target.down_blocks[2].downsamplers[0](given)
    torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(given, 2))
    text, time = torch.randn(2, 40, 128, generator=generator), target.time_embedding(target.time_proj(torch.tensor([500, 500])))
    passed, _ = target.down_blocks[3](pooled, temb=time, encoder_hidden_states=text)
    torch.testing.assert_close(passed, pooled, msg="nothing is added yet")
    joined = target.up_blocks[0](passed, (given[:, :, ::2, ::2], passed), temb=time, encoder_hidden_states=text)
    torch.testing.assert_close(joined, pooled.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_a_finer_resolution_shows_at_once_what_the_smaller_model_predicts():
    from dataclasses import replace

    from maskwright.backbones.catalog import find_row
    from maskwright_recipes.networks import build_scheduler, build_unet, load_sizes, load_unet
    from maskwright_recipes.timesteps import shift_timesteps
    from maskwright_recipes.warm_start import copy_unet

    source = load_unet(find_row("sticker").folder)
    target = build_unet(replace(load_sizes()["medium"], unet=(96, 96, 160), heads=(1, 4, 4)), 128)
    copy_unet(target, source)
    generator = torch.Generator().manual_seed(0)
    large = torch.randn(4, 8, 8, 8, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)  # nothing fine in it
    text = torch.randn(4, 40, 128, generator=generator)
    time = int(shift_timesteps(build_scheduler().alphas_cumprod, 1 / 4)[400])
    with torch.no_grad():
        wanted = source(large[:, :, ::2, ::2] * 1.5, time, text).sample
        given = torch.nn.functional.avg_pool2d(target(large, 400, text).sample, 2)
    assert torch.nn.functional.cosine_similarity(given.flatten(), wanted.flatten(), dim=0) > 0.8


def test_training_goes_on_from_a_landed_model_with_its_tokenizer(tmp_path):
    from maskwright.backbones.catalog import find_row
    from maskwright.datasets.scenes import open_scenes
    from maskwright_recipes.networks import load_sizes
    from maskwright_recipes.text_to_image import Course, Trainer

    landed, size = find_row("sticker").folder, load_sizes()["small"]
    trainer = Trainer(tmp_path, open_scenes(), size, Course(4, 2, size.rate, size.average), device=CPU, init=landed)
    assert trainer.tokenizer.get_vocab() == json.loads((landed / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    stored = load_file(landed / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, stored[name].float()) for name, value in trainer.model.unet.state_dict().items())
    assert (tmp_path / "vae").is_dir() and (tmp_path / "tokenizer").is_dir()


def test_normalised_latents_have_mean_zero_and_deviation_one():
    from maskwright.datasets.scenes import open_scenes
    from maskwright_recipes.autoencoder import held_out, normalise_latents
    from maskwright_recipes.networks import build_autoencoder, load_sizes

    torch.manual_seed(0)
    model = build_autoencoder(load_sizes()["small"])
    pictures = held_out(open_scenes(), 40, "tuning")
    normalise_latents(model, pictures)
    latents = model.encode(pictures).latents
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_the_full_size_fits_forty_megabytes_in_fp16():
    from maskwright_recipes.networks import Model, build_autoencoder, load_sizes
    from maskwright_recipes.tokenizer import build_tokenizer

    size = load_sizes()["full"]
    with torch.device("meta"):
        parts = [Model(size, build_tokenizer("scenes-full", size.text_length), 128), build_autoencoder(size)]
    assert 30e6 < 2 * sum(parameter.numel() for part in parts for parameter in part.parameters()) < 39e6


@pytest.mark.parametrize(("name", "words", "side"), [("sticker", "scenes", 64), ("sticker-full", "scenes-full", 128)])
def test_a_bundled_model_is_what_the_recipe_exports(tmp_path, name, words, side):
    import shutil

    from maskwright.backbones.catalog import find_row
    from maskwright_recipes.sidecar import write_sidecar
    from maskwright_recipes.tokenizer import CLIPTokenizer, knows

    folder = find_row(name).folder
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size <= 40_000_000
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert knows(tokenizer, words) and find_row(name).native == side
    assert json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8")) == tokenizer.get_vocab()
    shutil.copytree(folder, tmp_path / name)
    write_sidecar(tmp_path / name, words)
    assert (tmp_path / name / "maskwright.json").read_text() == (folder / "maskwright.json").read_text()


def test_the_bundled_model_loads_in_diffusers():
    from diffusers import StableDiffusionPipeline

    from maskwright.backbones.catalog import find_row

    pipeline = StableDiffusionPipeline.from_pretrained(find_row("sticker").folder, safety_checker=None)
    image = pipeline("a dog on grass", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images[0]
    assert image.shape == (64, 64, 3) and np.isfinite(image).all()


@pytest.mark.parametrize("compose", ["painter", "device"])
def test_scenes_that_another_training_saw_can_be_left_out(tiny_words, tmp_path, compose):
    from maskwright_recipes.steps import make_plan

    def first(skip, start):
        plan = make_plan(tiny_words, out=tmp_path, size="small", device=CPU, font=tmp_path, workers=0, compose=compose, skip=skip)
        pixels, captions = next(plan.batches(start, 2, 1))
        return pixels.numpy().tobytes(), tuple(captions)

    assert first(6, 0) == first(0, 6) != first(0, 0)


def test_timesteps_of_large_pictures_hide_as_much_as_those_of_small_ones():
    from maskwright_recipes.networks import build_scheduler
    from maskwright_recipes.timesteps import draw_timesteps, shift_timesteps

    alphas = build_scheduler().alphas_cumprod
    assert shift_timesteps(alphas, 1).tolist() == list(range(1000))
    shifted = shift_timesteps(alphas, 4)
    assert shifted.diff().min() >= 0 and (shifted[:880] > torch.arange(880)).all() and shifted.max() == 999
    ratio = alphas / (1 - alphas)
    reached = shifted < 999
    assert (ratio[shifted[reached]] <= ratio[reached] / 4).all() and (ratio[reached] / 4 < ratio[shifted[reached] - 1]).all()
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(1, 1, 64, 64, generator=generator) / ratio[400].sqrt()
    large = torch.randn(1, 1, 128, 128, generator=generator) / ratio[shifted[400]].sqrt()
    assert torch.nn.functional.avg_pool2d(large, 2).std() == pytest.approx(float(small.std()), rel=0.05), "once as small, as noisy"
    there_and_back = shift_timesteps(alphas, 1 / 4)[shifted[reached]]
    assert (there_and_back - torch.arange(1000)[reached]).abs().max() <= 2
    drawn = draw_timesteps(4000, shifted, generator).float()
    assert drawn.min() >= 0 and drawn.max() <= 999 and drawn.mean() == pytest.approx(0.75 * 480 + 0.25 * 650, abs=25)
