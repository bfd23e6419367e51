"""Prompts to token ids with SentencePiece (arXiv 1808.06226), as T5 does it: ids, then `</s>`, then padding.

The playground's captions speak a small language, so its vocabulary holds whole words, scored by log frequency
as in the unigram model (arXiv 1804.10959), and bytes for everything else: any text encodes, and a new word is
known as such.
"""

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from sora_jax.typing import Bool, Int, typed

PROMPT_LIMIT = 4000
_SPACE = "▁"
# SentencePiece's types of pieces; ids 0, 1 and 2 are T5's.
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_SPECIAL = (("<pad>", _CONTROL), ("</s>", _CONTROL), ("<unk>", _UNKNOWN))


def check_prompt(prompt: str) -> str:
    """The prompt without the white space around it.

    Raises ValueError when nothing is left, or more than `PROMPT_LIMIT` characters are.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt is {type(prompt).__name__} and must be text.")
    text = prompt.strip()
    if not text:
        raise ValueError('the prompt is empty: say what to show, for instance "a red circle moves right".')
    if len(text) > PROMPT_LIMIT:
        raise ValueError(f"the prompt has {len(text):,} characters, more than {PROMPT_LIMIT:,}: shorten it.")
    return text


class Tokenizer:
    """A SentencePiece model and the length that its ids are padded or cut to.

    `model` is the path of a `.model` file or its bytes. Raises ValueError when it can't be read as one.
    """

    def __init__(self, model: str | Path | bytes, max_length: int):
        if max_length < 2:
            raise ValueError(f"max_length is {max_length} and must be at least 2: one token and the end.")
        if isinstance(model, bytes):
            self.model, where = model, "the tokenizer's bytes"
        else:
            where = str(model)
            try:
                self.model = Path(model).read_bytes()
            except OSError as error:
                raise ValueError(f"tokenizer {where} can't be read: {error.strerror}.") from error
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            loaded = bool(self.model) and self._pieces.LoadFromSerializedProto(self.model)
        except (RuntimeError, ValueError):
            loaded = False
        if not loaded:
            raise ValueError(f"{where} is no SentencePiece model: it is cut short or another kind of file.")
        self.max_length = max_length
        self.eos_id = self._pieces.eos_id()
        self.pad_id = max(self._pieces.pad_id(), 0)

    @property
    def vocab_size(self) -> int:
        """How many pieces the model has; ids are below it."""
        return self._pieces.get_piece_size()

    def encode(self, prompt: str) -> list[int]:
        """Ids with `</s>` at the end, at most `max_length`. "" is `</s>` alone: the unconditional prompt."""
        text = " ".join(prompt.split())
        return [*self._pieces.encode(text)[: self.max_length - 1], self.eos_id]

    @typed
    def __call__(self, prompts: Sequence[str]) -> tuple[Int[np.ndarray, "b s"], Bool[np.ndarray, "b s"]]:
        """ids (int32, `pad_id` after the end) and mask (True on ids and `</s>`), both [b, max_length]."""
        if isinstance(prompts, str):
            raise ValueError("prompts is one string and must be a list of them: write [prompt].")
        ids = np.full((len(prompts), self.max_length), self.pad_id, np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, prompt in enumerate(prompts):
            tokens = self.encode(prompt)
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask

    def unknown_words(self, prompt: str) -> list[str]:
        """The prompt's words, in order and once each, that the vocabulary can only spell out in bytes."""
        words = dict.fromkeys(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", prompt))
        return [word for word in words if any(map(self._is_fallback, self._pieces.encode(word)))]

    def is_cut(self, prompt: str) -> bool:
        """Whether the prompt has more tokens than `max_length` leaves room for."""
        return len(self._pieces.encode(" ".join(prompt.split()))) > self.max_length - 1

    def _is_fallback(self, token: int) -> bool:
        return self._pieces.is_byte(token) or self._pieces.is_unknown(token)


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> bytes:
    """A SentencePiece model (its file's bytes) of the captions' words, upper and lower case alike.

    Pieces: `<pad>`, `</s>`, `<unk>`, 256 bytes, then words and punctuation by falling frequency:
    `vocab_size` in all, fewer when there are fewer words. The captions' order doesn't change the bytes.

    Raises ValueError when there is no caption or no room for a word.
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        for word in caption.casefold().split():
            parts = re.findall(r"[^\W_]+|.", word)
            counts.update([_SPACE + parts[0], *parts[1:]])
    fixed = len(_SPECIAL) + 256 + 1
    if not counts:
        raise ValueError("there are no captions to make a vocabulary from.")
    if vocab_size <= fixed:
        raise ValueError(f"vocab_size is {vocab_size} and must be over {fixed}: bytes come before words.")

    # Imported here, since only making a vocabulary needs protobuf.
    from sentencepiece import sentencepiece_model_pb2 as proto

    empty = _empty_model(sorted(counts))
    model = proto.ModelProto.FromString(empty)  # pyright: ignore[reportAttributeAccessIssue]
    del model.pieces[:]
    for piece, kind in _SPECIAL:
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0.0, type=_BYTE)
    counts.pop(_SPACE, None)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: vocab_size - fixed]
    total = sum(counts.values())
    for piece, count in ranked:
        model.pieces.add(piece=piece, score=math.log(count / total), type=_NORMAL)
    # A lone space mark, so that an unknown word is its own bytes and not the mark's three as well.
    model.pieces.add(piece=_SPACE, score=math.log(0.1 / total), type=_NORMAL)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model.SerializeToString(deterministic=True)


def _empty_model(words: Sequence[str]) -> bytes:
    """A model whose settings and normalisation table (NFKC, case folded) are right and pieces are not."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([word.replace(_SPACE, " ") for word in words]),
        model_writer=written,
        model_type="unigram",
        vocab_size=300 + len({letter for word in words for letter in word}),
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()
