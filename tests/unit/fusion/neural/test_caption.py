"""Captions as tokens."""

from pipeline.fusion.neural.caption import (
    BEGIN,
    END,
    PAD,
    CaptionConfig,
    encode_captions,
    train_tokenizer,
)

TEXTS = ["a cat on a mat", "a cat on a hat", "ein Füchschen — 狐"]


def test_every_text_comes_back() -> None:
    caption = CaptionConfig(vocabulary=280, max_tokens=40)
    tokenizer = train_tokenizer(TEXTS, caption)
    assert tokenizer.get_vocab_size() <= 280
    rows = encode_captions([*TEXTS, None, "unseen: Ω <end>"], tokenizer, caption)
    assert rows.shape == (5, 41)
    for text, row in zip([*TEXTS, None, "unseen: Ω <end>"], rows.tolist(), strict=True):
        if text is None:
            assert row == [PAD] * 41
            continue
        assert row[0] == BEGIN
        end = len(row) - row[::-1].index(END) - 1
        assert row[end + 1 :] == [PAD] * (40 - end)
    assert tokenizer.decode(rows[2].tolist()) == TEXTS[2]
    assert rows[4].tolist().count(END) == 1
    assert tokenizer.decode(rows[4].tolist()) == "unseen: Ω <end>"
    assert train_tokenizer(TEXTS, caption).to_str() == tokenizer.to_str()


def test_what_is_too_long_is_cut() -> None:
    caption = CaptionConfig(vocabulary=260, max_tokens=4)
    rows = encode_captions(["abcdefgh"], train_tokenizer(["a"], caption), caption)
    assert rows.shape == (1, 5)
    assert END not in rows[0].tolist()
    assert PAD not in rows[0].tolist()
