"""A folder of clips and the words beside them: `name.txt`, `captions.jsonl` or `captions.csv`."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ENDINGS", "TABLES", "Captioned", "find_clips"]

ENDINGS = (".mp4", ".webm", ".gif", ".webp", ".mov")
TABLES = ("captions.jsonl", "captions.csv")


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One clip of a folder."""

    name: str
    """Its path inside the folder, with /."""
    path: Path
    captions: tuple[str, ...]
    """At least one; the first is the main one."""
    group: str
    """Clips of one group are kept on one side of a train / test split."""


def find_clips(folder: Path, group_by: str | None = None) -> tuple[list[Captioned], list[str]]:
    """The captioned clips under `folder`, by name, and a sentence for each one that can't be used.

    group_by: a column of the captions table, or a regular expression searched in the clip's name, whose
        first bracket (or whole match) is the group. By default the column `group` where there is one, else
        every clip is its own group.

    Raises ValueError where there is no clip at all, more than one table, a table that can't be read, or a
    `group_by` that is neither column nor expression; OSError where there is no folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the folder that holds the clips")
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS and path.is_file() and not _hidden(path.relative_to(folder))
    }
    if not files:
        raise ValueError(f"{folder} holds no clips: put files ending in {' '.join(ENDINGS)} there")
    rows, columns = _table(folder)
    group_of = _grouping(group_by, rows, columns)
    found, problems = [], []
    for name, path in files.items():
        row = rows.get(name)
        captions = _captions(row) if row is not None else _sidecar(path)
        if captions:
            group = group_of(name, row or {})
            found.append(Captioned(name=name, path=path, captions=captions, group=group))
        else:
            place = f"{path.stem}.txt beside it" + (" or its row in the captions table" if columns else "")
            problems.append(f"{name} has no caption: write {place}")
    problems += [f"{name} has a caption but is not in the folder" for name in rows if name not in files]
    return found, problems


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _captions(row: dict[str, Any]) -> tuple[str, ...]:
    texts = []
    for key in ("caption", "text", "captions"):
        value = row.get(key)
        texts += value if isinstance(value, list) else [value]
    return _clean(texts)


def _sidecar(path: Path) -> tuple[str, ...]:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return ()
    return _clean(beside.read_text(encoding="utf-8-sig", errors="replace").splitlines())


def _clean(texts: list[Any]) -> tuple[str, ...]:
    """One caption a text, white space evened out, no empty ones, none twice."""
    words = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    return tuple(dict.fromkeys(text for text in words if text))


def _table(folder: Path) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Rows by file name, and the names of the columns."""
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if not tables:
        return {}, set()
    if len(tables) > 1:
        raise ValueError(f"{folder} holds both {' and '.join(TABLES)}: keep one of them")
    read = _jsonl if tables[0].suffix == ".jsonl" else _csv
    rows: dict[str, dict[str, Any]] = {}
    columns: set[str] = set()
    for number, row in read(tables[0]):
        name = row.get("file") or row.get("file_name") or row.get("video")
        if not isinstance(name, str):
            raise ValueError(
                f'{tables[0].name}, line {number} names no file: give each row a "file" and a "caption"'
            )
        name = name.removeprefix("./")
        columns |= row.keys()
        if name in rows:  # one row a caption
            row["captions"] = [*_captions(rows[name]), *_captions(row)]
            row.pop("caption", None)
            row.pop("text", None)
        rows[name] = row
    return rows, columns


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(_lines(path, file), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"{path.name}, line {number} is no JSON object: write one on each line")
            yield number, row


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for number, row in enumerate(csv.DictReader(_lines(path, file)), 2):
                yield number, {key.strip(): value for key, value in row.items() if isinstance(key, str)}
        except csv.Error as error:
            raise ValueError(f"{path.name} is no table of comma separated values ({error})") from None


def _lines(path: Path, file: Any) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not text in UTF-8: save it as UTF-8") from None


def _grouping(group_by: str | None, rows: dict[str, dict[str, Any]], columns: set[str]) -> Any:
    column = group_by or "group"
    if column in columns:
        return lambda name, row: str(row.get(column) or name)
    if group_by is None:
        return lambda name, row: name
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        known = f" (columns: {', '.join(sorted(columns))})" if columns else ""
        raise ValueError(
            f"group-by {group_by!r} is neither a column{known} nor a regular expression ({error})"
        ) from None

    def group(name: str, row: dict[str, Any]) -> str:
        match = pattern.search(name)
        return (match[1] if pattern.groups else match[0]) or name if match else name

    return group
