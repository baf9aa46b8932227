"""Writes tiny random checkpoints of every architecture the hub models load.

Each ``write_*`` fills a folder with what ``save_pretrained`` writes for the real model, at a fixed
seed, in well under a second. Loading goes through the code of the real ones.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.utils import logging

# Some configurations log complaints about their own defaults.
logging.set_verbosity_error()
logging.disable_progress_bar()

SEED = 20_240_229
_SENTENCES = [
    "a photo of a cat",
    "a cup of coffee on the table",
    "a rocket launch at night",
    "hello world",
    "the quick brown fox jumps over the lazy dog",
]
_LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_PICTURES = {**_LAYERS, "image_size": 32, "patch_size": 8}
#: Dimension of the space of :func:`write_clip` and of :func:`write_siglip`.
CLIP_DIMENSION = 16
SIGLIP_DIMENSION = 32
SENTENCE_DIMENSION = 32
#: What :func:`write_whisper` says, as (text, start_ms, end_ms) in every window.
WHISPER_SAYS = (("hello", 0, 400), ("world", 600, 1000))
_WHISPER_LETTERS = 256
_WHISPER_TIMESTAMPS = 1501


def write_clip(folder: Path) -> Path:
    """A CLIP dual encoder, 32 x 32 pictures, 16 dimensions."""
    tokenizer = _byte_pairs(
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
            **_LAYERS,
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
    return _save(folder, CLIPModel, config, CLIPProcessor(pictures, tokenizer))


def write_siglip(folder: Path) -> Path:
    """A SigLIP dual encoder of fixed resolution (also the layout of SigLIP 2 at 224 px)."""
    tokenizer = _byte_pairs({"eos_token": "</s>", "pad_token": "<pad>"}, max_tokens=64)
    config = SiglipConfig(text_config=_siglip_texts(tokenizer), vision_config=_PICTURES)
    pictures = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, SiglipModel, config, SiglipProcessor(pictures, tokenizer))


def write_siglip2(folder: Path) -> Path:
    """A SigLIP 2 dual encoder that keeps the aspect ratio (the "naflex" variants)."""
    tokenizer = _byte_pairs(
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
        vision_config={**_LAYERS, "num_patches": 64, "patch_size": 16},
    )
    pictures = Siglip2ImageProcessorPil(max_num_patches=64, patch_size=16)
    return _save(folder, Siglip2Model, config, Siglip2Processor(pictures, tokenizer))


def write_blip(folder: Path) -> Path:
    """A BLIP captioner; its captions are words in random order."""
    tokenizer = _word_pieces()
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(
        text_config={
            **_LAYERS,
            **ids,
            "vocab_size": len(tokenizer),
            "encoder_hidden_size": 32,
            "max_position_embeddings": 64,
            "projection_dim": 16,
        },
        vision_config=_PICTURES,
        projection_dim=16,
        image_text_hidden_size=16,
    )
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, BlipForConditionalGeneration, config, BlipProcessor(pictures, tokenizer))


def write_sentence(folder: Path) -> Path:
    """A BERT encoder with its tokenizer."""
    tokenizer = _word_pieces()
    config = BertConfig(**_LAYERS, vocab_size=len(tokenizer), max_position_embeddings=64)
    return _save(folder, BertModel, config, tokenizer)


def write_whisper(folder: Path, *, hears_speech: bool = True) -> Path:
    """A Whisper that says :data:`WHISPER_SAYS`, in English, in whatever it is given.

    Its decoder's position embeddings outweigh all else and each points at the next token. With
    ``hears_speech=False`` it reports no speech, and cannot tell one letter from another.
    """
    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    end = "<|endoftext|>"
    tokenizer = WhisperTokenizer(
        vocab=letters, merges=[], unk_token=end, bos_token=end, eos_token=end, pad_token=end
    )
    tokenizer.add_tokens(
        [
            end,
            "<|startoftranscript|>",
            "<|en|>",
            "<|zh|>",
            "<|translate|>",
            "<|transcribe|>",
            "<|startoflm|>",
            "<|startofprev|>",
            "<|nospeech|>",
            "<|notimestamps|>",
            *(f"<|{step * 0.02:.2f}|>" for step in range(_WHISPER_TIMESTAMPS)),
        ],
        special_tokens=True,
    )
    token_id = tokenizer.convert_tokens_to_ids
    ids: dict[str, Any] = {
        "pad_token_id": token_id(end),
        "bos_token_id": token_id(end),
        "eos_token_id": token_id(end),
        "decoder_start_token_id": token_id("<|startoftranscript|>"),
    }
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=1500,
        max_target_positions=64,
        **ids,
    )
    torch.manual_seed(SEED)
    model = WhisperForConditionalGeneration(config)
    _script_whisper(model, tokenizer, hears_speech=hears_speech)
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": token_id(f"<|{code}|>") for code in ("en", "zh")},
        task_to_id={task: token_id(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=token_id("<|notimestamps|>"),
        prev_sot_token_id=token_id("<|startofprev|>"),
        max_length=64,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **ids,
    )
    return _write(folder, model, WhisperProcessor(WhisperFeatureExtractor(), tokenizer))


def _script_whisper(
    model: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer, *, hears_speech: bool
) -> None:
    script = ["<|en|>" if hears_speech else "<|nospeech|>", "<|transcribe|>"]
    for text, start_ms, end_ms in WHISPER_SAYS:
        script += [f"<|{start_ms / 1000:.2f}|>", *text, f"<|{end_ms / 1000:.2f}|>"]
    script.append("<|endoftext|>")
    tokens = model.model.decoder.embed_tokens.weight
    positions = model.model.decoder.embed_positions.weight
    with torch.no_grad():
        tokens.normal_()
        if not hears_speech:
            tokens[:_WHISPER_LETTERS] = tokens[0].clone()
        for position, token in enumerate(script):
            positions[position] = tokens[tokenizer.convert_tokens_to_ids(token)] * 10


def _siglip_texts(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        **_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "projection_size": SIGLIP_DIMENSION,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _byte_pairs(
    special: dict[str, str], *, max_tokens: int, wrapped: bool = False
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _SENTENCES,
        trainers.BpeTrainer(
            vocab_size=400,
            show_progress=False,
            special_tokens=sorted(set(special.values())),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if wrapped:
        first, last = special["bos_token"], special["eos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (first, last)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, **special
    )


def _word_pieces() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        _SENTENCES,
        trainers.WordPieceTrainer(
            vocab_size=300,
            show_progress=False,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"],
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[DEC]",
        model_max_length=64,
    )


def _save(folder: Path, model_class: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(SEED)
    return _write(folder, model_class(config), processor)


def _write(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
