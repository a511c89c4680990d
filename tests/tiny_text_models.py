"""Tiny CLIP and BLIP checkpoints with random weights, saved in the layout of the hub."""

import json
import string
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    ResNetConfig,
    ResNetModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

SIDE = 16
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": SIDE, "patch_size": 8}
NOUNS = "dog cat owl grass snow tree photo picture traffic light boat moon"
GRAMMAR = "a of the on with and sitting in , . ' -"


def picture(seed: int, *, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """(H, W, 3) uint8 noise around a colour of its own."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.integers(0, 256, 3) + rng.integers(-60, 60, (*size, 3)), 0, 255).astype(np.uint8)


def build_clip(folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """A CLIPModel whose tokenizer knows a few whole words, else single letters and bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocab = {token: i for i, token in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    merges = []
    for word in ("dog", "light"):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            vocab.setdefault(parts[0], len(vocab))
    start, end = len(vocab), len(vocab) + 1
    tokenizer = CLIPTokenizer(vocab=vocab | {"<|startoftext|>": start, "<|endoftext|>": end}, merges=merges)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    ids = {"vocab_size": end + 1, "bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(0)
    text = TOWER | ids | {"max_position_embeddings": 48, "projection_dim": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION | {"projection_dim": 8}, projection_dim=8))
    model.to(dtype).save_pretrained(folder)
    return folder


def build_dual_encoder(folder: Path) -> Path:
    """A VisionTextDualEncoderModel: a ResNet, whose pooled output is (n, channels, 1, 1), beside the text side of `build_clip`."""
    text = CLIPModel.from_pretrained(build_clip(folder)).text_model
    vision = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    vision.hidden_size = 16
    torch.manual_seed(0)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text.config, projection_dim=8)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    VisionTextDualEncoderModel(config=config, vision_model=ResNetModel(vision), text_model=text).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, do_center_crop=False).save_pretrained(folder)
    return folder


def build_blip(folder: Path) -> Path:
    """A BlipForConditionalGeneration that writes words of NOUNS and GRAMMAR; its tokenizer has no name for the start token."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NOUNS.split(), *GRAMMAR.split()]
    letters = [*string.ascii_lowercase[1:], *("##" + letter for letter in string.ascii_lowercase)]
    vocab = {word: i for i, word in enumerate(dict.fromkeys([*words, *letters]))}
    BertTokenizer(vocab=vocab).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    ids = {"vocab_size": len(vocab) + 2, "bos_token_id": len(vocab), "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 2}
    text = TOWER | ids | {"encoder_hidden_size": 16, "max_position_embeddings": 40, "initializer_range": 0.5}
    torch.manual_seed(3)
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=VISION | {"initializer_range": 0.5}))
    never = [i for word, i in vocab.items() if word in letters or word in words[:3] + words[4:5]]
    model.text_decoder.cls.predictions.bias.data[[*never, len(vocab), len(vocab) + 1]] = -1e4
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"max_length": 20, "num_beams": 1, "do_sample": False}  # the hub's config still says this
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink()
    return folder
