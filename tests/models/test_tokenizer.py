import os
import random

import numpy as np
import pytest

from sora_jax.models.tokenizer import PROMPT_LIMIT, Tokenizer, check_prompt, train_tokenizer

CAPTIONS = [
    "a red circle moves right",
    "A large red circle moves to the right across a black background while the camera stays still.",
    "two small blue squares spin, and a star bounces",
    "a ring goes behind a gray wall; it gets dark",
] * 3


@pytest.fixture(scope="module")
def model():
    return train_tokenizer(CAPTIONS, 512)


@pytest.fixture(scope="module")
def tokenizer(model):
    return Tokenizer(model, max_length=24)


def test_a_known_word_is_one_token_whatever_its_case(tokenizer):
    assert len(tokenizer.encode("a red circle")) == 4
    assert tokenizer.encode("A RED  Circle\n") == tokenizer.encode("a red circle")
    assert len(tokenizer.encode("still.")) == 3


def test_ids_and_mask_end_and_pad_as_t5_does(tokenizer):
    ids, mask = tokenizer(["a red circle", "", "blue " * 100])
    assert ids.shape == mask.shape == (3, 24)
    assert ids.dtype == np.int32
    assert mask.dtype == bool
    assert mask.sum(1).tolist() == [4, 1, 24]
    assert (ids[~mask] == 0).all()
    assert [row[row_mask][-1] for row, row_mask in zip(ids, mask, strict=True)] == [1, 1, 1]
    assert ids.max() < tokenizer.vocab_size <= 512


def test_any_text_encodes_without_an_unknown_token(tokenizer):
    rng = random.Random(0)
    for _ in range(200):
        text = "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xA0, 0xD7FF)))) for _ in range(9)
        )
        assert 2 not in tokenizer.encode(text), text


def test_words_never_seen_are_named_in_order(tokenizer):
    assert tokenizer.unknown_words("A red elephant dances; the ELEPHANT is redder than a star.") == [
        "elephant",
        "dances",
        "ELEPHANT",
        "is",
        "redder",
        "than",
    ]
    assert tokenizer.unknown_words("a 火 ring") == ["火"]
    assert tokenizer.unknown_words(CAPTIONS[1]) == []


def test_a_prompt_over_the_length_is_known_to_be_cut(tokenizer):
    assert tokenizer.is_cut("red " * 24)
    assert not tokenizer.is_cut("red " * 23)


def test_the_same_captions_in_any_order_give_the_same_bytes(model):
    shuffled = random.Random(1).sample(CAPTIONS, len(CAPTIONS))
    assert train_tokenizer(iter(shuffled), 512) == model


def test_a_small_vocabulary_keeps_the_most_frequent_words():
    tokenizer = Tokenizer(train_tokenizer(["red red red blue blue star"], 262), max_length=8)
    assert tokenizer.vocab_size == 262
    assert tokenizer.unknown_words("red blue star") == ["star"]


@pytest.mark.parametrize(
    ("captions", "size", "match"),
    [([], 512, "no captions"), (["", " "], 512, "no captions"), (["a"], 256, "256")],
)
def test_a_vocabulary_of_nothing_is_refused(captions, size, match):
    with pytest.raises(ValueError, match=match):
        train_tokenizer(captions, size)


@pytest.mark.parametrize("bad", [b"", b"not a model", None], ids=["empty", "other", "cut"])
def test_what_is_no_model_is_refused(bad, model):
    with pytest.raises(ValueError, match="no SentencePiece model"):
        Tokenizer(model[: len(model) // 2] if bad is None else bad, max_length=8)


def test_an_absent_file_and_no_room_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match="can't be read"):
        Tokenizer(tmp_path / "absent.model", max_length=8)
    with pytest.raises(ValueError, match="max_length is 1"):
        Tokenizer(model, max_length=1)


def test_one_string_is_not_taken_for_a_list(tokenizer):
    with pytest.raises(ValueError, match="one string"):
        tokenizer("a red circle")


def test_a_path_reads_the_same_model(tmp_path, model, tokenizer):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model)
    assert Tokenizer(path, max_length=24).encode("a star") == tokenizer.encode("a star")


def test_prompts_are_bounded():
    assert check_prompt("  a star \n") == "a star"
    assert len(check_prompt("x" * PROMPT_LIMIT)) == PROMPT_LIMIT
    for prompt, match in (("", "empty"), (" \n", "empty"), ("x" * 100_000, "100,000"), (None, "NoneType")):
        with pytest.raises(ValueError, match=match):
            check_prompt(prompt)


@pytest.mark.skipif("T5_SPIECE" not in os.environ, reason="T5_SPIECE names no published T5 spiece.model")
def test_a_published_vocabulary_encodes_as_the_reference():
    transformers = pytest.importorskip("transformers")
    path = os.environ["T5_SPIECE"]
    reference = transformers.T5Tokenizer.from_pretrained(os.path.dirname(path))
    prompts = ["A red circle moves right.", "", "Zwei Hunde laufen, naïve café 12,5 %!", "word " * 99]
    theirs = reference(prompts, max_length=20, padding="max_length", truncation=True, return_tensors="np")
    ids, mask = Tokenizer(path, max_length=20)(prompts)
    np.testing.assert_array_equal(ids, theirs["input_ids"])
    np.testing.assert_array_equal(mask, theirs["attention_mask"].astype(bool))
