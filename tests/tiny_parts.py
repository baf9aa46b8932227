"""What all tiny checkpoints are made of: their size, their tokenizers, and how they are saved."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
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
LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def byte_pairs(
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


def word_pieces() -> PreTrainedTokenizerFast:
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


def save(folder: Path, model_class: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(SEED)
    return write(folder, model_class(config), processor)


def write(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
