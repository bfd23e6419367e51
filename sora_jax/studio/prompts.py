"""What a prompt must be, and what a model that knows few words says about the words it doesn't."""

import re
import warnings

from sora_jax.models.tokenizer import Tokenizer, check_prompt

__all__ = ["PromptWarning", "check_words", "file_stem"]


class PromptWarning(UserWarning):
    """Part of the prompt has no effect."""


def check_words(prompt: str, tokenizer: Tokenizer, knows: str = "") -> str:
    """The prompt, stripped; warns of words the tokenizer never saw and of an end that is cut off.

    `knows` says what the model's world holds. Raises ValueError for a prompt that is empty or too long, or of
    which no word is known.
    """
    prompt = check_prompt(prompt)
    unknown = tokenizer.unknown_words(prompt)
    known = [w for w in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", prompt) if w not in unknown]
    hint = f" It knows {knows}." if knows else ""
    if not known:
        shown = prompt if len(prompt) <= 40 else prompt[:40] + "..."
        raise ValueError(f"this model knows no word of {shown!r}.{hint}")
    if unknown:
        shown = ", ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "")
        warnings.warn(f"words this model never saw: {shown}.{hint}", PromptWarning, stacklevel=3)
    if tokenizer.is_cut(prompt):
        warnings.warn(
            f"the prompt is longer than the {tokenizer.max_length} tokens that this model reads: "
            "the rest has no effect.",
            PromptWarning,
            stacklevel=3,
        )
    return prompt


def file_stem(prompt: str, limit: int = 60) -> str:
    """A file name from the prompt: its words in small letters, joined by "-"; "clip" if it has none."""
    words = re.findall(r"[^\W_]+", prompt.casefold())
    stem = ""
    for word in words:
        # Bytes, because that is how file systems count.
        if len(f"{stem}-{word}".encode()) > limit:
            break
        stem = f"{stem}-{word}" if stem else word
    return stem or "clip"
