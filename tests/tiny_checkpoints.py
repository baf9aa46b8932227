"""Writes tiny random checkpoints of every architecture that the hub models load (those that hear:
:mod:`tiny_sounds`).

Each ``write_*`` fills a folder with what ``save_pretrained`` writes for the real model, at a fixed
seed, in well under a second. Loading goes through the code of the real ones.
"""

from pathlib import Path
from typing import Any

from tiny_parts import LAYERS, byte_pairs, save, word_pieces
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

_PICTURES = {**LAYERS, "image_size": 32, "patch_size": 8}
#: Dimension of the space of :func:`write_clip` and of :func:`write_siglip`.
CLIP_DIMENSION = 16
SIGLIP_DIMENSION = 32
SENTENCE_DIMENSION = 32
#: As the published SmolVLM checkpoints have it.
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
#: Weights so large that every picture and word changes the answer, by more than rounding does.
_SHARP = 0.3


def write_clip(folder: Path) -> Path:
    """A CLIP dual encoder, 32 x 32 pictures, 16 dimensions."""
    tokenizer = byte_pairs(
        {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
        },
        max_tokens=77,
        wrapped=True,
    )
    config = CLIPConfig(
        text_config={
            **LAYERS,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 77,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=_PICTURES,
        projection_dim=CLIP_DIMENSION,
    )
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return save(folder, CLIPModel, config, CLIPProcessor(pictures, tokenizer))


def write_siglip(folder: Path) -> Path:
    """A SigLIP dual encoder of fixed resolution (also the layout of SigLIP 2 at 224 px)."""
    tokenizer = byte_pairs({"eos_token": "</s>", "pad_token": "<pad>"}, max_tokens=64)
    config = SiglipConfig(text_config=_siglip_texts(tokenizer), vision_config=_PICTURES)
    pictures = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return save(folder, SiglipModel, config, SiglipProcessor(pictures, tokenizer))


def write_siglip2(folder: Path) -> Path:
    """A SigLIP 2 dual encoder that keeps the aspect ratio (the "naflex" variants)."""
    tokenizer = byte_pairs(
        {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
        max_tokens=64,
    )
    config = Siglip2Config(
        text_config=_siglip_texts(tokenizer),
        vision_config={**LAYERS, "num_patches": 64, "patch_size": 16},
    )
    pictures = Siglip2ImageProcessorPil(max_num_patches=64, patch_size=16)
    return save(folder, Siglip2Model, config, Siglip2Processor(pictures, tokenizer))


def write_blip(folder: Path) -> Path:
    """A BLIP captioner; its captions are words in random order."""
    return _write_blip(folder, BlipForConditionalGeneration)


def write_blip_vqa(folder: Path) -> Path:
    """A BLIP that answers questions; its answers are words in random order."""
    return _write_blip(folder, BlipForQuestionAnswering, _SHARP)


def _write_blip(folder: Path, model_class: Any, deviation: float = 0.02) -> Path:
    tokenizer = word_pieces()
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(
        text_config={
            **LAYERS,
            **ids,
            "vocab_size": len(tokenizer),
            "encoder_hidden_size": 32,
            "max_position_embeddings": 64,
            "projection_dim": 16,
            "initializer_range": deviation,
        },
        vision_config={**_PICTURES, "initializer_range": deviation},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return save(folder, model_class, config, BlipProcessor(pictures, tokenizer))


def write_smolvlm(folder: Path) -> Path:
    """A SmolVLM 2: 32 x 32 pictures of 4 tokens each; it says letters in random order."""
    return _write_idefics(
        folder, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil
    )


def write_idefics3(folder: Path) -> Path:
    """An Idefics3, which is what the first SmolVLM is, otherwise as :func:`write_smolvlm`."""
    return _write_idefics(
        folder, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil
    )


def _write_idefics(folder: Path, config_class: Any, model_class: Any, pictures_class: Any) -> Path:
    tokenizer = byte_pairs(
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
        },
        max_tokens=4096,
    )
    tokenizer.add_tokens(
        [
            "<fake_token_around_image>",
            "<image>",
            "<global-img>",
            *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
        ],
        special_tokens=True,
    )
    config = config_class(
        text_config={
            **LAYERS,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": _SHARP,
        },
        vision_config={**_PICTURES, "initializer_range": _SHARP},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    pictures = pictures_class(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=CHAT_TEMPLATE)
    return save(folder, model_class, config, processor)


def write_sentence(folder: Path) -> Path:
    """A BERT encoder with its tokenizer."""
    tokenizer = word_pieces()
    config = BertConfig(**LAYERS, vocab_size=len(tokenizer), max_position_embeddings=64)
    return save(folder, BertModel, config, tokenizer)


def _siglip_texts(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        **LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "projection_size": SIGLIP_DIMENSION,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
