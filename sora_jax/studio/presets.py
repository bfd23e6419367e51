"""Camera, light and style as data: phrases that are added to a prompt."""

from collections.abc import Sequence

__all__ = ["PRESETS", "with_presets"]

PRESETS: dict[str, dict[str, str]] = {
    "camera": {
        "still": "while the camera stays still",
        "pan-left": "while the camera pans left",
        "pan-right": "while the camera pans right",
        "zoom-in": "while the camera zooms in",
        "zoom-out": "while the camera zooms out",
    },
    "light": {
        "steady": "as the light stays the same",
        "darkening": "as the light gets dark",
        "brightening": "as the light gets bright",
    },
    "style": {
        "night": "on a plain navy background",
        "forest": "on a graded dark green background",
        "stage": "on a plain black background",
        "archive": "grainy black and white archive footage",
        "film": "35 mm film, shallow depth of field, soft light",
        "papercraft": "stop-motion papercraft",
    },
}
"""What each kind has. The last three styles are for models that know such words; the playground doesn't."""


def with_presets(prompt: str, presets: Sequence[str]) -> str:
    """The prompt with the presets' phrases after it, style before camera before light.

    Raises ValueError for a preset that there isn't, and for two of one kind.
    """
    chosen: dict[str, str] = {}
    for preset in presets:
        kind = next((kind for kind, phrases in PRESETS.items() if preset in phrases), None)
        if kind is None:
            names = "; ".join(f"{kind}: {', '.join(phrases)}" for kind, phrases in PRESETS.items())
            raise ValueError(f"there is no preset {preset!r}: choose from {names}.")
        if kind in chosen:
            raise ValueError(f"{chosen[kind]} and {preset} are both of {kind}: choose one.")
        chosen[kind] = preset
    phrases = [PRESETS[kind][chosen[kind]] for kind in ("style", "camera", "light") if kind in chosen]
    return " ".join([prompt.rstrip(" ."), *phrases])
