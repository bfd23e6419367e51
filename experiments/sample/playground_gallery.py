"""One of everything: each shape, colour, motion, camera, light, background and the wall, once or more.

Model: playground (shipped). On two CPU cores about half a minute.

    sora-jax sample experiments/sample/playground_gallery.py --out gallery
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    prompts=(
        "a red circle moves right",
        "a blue star spins",
        "a green square bounces",
        "a purple heart grows",
        "a yellow ring circles around",
        "a large orange triangle moves up",
        "a small white square moves down across a navy background",
        "a cyan triangle shrinks on a maroon background",
        "a red heart stays still while the camera zooms in",
        "a white star moves left while the camera pans right",
        "a yellow circle moves left as the light gets dark",
        "a blue square stays still while it gets bright",
        "a red square moves right behind a gray wall",
        "a green circle stays still and an orange star spins",
        "a large white circle bounces on a dark green background",
        "a red star, a blue ring and a yellow heart stay still",
    )
)
