"""Fetches real captioned clips: animated emoji, as a folder that `sora-jax data folder` takes.

Clips: Microsoft's Fluent emoji as animated WebP (256x256, transparent, mostly 3 s), MIT, from the npm packages
`@lobehub/fluent-emoji-anim-1` to `-4` 1.0.0. Words: the English names and tags of `emojibase-data` 17.0.0 (MIT).
Needs the `npm` client (nodejs.org) and 730 MB for the packages, which are kept and not fetched twice.

    python experiments/fetch_emoji.py --out emoji
    sora-jax data folder emoji --out emoji64 --short loop --test-fraction 0.1

Writes emoji/*.webp and emoji/captions.jsonl: file, captions, and `group`, the emoji without its skin tones, so that a
test split keeps all tones of an emoji apart.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from PIL import Image
from platformdirs import user_cache_path

# Each package by its SHA-512, as the registry's own lock files write it.
CLIPS = {
    "@lobehub/fluent-emoji-anim-1@1.0.0": (
        "/4m31vAuZEQ4aUJ5pxcOU5PVkuJya55GRxUZL7+zgLlxZXpzzE8jPqpDyhZICE3n47nS/Y9M5/vLdizi8201QA=="
    ),
    "@lobehub/fluent-emoji-anim-2@1.0.0": (
        "S6yzf0RZXrQbXdxCWuHA9BAoLdBRk2flX+ne4TPGEH/qApwisCAKHoAAGjKSlTY3OVeZ9b7t/NEbmpjawnQYJA=="
    ),
    "@lobehub/fluent-emoji-anim-3@1.0.0": (
        "UzRSUDMjdfdt9vER5bhjHkPqgc3EEgfGtYs6ndvizOTvQOxYQ57ow2RTkWSDZxwW30X4EYBi2eWTS7CXDDoFsg=="
    ),
    "@lobehub/fluent-emoji-anim-4@1.0.0": (
        "IIkl5ztSd1HrzvIDt/uGsFoC1WODXRdYq5uROrnkyqi9DbToEcJ1nlY86PnoUXeFS9nBCnHfiYk3ouSEGThFmA=="
    ),
}
WORDS = "emojibase-data@17.0.0"
WORDS_HASH = "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA=="

CLIP_NAME = re.compile(r"package/assets/([0-9a-f]{2,6}(?:-[0-9a-f]{2,6}){0,12})\.webp")
LARGEST_CLIP = 4 << 20
LARGEST_WORDS = 16 << 20
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
PRESENTATION = "fe0f"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Fetches animated emoji with captions into a folder."""

    out: Path
    """The folder to make."""
    cache: Path = user_cache_path("sora_jax", appauthor=False) / "emoji"
    """Where the packages are kept."""
    skin_tones: bool = True
    """Take the skin tones of people and hands as clips of their own (two thirds of all)."""


def fetch(package: str, digest: str, cache: Path) -> Path:
    """The package's file, fetched by npm where it isn't in the cache; refused where its hash is another one."""
    name = package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
    kept = cache / name
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("the npm client is missing: install Node.js (nodejs.org), which brings it")
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            print(f"fetching {package}", file=sys.stderr)
            done = subprocess.run([npm, "pack", package], cwd=folder, capture_output=True, text=True)
            made = Path(folder) / name
            if done.returncode or not made.exists():
                raise SystemExit(f"npm could not fetch {package}: {done.stderr.strip()[-300:]}")
            os.replace(made, kept)
    with kept.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != digest:
        raise SystemExit(f"{kept} is not the package that was expected: delete it and try again")
    return kept


def members(archive: Path, wanted: re.Pattern[str], largest: int) -> Iterator[tuple[str, bytes]]:
    """(First bracket of the name, content) of plain files whose whole name is `wanted`; nothing is unpacked."""
    with tarfile.open(archive, "r:gz") as file:
        for member in file:
            match = wanted.fullmatch(member.name)
            if match is None or not member.isreg() or not 0 < member.size <= largest:
                continue
            content = file.extractfile(member)
            if content is not None:
                yield match[1], content.read(largest)


def plain(code: str) -> str:
    """A code point sequence without the variation selectors that some lists write and others don't."""
    return "-".join(part for part in code.lower().split("-") if part != PRESENTATION)


def base(code: str) -> str:
    """The emoji without its skin tones."""
    return "-".join(part for part in plain(code).split("-") if part not in SKIN_TONES)


def vocabulary(archive: Path) -> dict[str, dict[str, Any]]:
    """Label, tags and group by plain code point sequence."""
    pattern = re.compile(r"package/en/(data|messages)\.json")
    tables = {name: json.loads(content) for name, content in members(archive, pattern, LARGEST_WORDS)}
    topics = {group["order"]: group["message"] for group in tables["messages"]["groups"]}
    found = {}
    for emoji in tables["data"]:
        topic = topics.get(emoji.get("group"), "")
        for one in [emoji, *emoji.get("skins", [])]:
            tags = one.get("tags") or emoji.get("tags") or []
            found[plain(one["hexcode"])] = {"label": one["label"], "tags": tags, "topic": topic}
    return found


def captions(word: dict[str, Any]) -> list[str]:
    """Several phrasings: the name alone first, then as a sentence, then with its tags."""
    name, _, detail = word["label"].partition(": ")
    name = f"{name} with {detail}" if detail.endswith("skin tone") else word["label"]
    phrases = [name, f"an animated emoji of {name}"]
    if word["tags"]:
        phrases.append(f"{name}, {', '.join(word['tags'][:6])}")
    if word["topic"]:
        phrases.append(f"an animated emoji of {name}, from {word['topic']}")
    return phrases


def moves(path: Path) -> bool:
    with Image.open(path, formats=["WEBP"]) as image:
        return getattr(image, "n_frames", 1) > 1


def main(args: Args) -> int:
    if args.out.exists() and any(args.out.iterdir()):
        raise SystemExit(f"{args.out} is not empty: remove it, or name another folder")
    args.cache.mkdir(parents=True, exist_ok=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    words = vocabulary(fetch(WORDS, WORDS_HASH, args.cache))
    rows, still, unnamed, seen = [], 0, 0, set()
    temporary = Path(tempfile.mkdtemp(prefix=f".{args.out.name}.", dir=args.out.parent))
    try:
        for package, digest in CLIPS.items():
            for code, content in members(fetch(package, digest, args.cache), CLIP_NAME, LARGEST_CLIP):
                word = words.get(plain(code))
                toned = bool(SKIN_TONES & set(code.split("-")))
                if word is None or plain(code) in seen or (toned and not args.skin_tones):
                    unnamed += word is None
                    continue
                path = temporary / f"{code}.webp"
                path.write_bytes(content)
                if not moves(path):
                    still += 1
                    path.unlink()
                    continue
                seen.add(plain(code))
                rows.append({"file": path.name, "captions": captions(word), "group": base(code)})
        rows.sort(key=lambda row: row["file"])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (temporary / "captions.jsonl").write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        os.replace(temporary, args.out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    groups = len({row["group"] for row in rows})
    print(
        f"{args.out}: {len(rows)} clips of {groups} emoji ({still} that don't move and {unnamed} unnamed left out)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
