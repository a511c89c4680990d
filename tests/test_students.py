"""Students: what they learn, what lies in their folder, and that every way of using them gives the same masks."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, SegformerConfig, SegformerImageProcessorPil

from maskwright.errors import MissingExtraError, ModelError, OutputError, SettingsError
from maskwright.evaluation.confusion import class_iou, count_pixels
from maskwright.exports.document import to_document
from maskwright.students import export, speed
from maskwright.students.distill import Distiller, suited_training
from maskwright.students.export import export_onnx, open_session, run_onnx
from maskwright.students.folder import processor
from maskwright.students.network import Normalisation, StudentNetwork, build_student, class_names, try_out
from maskwright.students.pictures import reading_size
from maskwright.students.settings import StudentSettings, side_for
from maskwright.students.student import Student
from maskwright.students.task import StudentTask
from maskwright.training.augment import NOTHING
from maskwright.training.checkpoint import CHECKPOINT
from maskwright.training.curve import CURVE, read_curve
from maskwright.training.examples import Example, ExampleSet
from tests.students import NAMES, SIDE, TINY, draw_pair, write_checkpoint, write_pairs
from tests.tiny import random


def tiny_training(**given: Any) -> Any:
    return suited_training(TINY, **({"epochs": 2, "batch": 4, "validation": 0.25, "augment": NOTHING} | given))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    """The folder of a finished student that has learned its eight pictures by heart, and its record."""
    folder = tmp_path_factory.mktemp("made") / "student"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SECONDS", 0.0)
        distiller = Distiller(ExampleSet.open(data), TINY, tiny_training(epochs=60, validation=0.0, rate=4e-3), device="cpu")
        steps = list(distiller.run(folder))
        assert steps[-1].step == steps[-1].steps == 120
        return folder, distiller.finish(folder)


@pytest.fixture(scope="module")
def student(made: tuple[Path, Mapping[str, Any]]) -> Student:
    return Student.load(made[0], device="cpu")


def picture(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_it_overfits_a_few_pairs(student: Student) -> None:
    pairs = [draw_pair(seed) for seed in range(8)]
    counts = [count_pixels(mask, student.segment(image).label_map, classes=3) for image, mask in pairs]
    assert class_iou(np.sum(counts, axis=0)).min() > 0.8


@pytest.mark.parametrize("shape", [(1, SIDE, SIDE), (3, SIDE, SIDE), (2, 45, 64), (1, 64, 33), (5, 96, 128)])
def test_the_onnx_file_gives_the_masks_of_the_network(made: tuple[Path, Any], student: Student, shape: tuple[int, int, int]) -> None:
    pixels = np.stack([np.array(Image.fromarray(draw_pair(seed, side=128)[0]).resize((shape[2], shape[1]))) for seed in range(shape[0])])
    with torch.no_grad():
        logits = student.network(torch.from_numpy(pixels)).numpy()
    labels, found = run_onnx(open_session(made[0] / "model.onnx", threads=1), pixels)
    np.testing.assert_allclose(found, logits, atol=1e-4 * np.abs(logits).max())
    assert labels.dtype == np.uint8 and labels.shape == shape
    first, second = np.sort(logits, axis=1)[:, [-1, -2]].swapaxes(0, 1)
    clear = first - second > 1e-3  # a tie may fall either way
    assert clear.mean() > 0.99 and (labels == logits.argmax(1))[clear].all()


def test_the_student_onnx_and_transformers_agree_on_a_picture_of_the_trained_size(made: tuple[Path, Any], student: Student) -> None:
    image = draw_pair(3)[0]
    own = student.segment(image).label_map
    labels, _ = run_onnx(open_session(made[0] / "model.onnx", threads=1), image[None])
    model, pixels = AutoModelForSemanticSegmentation.from_pretrained(made[0]).eval(), AutoImageProcessor.from_pretrained(made[0])
    with torch.no_grad():
        outputs = model(**pixels(images=Image.fromarray(image), return_tensors="pt"))
    theirs = pixels.post_process_semantic_segmentation(outputs, target_sizes=[image.shape[:2]])[0].numpy()
    assert len(np.unique(own)) == 3
    assert (labels[0] == own).mean() > 0.998 and (theirs == own).mean() > 0.998


@pytest.mark.parametrize("size", [(70, 50), (50, 70), (20, 60), (128, 128)])
def test_transformers_reads_any_shape_as_the_student_does(made: tuple[Path, Any], student: Student, size: tuple[int, int]) -> None:
    image = picture(3, *size)
    loaded = SegformerImageProcessorPil.from_pretrained(made[0])
    theirs = loaded(images=Image.fromarray(image), return_tensors="pt")["pixel_values"]
    assert tuple(theirs.shape[-2:]) == reading_size(size, side=32, any_shape=True)
    with torch.no_grad():
        logits = student.network.model(pixel_values=theirs).logits
    full = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False, antialias=size[0] < logits.shape[2])
    assert (full[0].argmax(0).numpy() == student.segment(image).label_map).mean() > 0.995


def test_the_file_says_what_it_takes_and_nothing_of_this_machine(made: tuple[Path, Any]) -> None:
    model = onnx.load(made[0] / "model.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["labels"]) == ["background", *NAMES] and told["size"] == "32"
    (pixels,), (labels, logits) = model.graph.input, model.graph.output
    shapes = [[axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in (pixels, labels, logits)]
    assert shapes == [["batch", "height", "width", 3], ["batch", "height", "width"], ["batch", 3, "height", "width"]]
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8 == labels.type.tensor_type.elem_type
    content = (made[0] / "model.onnx").read_bytes()
    assert b"/src/" not in content and b"site-packages" not in content and b".py" not in content


def test_the_folder_holds_the_record_and_no_path(made: tuple[Path, Any], data: Path) -> None:
    folder, record = made
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "preprocessor_config.json", "model.safetensors", "model.onnx", "labels.txt", "student.json", "curve.jsonl",
        "curve.png", "README.md",
    }  # fmt: skip
    text = (folder / "student.json").read_text()
    assert json.loads(text) == record and str(folder.parent) not in text and str(data) not in text
    assert (folder / "labels.txt").read_text().splitlines() == list(NAMES)
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "background", "1": NAMES[0], "2": NAMES[1]}
    assert record["figures"] == {} and record["training"]["steps"] == 120 and record["onnx"]["any_size"]
    assert record["bytes"] == {name: (folder / name).stat().st_size for name in ("model.safetensors", "model.onnx")}
    assert {(row["engine"], row["batch"]) for row in record["speed"]} == {(e, b) for e in ("torch", "onnxruntime") for b in (1, 8)}
    assert all(row["pictures_per_second"] > 1 for row in record["speed"]) and "onnxruntime" in record["versions"]


def test_the_examples_of_the_card_run(made: tuple[Path, Any], student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").symlink_to(made[0])
    image = np.concatenate([draw_pair(5, side=64)[0], draw_pair(6, side=64)[0]], axis=1)
    Image.fromarray(image).save("picture.png")
    examples = re.findall(r"```python\n(.*?)```", (made[0] / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    own = student.segment("picture.png").label_map
    for code in examples:
        assert len(code.splitlines()) <= 11
        scope: dict[str, Any] = {}
        exec(code, scope)
        labels = np.asarray(scope["labels"])
        assert labels.shape == ((64, 128) if "transformers" in code else (32, 64))
    assert (np.asarray(Image.open("labels.png")) == own).mean() > 0.95
    assert "picture.png" in (made[0] / "README.md").read_text()


def test_a_segmentation_has_names_probabilities_and_a_record(student: Student) -> None:
    found = student.segment(draw_pair(1, side=80)[0])
    assert found.names == NAMES and found.label_map.shape == (80, 80) and 0 < found.confidence.max() <= 1
    both = found.scores
    assert both.shape == (3, 80, 80) and both.min() >= 0 and np.abs(both.sum(0) - 1).max() < 1e-5
    np.testing.assert_array_equal(np.maximum.reduce(both), found.confidence)
    assert to_document(found)["record"]["method"] == "student"


def test_neighbours_do_not_matter_and_pictures_come_in_their_order(student: Student) -> None:
    images = [draw_pair(seed, side=side)[0] for seed, side in enumerate((32, 32, 64, 48, 32))]
    together = student.segment(images)
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(found.picture.pixels, image)
        assert (student.segment(image).label_map == found.label_map).mean() > 0.999


def test_pixels_under_255_change_no_gradient() -> None:
    image, mask = draw_pair(0)
    task, gradients = StudentTask(32), []
    for number in (0, 1, 2, 255):
        network = build_student(TINY, NAMES, seed=1).eval()
        truth = mask.copy()
        truth[10:20, 10:20] = 255
        changed = np.where(truth == 255, number, truth) if number != 255 else truth
        loss = task.loss(network, [Example(image, changed.astype(np.uint8))])
        loss.backward()
        gradients.append(network.model.decode_head.classifier.weight.grad.clone())
    assert not any(torch.equal(gradients[3], other) for other in gradients[:3])  # the number under 255 would matter


def test_what_the_network_says_under_255_changes_no_gradient() -> None:
    class Fixed(StudentNetwork):
        logits: torch.Tensor

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.logits

    network, (image, mask) = Fixed(build_student(TINY, NAMES).model, Normalisation()), draw_pair(0)
    ignored = torch.from_numpy(mask == 255)
    said, other = random(1, 3, SIDE, SIDE, seed=1), 5 * random(1, 3, SIDE, SIDE, seed=2)
    gradients = []
    for logits in (said, torch.where(ignored, other, said)):
        network.logits = logits.clone().requires_grad_()
        StudentTask(SIDE).loss(network, [Example(image, mask)]).backward()
        assert network.logits.grad is not None and not network.logits.grad[:, :, ignored].any()
        gradients.append(network.logits.grad)
    assert ignored.any() and torch.equal(*gradients) and gradients[0].any()


def test_ignored_pixels_count_in_no_figure() -> None:
    network, (image, mask) = build_student(TINY, NAMES).eval(), draw_pair(0)
    task = StudentTask(32)
    with torch.no_grad():
        counts = task.measure(network, [Example(image, mask)] * 2)
    assert counts.shape == (3, 4) and counts.sum() == 2 * (mask != 255).sum()
    assert set(task.figures([counts, counts])) == {"mean_iou", "accuracy"}


def test_a_resumed_training_equals_an_unbroken_one(data: Path, tmp_path: Path) -> None:
    """Broken off in the middle of an epoch after a checkpoint at its beginning; network with dropout and stochastic depth."""

    def start(folder: str, **options: Any) -> Any:
        distiller = Distiller(ExampleSet.open(data), TINY, tiny_training(epochs=3, batch=2), device="cpu", onnx=False)
        return distiller, distiller.run(tmp_path / folder, **options)

    whole, steps = start("whole")
    assert sum(one.validation is not None for one in steps) == 3
    trained = {name: value.clone() for name, value in whole.network.state_dict().items()}
    _, steps = start("broken")
    for _ in range(6):
        next(steps)
    steps.close()
    resumed, steps = start("broken", resume=True)
    assert next(steps).step == 4
    assert list(steps)[-1].epoch == 3
    assert (tmp_path / "broken" / CURVE).read_bytes() == (tmp_path / "whole" / CURVE).read_bytes()
    for name, value in trained.items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    told = [set(line["validation"]) for line in read_curve(tmp_path / "whole" / CURVE) if "validation" in line]
    assert told == [{"mean_iou", "accuracy"}] * 3


def test_a_training_that_was_killed_before_its_files_were_written_is_finished(data: Path, tmp_path: Path) -> None:
    def start() -> Distiller:
        return Distiller(ExampleSet.open(data), TINY, tiny_training(epochs=1), device="cpu", onnx=False)

    trained, later = start(), start()
    assert len(list(trained.run(tmp_path))) == 2
    assert list(later.run(tmp_path, resume=True)) == []
    later.finish(tmp_path)
    assert {"student.json", "README.md"} <= {path.name for path in tmp_path.iterdir()} and not (tmp_path / CHECKPOINT).exists()
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, Student.load(tmp_path).network.state_dict()[name]), name


def test_a_complete_student_is_not_trained_again(made: tuple[Path, Any], data: Path) -> None:
    folder, record = made

    def again(**changed: Any) -> Distiller:
        training = tiny_training(**({"epochs": 60, "validation": 0.0, "rate": 4e-3} | changed))
        return Distiller(ExampleSet.open(data), TINY, training, onnx=False)

    with pytest.raises(OutputError, match="holds a student already"):
        again().run(folder)
    with pytest.raises(SettingsError, match=r"epochs 60, not 61"):
        again(epochs=61).run(folder, resume=True)
    distiller = again()
    assert list(distiller.run(folder, resume=True)) == []
    for name, value in Student.load(folder).network.state_dict().items():
        assert torch.equal(value, distiller.network.state_dict()[name]), name
    assert json.loads((folder / "student.json").read_text()) == record


def test_the_default_has_the_shape_of_b0() -> None:
    network = build_student(StudentSettings(), [f"label {number}" for number in range(149)])
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_752_694  # of nvidia/segformer-b0-finetuned-ade-512-512
    published = SegformerConfig()
    for name in ("hidden_sizes", "depths", "num_attention_heads", "decoder_hidden_size", "sr_ratios"):
        assert tuple(np.atleast_1d(getattr(network.model.config, name))) == tuple(np.atleast_1d(getattr(published, name))), name


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    one, before = build_student(TINY, NAMES, seed=3), torch.random.get_rng_state()
    torch.manual_seed(6)
    other, third = build_student(TINY, NAMES, seed=3), build_student(TINY, NAMES, seed=4)
    torch.manual_seed(5)
    assert torch.equal(before, torch.random.get_rng_state())
    one, other, third = (network.model.decode_head.linear_fuse.weight for network in (one, other, third))
    assert torch.equal(one, other) and not torch.equal(one, third)


@pytest.mark.parametrize("classes", [5, 3])
def test_a_local_checkpoint_keeps_its_body_and_gets_a_new_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """Also where the old head has as many classes as the new one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_checkpoint(tmp_path / "old", classes=classes)
    old = AutoModelForSemanticSegmentation.from_pretrained(folder).state_dict()
    network = build_student(StudentSettings(checkpoint=str(folder)), NAMES, seed=1, offline=True)
    assert network.classes == 3 and network.model.config.id2label[1] == NAMES[0]
    for name, value in network.model.state_dict().items():
        if name == "decode_head.classifier.weight":
            assert len(value) == 3 and (value.shape != old[name].shape or not torch.equal(value, old[name]))
        elif "classifier" not in name:
            assert torch.equal(value, old[name]), name


def test_a_checkpoint_without_its_body_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_checkpoint(tmp_path / "old")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer_norm" not in name or "decode_head" in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="weights are missing or of another shape"):
        build_student(StudentSettings(checkpoint=str(folder)), NAMES)


def test_the_normalisation_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "old")
    own = {"do_rescale": True, "rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    network = build_student(StudentSettings(checkpoint=str(folder)), NAMES)
    assert network.normalisation == Normalisation(1 / 127.5, (1.0,) * 3, (1.0,) * 3)
    seen = []
    network.model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True)
    with torch.no_grad():
        network.eval()(torch.tensor([0, 255], dtype=torch.uint8).repeat(512).view(1, 32, 32, 1).expand(-1, -1, -1, 3))
    assert seen[0].min() == -1 and seen[0].max() == 1


def test_blue_first_is_turned_inside() -> None:
    kept = Normalisation.of({"do_rescale": True, "do_flip_channel_order": True})
    assert kept == Normalisation(1 / 255, (0.0,) * 3, (1.0,) * 3, True)
    assert processor(kept, side=64, any_shape=True)["do_flip_channel_order"] is True
    network, seen = StudentNetwork(build_student(TINY, NAMES).model, kept).eval(), []
    network.model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True)
    with torch.no_grad():
        network(torch.tensor([255, 0, 0], dtype=torch.uint8).expand(1, 32, 32, 3))
    assert seen[0][0, :, 0, 0].tolist() == [0, 0, 1]


def test_a_network_of_squares_is_tried_out_and_exported_so(tmp_path: Path) -> None:
    class Square(StudentNetwork):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if pixels.shape[1] != pixels.shape[2]:
                raise ValueError("squares only")
            return super().forward(pixels)

    flat = StudentSettings(size=32, channels=(16,), layers=(1,), width=16)
    network = Square(build_student(flat, NAMES).model, Normalisation()).eval()
    assert try_out(network, 32) is False and try_out(build_student(TINY, NAMES), 32) is True
    assert reading_size((50, 70), side=32, any_shape=False) == (32, 32)
    assert not export_onnx(network, tmp_path / "model.onnx", side=32, names=class_names(NAMES), any_shape=False).any_size
    labels, _ = run_onnx(open_session(tmp_path / "model.onnx"), picture(0, 32, 32)[None].repeat(4, 0))
    assert labels.shape == (4, 32, 32)


def test_a_size_that_a_network_cannot_read_is_told() -> None:
    class Other(StudentNetwork):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            raise ValueError("Input image size doesn't match model")

    with pytest.raises(SettingsError, match="cannot read pictures of 64 pixels"):
        try_out(Other(build_student(TINY, NAMES).model, Normalisation()), 64)


def test_sizes() -> None:
    assert [side_for(shorter) for shorter in (20, 64, 128, 129, 300, 4000)] == [128, 128, 128, 160, 320, 512]
    assert reading_size((100, 200), side=64, any_shape=True) == (64, 128)
    assert reading_size((4000, 10), side=64, any_shape=True) == (256, 64)
    for wrong in (0, -32, 100):
        with pytest.raises(SettingsError, match="multiple of 32"):
            StudentSettings(size=wrong)
    with pytest.raises(SettingsError, match="four stages"):
        StudentSettings(channels=(32, 64))


@pytest.mark.parametrize(("onnx_too", "missing"), [(True, "onnxscript"), (True, "matplotlib"), (False, "matplotlib")])
def test_missing_packages_are_told_before_the_training(data: Path, monkeypatch: pytest.MonkeyPatch, onnx_too: bool, missing: str) -> None:
    found = export.util.find_spec
    monkeypatch.setattr(export.util, "find_spec", lambda name, *rest: None if name == missing else found(name, *rest))
    with pytest.raises(MissingExtraError, match=rf'{missing}: pip install "maskwright\[train\]"'):
        Distiller(ExampleSet.open(data), TINY, onnx=onnx_too)


def test_a_folder_that_is_no_student_is_refused(tmp_path: Path, made: tuple[Path, Any]) -> None:
    with pytest.raises(ModelError, match=r"without student\.json"):
        Student.load(tmp_path)
    (tmp_path / "student.json").write_bytes((made[0] / "student.json").read_bytes())
    with pytest.raises(ModelError, match=r"lacks config.json"):
        Student.load(tmp_path)


def test_a_label_called_background_has_its_own_class() -> None:
    assert class_names(["dog", "Background"]) == ("(background)", "dog", "Background")


def test_nothing_needs_torchvision() -> None:
    assert "torchvision" not in sys.modules
