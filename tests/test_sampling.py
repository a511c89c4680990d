"""Reading a model while it draws."""

import inspect
from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler, PNDMScheduler

from maskwright.backbones.sampling import chosen_steps, evaluations, sample
from maskwright.backbones.unet import UNetBackbone
from maskwright.discovery.prompts import ListedPrompts
from maskwright.discovery.synthesis import SynthesisSettings, Synthesizer
from maskwright.errors import SettingsError, VocabularyError
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.readings.running import RunningReading
from maskwright.text.prompts import find_labels, prompt_keys
from maskwright.vocabulary import Label, Vocabulary
from tests.tiny import Passes, build_backbone, build_scheduler, digest
from tests.tolerances import assert_close

PROMPTS = ["a dog on grass", "a red apple and a cat"]
PROBE = Probe(cross=Select(), self_attention=Select(factors=(1,)))


def drawn(backbone: UNetBackbone, *, prompts: list[str] = PROMPTS, guidance: float = 3.0, **options: object) -> torch.Tensor:
    seeds = range(7, 7 + len(prompts))
    return sample(backbone, prompts, steps=4, guidance=guidance, seeds=seeds, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_reading_does_not_change_the_picture(backbone: UNetBackbone, guidance: float) -> None:
    before = digest(backbone.unet)
    readings: list[Reading] = []
    plain = drawn(backbone, guidance=guidance)
    read = drawn(backbone, guidance=guidance, probe=PROBE, read_at=(1, 3), on_reading=lambda step, reading: readings.append(reading))
    assert_close(read, plain)
    assert len(readings) == 2 and digest(backbone.unet) == before


def test_pictures_of_another_side(backbone: UNetBackbone) -> None:
    readings: list[Reading] = []
    small = drawn(backbone, side=8, probe=PROBE, read_at=(1,), on_reading=lambda step, reading: readings.append(reading))
    assert small.shape == (2, 3, 8, 8) and readings[0].latent_size == (4, 4)
    assert torch.equal(drawn(backbone, side=16), drawn(backbone)) and drawn(backbone).shape == (2, 3, 16, 16)
    assert backbone.generate(PROMPTS, steps=1, side=12).shape == (2, 3, 12, 12)
    for side in (10, 0, -4):
        with pytest.raises(SettingsError, match=f"side is {side}: tiny draws sides that are multiples of 4, best 16"):
            drawn(backbone, side=side)


def test_a_model_may_draw_best_at_another_side() -> None:
    own = build_backbone(sidecar={"synthesis": {"side": 8}})
    assert own.generate(PROMPTS, steps=1).shape == (2, 3, 8, 8) and own.generate(PROMPTS, steps=1, side=16).shape == (2, 3, 16, 16)


def test_reading_costs_no_row_of_its_own(backbone: UNetBackbone) -> None:
    with Passes(backbone.unet) as plain:
        drawn(backbone)
    with Passes(backbone.unet) as read:
        drawn(backbone, probe=PROBE, read_at=(1, 3), on_reading=lambda step, reading: None)
    assert read.rows == plain.rows == 4 * 2 * 2


def test_a_picture_does_not_depend_on_its_neighbours(backbone: UNetBackbone) -> None:
    together = drawn(backbone, probe=PROBE, read_at=(2,), on_reading=lambda step, reading: None)
    alone = sample(backbone, PROMPTS[1:], steps=4, guidance=3.0, seeds=[8])
    assert_close(together[1:], alone)


def test_the_running_mean_is_the_mean_over_steps(backbone: UNetBackbone) -> None:
    labels = [Vocabulary.parse("dog, grass"), Vocabulary.parse("red apple")]
    keys = [prompt_keys(backbone.text, prompt, list(own)) for prompt, own in zip(PROMPTS, labels, strict=True)]
    running, readings = RunningReading(keys), []

    def note(step: int, reading: Reading) -> None:
        running.add(step, reading)
        readings.append(reading)

    drawn(backbone, probe=PROBE, read_at=(0, 1, 3), on_reading=note)
    assert running.steps == 3
    for picture, count in ((0, 2), (1, 1)):
        for layer in running.maps(picture):
            each = [
                next(one for one in reading.picture(picture).cross_attention.maps(keys[picture]) if one.factor == layer.factor).maps
                for reading in readings
            ]
            assert layer.maps.shape[1] == count
            assert_close(layer.maps, torch.stack(each).mean(0))
        mean = torch.stack([reading.self_attention.dense()[picture] for reading in readings]).mean(0)
        assert_close(running.self_attention(picture, 1).dense()[0], mean)
        assert_close(running.self_attention(picture, 1).dense().sum(-1), torch.ones(1, 64))
    with pytest.raises(SettingsError, match="factor 2"):
        running.self_attention(0, 2)
    with pytest.raises(SettingsError, match="1 pictures cannot join one of 2"):
        running.add(0, readings[0].picture(0))


def test_the_followed_word_is_the_models_own_attention_to_it(backbone: UNetBackbone) -> None:
    """Summed over all tokens of a prompt, the maps are 1 everywhere: exact padding, one softmax."""
    text = backbone.text.encode([PROMPTS[0]])
    readings: list[Reading] = []
    drawn(backbone, prompts=PROMPTS[:1], probe=PROBE, read_at=(0,), on_reading=lambda step, reading: readings.append(reading))
    keys = prompt_keys(backbone.text, PROMPTS[0], [Label("dog")])
    assert torch.equal(keys.embeddings, text.embeddings) and keys.columns == ((((0, 2),),),)
    assert float(keys.log_weight.abs().max()) == 0


def test_refusals(backbone: UNetBackbone) -> None:
    with pytest.raises(SettingsError, match="1 seeds for 2 prompts"):
        sample(backbone, PROMPTS, steps=1, guidance=1, seeds=[0])
    with pytest.raises(SettingsError, match=r"steps \[4\] cannot be read"):
        drawn(backbone, probe=PROBE, read_at=(4,), on_reading=lambda step, reading: None)
    with pytest.raises(VocabularyError, match="does not hold 'owl'"):
        prompt_keys(backbone.text, PROMPTS[0], [Label("owl")])


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # diffusers
@pytest.mark.parametrize(
    ("kind", "settings", "asked"),
    [(PNDMScheduler, {"skip_prk_steps": True}, 5), (HeunDiscreteScheduler, {}, 7)],
)  # fmt: skip
def test_samplers_that_ask_more_than_once_a_step(kind: Any, settings: dict[str, Any], asked: int) -> None:
    """Places of the trajectory are those of its timesteps, of which there are not as many as steps."""
    config = {name: value for name, value in build_scheduler().config.items() if not name.startswith("_")}
    config = {name: value for name, value in config.items() if name in inspect.signature(kind.__init__).parameters}
    backbone = build_backbone(scheduler=kind(**(config | settings)))
    assert evaluations(backbone, 4) == asked
    read, done = [], []
    with Passes(backbone.unet) as passes:
        drawn(backbone, guidance=1.0, probe=PROBE, read_at=(asked - 1,), on_reading=lambda step, _: read.append(step), progress=done.append)
    assert passes.count == asked and read == [asked - 1]
    assert done == sorted(done) and len(done) == asked and done[-1] == 4
    with pytest.raises(SettingsError, match=rf"timesteps \[{asked}\] cannot be read: there are {asked} in 4 steps"):
        drawn(backbone, probe=PROBE, read_at=(asked,), on_reading=lambda step, reading: None)
    whole = SynthesisSettings(steps=4, read_part=(0, 1), read_steps=0)
    made = Synthesizer(backbone, ListedPrompts(Vocabulary.parse("dog"), ["a dog"]), "daam", settings=whole)
    assert made.read_at == tuple(range(asked))


def test_steps_are_spread_over_a_part() -> None:
    assert chosen_steps(25, (0, 1), 0) == tuple(range(25))
    assert chosen_steps(25, (0.25, 0.75), 3) == (6, 12, 18)
    assert chosen_steps(25, (0.5, 0.5), 1) == (12,) and chosen_steps(1, (0, 1), 4) == (0,)
    assert chosen_steps(3, (0, 1), 50) == (0, 1, 2)
    for wrong in ((0.7, 0.2), (-0.1, 1), (0, 1.5)):
        with pytest.raises(SettingsError):
            chosen_steps(10, wrong, 2)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [("a dog", ["dog"]), ("two Dogs here", ["Dogs"]), ("dogma", []), ("hot dog, dog-house", ["dog", "dog"]), ("a puppy", ["puppy"])],
)
def test_words_are_found_as_words(prompt: str, found: list[str]) -> None:
    label = Label("dog", ("puppy",))
    assert [prompt[start:end] for start, end in find_labels(prompt, [label]).get(label, ())] == found


def test_a_name_inside_a_longer_name_is_not_meant(backbone: UNetBackbone) -> None:
    labels = list(Vocabulary.parse("apple, red apple, dog"))
    assert [label.name for label in find_labels("a red apple and a dog", labels)] == ["red apple", "dog"]
    prompt = "a red apple beside an apple"
    assert {label.name: spans for label, spans in find_labels(prompt, labels).items()} == {"apple": ((22, 27),), "red apple": ((2, 11),)}
    apple, red = prompt_keys(backbone.text, prompt, labels[:2]).columns
    assert not set(apple[0]) & set(red[0])
