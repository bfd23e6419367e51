"""What is done to clips: each edit lays out a timeline, and one sampler fills it."""

from sora_jax.studio.edits.animate import animate
from sora_jax.studio.edits.blend import blend
from sora_jax.studio.edits.extend import connect, extend, loop
from sora_jax.studio.edits.inpaint import inpaint, outpaint
from sora_jax.studio.edits.recut import recut
from sora_jax.studio.edits.remix import remix
from sora_jax.studio.edits.storyboard import Card, storyboard
from sora_jax.studio.edits.stream import stream

__all__ = [
    "Card",
    "animate",
    "blend",
    "connect",
    "extend",
    "inpaint",
    "loop",
    "outpaint",
    "recut",
    "remix",
    "storyboard",
    "stream",
]
