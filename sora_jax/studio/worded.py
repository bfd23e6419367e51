"""What every edit takes as `generate` does, whatever its timeline: words are changed before it, and it is varied."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from sora_jax.media import Clip
from sora_jax.models.tokenizer import check_prompt
from sora_jax.studio.edits import Card
from sora_jax.studio.expand import Expand, expand_with
from sora_jax.studio.presets import with_presets
from sora_jax.studio.progress import Report, reporting
from sora_jax.studio.request import check_request, seeds_of
from sora_jax.studio.sources import names_file

__all__ = ["worded"]

Edit = TypeVar("Edit", bound=Callable[..., Any])


def worded(edit: Edit) -> Edit:
    """The edit with three keywords more, as of `Pipeline.generate`.

    presets, expand: change each of its prompts first; what was asked for is in the metadata, too.
    variations: gives a list of so many clips, made one after another; clip i has seed + i, or seed[i].

    Raises ValueError where the edit is given no words to change, and for variations of a stream.
    """
    signature = inspect.signature(edit)
    where = next(name for name in ("prompts", "cards", "prompt") if name in signature.parameters)

    @functools.wraps(edit)
    def call(
        pipeline: Any,
        *arguments: Any,
        presets: Sequence[str] = (),
        expand: bool | Expand = False,
        variations: int | None = None,
        **options: Any,
    ) -> Any:
        asked: dict[str, str] = {}
        if presets or expand:
            seed = seeds_of(options.get("seed", 0), variations or 1)[0]
            longer = expand_with(None, seed) if expand is True else expand or str

            @functools.cache
            def change(text: str) -> str:
                longest = check_prompt(longer(with_presets(check_prompt(text), presets)))
                asked[longest] = " ".join(text.split())
                return longest

            bound = signature.bind(pipeline, *arguments, **options)
            given = bound.arguments
            # Of what is looped without a prompt, the source is one, unless it is a file.
            source = given.get("source")
            told = given.get(where) is None and isinstance(source, str) and not names_file(source)
            name = "source" if told else where
            if given.get(name) is None:
                raise ValueError(f"presets and expand change the words, and there are none: give {where}.")
            given[name] = _changed(given[name], change)
            arguments, options = bound.args[1:], bound.kwargs
        if variations is None:
            return _recorded(edit(pipeline, *arguments, **options), asked)
        if inspect.isgeneratorfunction(edit):
            raise ValueError("a stream is one clip without an end: give each variation a seed of its own.")
        check_request(variations=variations)
        seeds = seeds_of(options.pop("seed", 0), variations)
        with reporting(options.pop("progress", True)) as report:
            return [
                _recorded(
                    edit(pipeline, *arguments, seed=seed, progress=_part(report, i, variations), **options),
                    asked,
                )
                for i, seed in enumerate(seeds)
            ]

    return cast(Edit, call)


def _changed(words: Any, change: Callable[[str], str]) -> Any:
    """The prompt, prompts, cards or function that gives the prompt, with their words changed."""
    if isinstance(words, str):
        return change(words)
    if callable(words):
        return lambda: change(str(words()))
    if isinstance(words, Card):
        return words if words.prompt is None else dataclasses.replace(words, prompt=change(words.prompt))
    return [_changed(one, change) for one in words]


def _recorded(made: Any, asked: dict[str, str]) -> Any:
    """The clip, or the clips as they come, with what was asked for beside the words that it was made from."""
    if not isinstance(made, Clip):
        return _each(made, asked)
    told = made.metadata.get("prompt")
    before = asked.get(told, told) if isinstance(told, str) else [asked.get(one, one) for one in told or ()]
    return made if before == told else dataclasses.replace(made, metadata={**made.metadata, "asked": before})


def _each(clips: Iterator[Clip], asked: dict[str, str]) -> Iterator[Clip]:
    for clip in clips:
        yield _recorded(clip, asked)


def _part(report: Report, place: int, of: int) -> Report:
    return lambda done, total: report(place * total + done, of * total)
