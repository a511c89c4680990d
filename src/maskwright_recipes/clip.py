"""The CLIP that comes with a model: a picture and words in, how well each word fits out. `clip_training.py` trains it.

The category filter of `maskwright segment` asks it which of many words are worth a look, and `train --align` what is where.
"""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPTokenizer,
    ResNetConfig,
    ResNetModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from maskwright.backbones.hub import CLIP, SIDECAR
from maskwright.errors import SettingsError
from maskwright_recipes.networks import Size, build_text_encoder
from maskwright_recipes.sidecar import edit_json, weights_digest
from maskwright_recipes.tokenizer import save_tokenizer
from maskwright_recipes.warm_start import start_text_encoder

WIDTHS, DEPTHS, EMBEDDING = (64, 192), (2, 4), 192  # EMBEDDING: at least as wide as any text encoder of sizes.toml
SHRINKAGE = 0.1  # of the whitening, against directions in which no text has anything


def build_clip(size: Size, tokenizer: CLIPTokenizer) -> Any:
    """An image encoder of 2.7 million parameters, whose last feature map has an eighth of a picture's side, and a text encoder of the size.

    Convolutions with batch normalisation, since they are seven times as fast on a CPU as the same work in layer normalisations,
    depthwise convolutions or attention.
    """
    text = build_text_encoder(size, tokenizer)
    vision: Any = ResNetConfig(embedding_size=WIDTHS[0], hidden_sizes=list(WIDTHS), depths=list(DEPTHS), layer_type="basic")
    vision.hidden_size = WIDTHS[-1]  # VisionTextDualEncoderModel asks for it, and ResNet's own configuration has none
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text.config, projection_dim=EMBEDDING)
    return VisionTextDualEncoderModel(config=config, vision_model=ResNetModel(vision), text_model=text)


def load_clip(folder: Path) -> Any:
    """A CLIP that was exported, float32, frozen, in eval mode."""
    model: Any = VisionTextDualEncoderModel.from_pretrained(folder, dtype=torch.float32)
    return model.eval().requires_grad_(False)


def pool_pictures(model: Any, pictures: Tensor) -> Tensor:
    """(n, 3, H, W) in -1..1 to the image encoder's features, averaged over places: (n, channels) float32."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        pooled: Tensor = model.vision_model(pictures).pooler_output.flatten(1)
    return pooled.float()


def project_pictures(model: Any, pooled: Tensor) -> Tensor:
    """What `pool_pictures` gives to unit vectors (n, EMBEDDING) in the space of the texts."""
    return F.normalize(model.visual_projection(pooled), dim=-1)


def embed_pictures(model: Any, pictures: Tensor) -> Tensor:
    """(n, 3, H, W) in -1..1 to unit vectors (n, EMBEDDING), float32."""
    return project_pictures(model, pool_pictures(model, pictures))


def embed_texts(model: Any, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Texts to unit vectors (texts, EMBEDDING), float32."""
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt").to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        embedded = model.text_projection(model.text_model(**encoded).pooler_output)
    return F.normalize(embedded.float(), dim=-1)


def start_clip(model: Any, tokenizer: CLIPTokenizer, folder: Path) -> bool:
    """Starts from the CLIP of a pipeline folder if there is one of the same words and size, else its text encoder from the pipeline's.

    Returns:
        Whether there was such a CLIP.

    Raises:
        SettingsError: a folder that holds no such pipeline.
    """
    try:
        if knows_clip(folder, tokenizer):
            given, own = load_clip(folder / CLIP).state_dict(), model.state_dict()
            if {name: tensor.shape for name, tensor in given.items()} == {name: tensor.shape for name, tensor in own.items()}:
                model.load_state_dict(given)
                return True
        start_text_encoder(model.text_model, tokenizer, folder)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder} holds no pipeline to start from: name a folder with unet, text_encoder and tokenizer") from error
    return False


@torch.no_grad()
def part_texts(model: Any, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> None:
    """Sets the projection of texts so that these lie apart: it whitens them, for a text encoder makes all sentences much alike."""
    states = model.text_model(**tokenizer(list(texts), padding=True, return_tensors="pt")).pooler_output  # texts width
    values, vectors = torch.linalg.eigh(states.T @ states / len(states))
    least = SHRINKAGE * values.median().clamp(min=1e-4 * values[-1])  # of few texts most directions are empty
    whitening = vectors @ torch.diag((values.clamp(min=0) + least).rsqrt()) @ vectors.T
    weight = model.text_projection.weight
    turned = torch.linalg.qr(torch.randn(len(weight), whitening.shape[0]))[0]  # EMBEDDING width, with orthonormal columns
    weight.copy_(turned @ whitening)


def knows_clip(folder: Path, tokenizer: CLIPTokenizer) -> bool:
    """Whether a pipeline folder comes with a CLIP of the same words."""
    try:
        return (folder / CLIP).is_dir() and CLIPTokenizer.from_pretrained(folder / CLIP).get_vocab() == tokenizer.get_vocab()
    except (OSError, ValueError):
        return False


def export_clip(model: Any, tokenizer: CLIPTokenizer, folder: Path, *, side: int, ratio: float) -> None:
    """Writes the model in the hub's layout, fp16, in place of one that is there.

    Args:
        model: as `build_clip` makes it.
        tokenizer: of its words.
        folder: gets tokenizer and image processor, too, and maskwright.json with ratio and revision.
        side: of the pictures it was trained on.
        ratio: of the category filter.
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    copy.deepcopy(model).half().save_pretrained(fresh)
    save_tokenizer(tokenizer, fresh)
    # the short side as long as in training, the rest as it is: what lies at the sides of a wide picture counts, too
    CLIPImageProcessorPil(
        size={"shortest_edge": side}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True
    ).save_pretrained(fresh)  # fmt: skip
    edit_json(fresh / "config.json", dtype="float32", _name_or_path=None)
    (fresh / SIDECAR).write_text("{}", encoding="utf-8")
    edit_json(fresh / SIDECAR, ratio=ratio, revision=weights_digest(fresh))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
