"""How often the playground's oracle is right, on clips whose scenes are known: python -m sora_jax.evals.oracle."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sora_jax.data.playground.claims import ObjectClaim, claims_of, match
from sora_jax.data.playground.oracle import read
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import draw_scene
from sora_jax.data.playground.splits import Split

__all__ = ["Through", "format_accuracy", "oracle_accuracy", "through_h264", "through_vae"]

Through = Callable[[np.ndarray, float], np.ndarray]
"""uint8[t, h, w, 3] and its frame rate -> what became of it."""

_OBJECT = ("color", "shape", "size", "motion")
_SCENE = ("background", "background_color", "camera", "light", "occluder")


def through_h264(video: np.ndarray, fps: float, crf: int = 23) -> np.ndarray:
    """What is left of uint8[t, h, w, 3] after libx264 at `crf` with the colors at half the resolution."""
    import av

    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "clip.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=round(fps))
            stream.width, stream.height, stream.pix_fmt = video.shape[2], video.shape[1], "yuv420p"
            stream.options = {"crf": str(crf)}
            for frame in video:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        with av.open(path) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def through_vae(folder: str) -> Through:
    """Clips encoded and decoded by the VAE in `folder`: what a perfect denoiser would be read as."""
    from sora_jax.evals.runs import load_vae, reconstruct
    from sora_jax.media import to_uint8

    config, params, _ = load_vae(folder)
    return lambda video, fps: to_uint8(np.asarray(reconstruct(params, video[None], config)[0][0]))


def oracle_accuracy(
    count: int,
    through: Through | None = None,
    *,
    first_seed: int = 1_000_000_000,
    split: Split = "all",
    height: int = 64,
    width: int = 64,
    frames: int = 17,
    fps: float = 8.0,
    misses: list[str] | None = None,
) -> dict[str, tuple[int, int]]:
    """How many of each attribute the oracle reads right in `count` fresh clips: {attribute: (right, asked)}.

    "objects" is how many there are; "color", "shape", "size" and "motion" count objects; "whole" is a clip without
    any mistake. `through` changes each clip first. A line for each mistake is added to `misses`.
    """
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + count):
        scene = draw_scene(seed, split=split)
        video = render(scene, height=height, width=width, frames=frames, fps=fps)
        if through is not None:
            video = through(video, fps)
        reading = read(video, fps)
        truth = claims_of(scene)
        rows = [("objects", len(truth.objects), len(reading.objects))]
        for claim, seen in zip(truth.objects, match(truth.objects, reading.objects), strict=True):
            rows += [(a, getattr(claim, a), getattr(seen or ObjectClaim(), a)) for a in _OBJECT]
        rows += [(a, getattr(truth, a), getattr(reading, a)) for a in _SCENE]
        rows.append(("whole", True, all(a == b for _, a, b in rows)))
        for attribute, true, found in rows:
            asked[attribute] += 1
            right[attribute] += true == found
            if true != found and misses is not None and attribute != "whole":
                misses.append(f"{seed} {attribute}: {true} read as {found} in {truth}")
    return {attribute: (right[attribute], asked[attribute]) for attribute in asked}


def format_accuracy(accuracy: dict[str, tuple[int, int]]) -> str:
    """A table of attributes, shares and counts."""
    return "\n".join(f"{name:17} {n / of:8.2%}  {n}/{of}" for name, (n, of) in accuracy.items())


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Accuracy of the playground's oracle on fresh clips.")
    parser.add_argument("--count", type=int, default=1000)
    changes = parser.add_mutually_exclusive_group()
    changes.add_argument("--h264", action="store_true", help="send each clip through the codec first")
    changes.add_argument("--vae", metavar="FOLDER", help="encode and decode each clip with this VAE first")
    parser.add_argument("--split", choices=("train", "held_out", "all"), default="all")
    parser.add_argument("--show-misses", action="store_true")
    parser.add_argument("--seed", type=int, default=1_000_000_000)
    options = parser.parse_args()
    wrong: list[str] = []
    change = through_vae(options.vae) if options.vae else through_h264 if options.h264 else None
    accuracy = oracle_accuracy(
        options.count, change, first_seed=options.seed, split=options.split, misses=wrong
    )
    print(format_accuracy(accuracy))
    if options.show_misses:
        print("\n".join(wrong))
