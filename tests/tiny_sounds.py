"""Writes tiny random checkpoints of the models that hear: see :mod:`tiny_checkpoints`."""

from pathlib import Path
from typing import Any

import torch
from tiny_parts import LAYERS, SEED, byte_pairs, save, write
from tokenizers import pre_tokenizers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

CLAP_DIMENSION = 16
#: The classes of :func:`write_ast`.
AST_CLASSES = ("Speech", "Music", "Rain")
#: What :func:`write_whisper` says, as (text, start_ms, end_ms) in every window.
WHISPER_SAYS = (("hello", 0, 400), ("world", 600, 1000))
_WHISPER_LETTERS = 256
_WHISPER_TIMESTAMPS = 1501


def write_ast(folder: Path, *, columns: int = 1024) -> Path:
    """An AST for windows of ``columns`` × 10 ms and :data:`AST_CLASSES`."""
    names = dict(enumerate(AST_CLASSES))
    config = ASTConfig(
        **{**LAYERS, "num_hidden_layers": 1},
        max_length=columns,
        num_mel_bins=32,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    extractor = ASTFeatureExtractor(max_length=columns, num_mel_bins=32)
    return save(folder, ASTForAudioClassification, config, extractor)


def write_clap(folder: Path, *, fusion: bool = False) -> Path:
    """A CLAP of sounds and texts, 16 dimensions."""
    tokenizer = byte_pairs(
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "cls_token": "<s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
        max_tokens=77,
        wrapped=True,
    )
    config = ClapConfig(
        text_config={
            **LAYERS,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 80,
            "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": CLAP_DIMENSION,
        },
        audio_config={
            "spec_size": 256,
            "num_mel_bins": 64,
            "window_size": 8,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "patch_embeds_hidden_size": 16,
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [2, 2, 2, 2],
            "hidden_size": 128,
            "projection_dim": CLAP_DIMENSION,
            "num_classes": 5,
            "enable_fusion": fusion,
            "num_hidden_layers": 4,
        },
        projection_dim=CLAP_DIMENSION,
    )
    extractor = ClapFeatureExtractor(
        feature_size=64, truncation="fusion" if fusion else "rand_trunc", padding="repeatpad"
    )
    return save(folder, ClapModel, config, ClapProcessor(extractor, tokenizer))


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
        alignment_heads=[[0, 0], [0, 1]],
        **ids,
    )
    return write(folder, model, WhisperProcessor(WhisperFeatureExtractor(), tokenizer))


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
