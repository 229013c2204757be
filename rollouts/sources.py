"""Rows of text fields from a recipe's prompt source: JSONL files, `datasets`, or text files that a package ships."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rewards.errors import UserError
from rollouts.config import DatasetsSource, JsonlSource, PackageLinesSource, PromptSource

T = TypeVar("T")

MAX_FAULTS = 20
"""Faults that one message lists."""


class BadRowError(Exception):
    """What is wrong with one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt's fields, and where they stand (`file:line`)."""

    fields: Mapping[str, str]
    where: str


def read_rows(source: PromptSource, base_dir: Path) -> list[Row]:
    """All rows of a source, in its order.

    Args:
        base_dir: where relative paths start.

    Raises:
        UserError: one line per fault, each with file and line.
    """
    if isinstance(source, JsonlSource):
        rows = _read_jsonl(base_dir / Path(source.path).expanduser())
    elif isinstance(source, DatasetsSource):
        rows = _read_datasets(source, base_dir)
    else:
        rows = _read_package_lines(source)
    return rows


def _read_jsonl(file: Path) -> list[Row]:
    return [Row(fields, where) for fields, where in parse_lines(file, _parse_fields, "prompts")]


def read_objects(file: Path, make_fields: Callable[[dict[str, Any]], Mapping[str, str]], what: str) -> list[Row]:
    """One JSON object a line; `make_fields` makes it into fields and raises BadRowError for what is wrong with it.

    Raises:
        UserError: one line per fault, each with file and line.
    """
    lines = parse_lines(file, lambda line: make_fields(parse_object(line)), what)
    return [Row(fields, where) for fields, where in lines]


def _read_package_lines(source: PackageLinesSource) -> list[Row]:
    rows: list[Row] = []
    for name in source.files:
        lines = parse_lines(
            package_file(source.package, name), lambda line: _parse_document(line, source.max_words), "prompts"
        )
        rows += [Row(fields, where) for fields, where in lines]
    return rows


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, found without importing the package.

    Raises:
        UserError: no such package or file.
    """
    top, *inner = package.split(".")
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"package {package!r} is not installed; pip install the distribution that ships it")
    files = [Path(folder, *inner, name) for folder in spec.submodule_search_locations]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserError(f"{files[0]}: no such file in package {package!r}; check `files`, or the package's version")
    return found


def parse_lines(file: Path, parse: Callable[[str], T], what: str) -> list[tuple[T, str]]:
    """What `parse` makes of each line that is not blank, and where it stands (`file:line`).

    Args:
        parse: raises BadRowError for a line that is at fault.
        what: lines are called in messages.

    Raises:
        UserError: one line per fault, each with file and line; or the file has no such lines.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    rows: list[tuple[T, str]] = []
    faults: list[str] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"{file}:{number}"
        try:
            text = line.decode("utf-8").strip()
            if text:
                rows.append((parse(text), where))
        except UnicodeDecodeError as error:
            faults.append(f"{where}: not UTF-8 text (byte {error.start + 1} of the line); save the file as UTF-8")
        except BadRowError as error:
            faults.append(f"{where}: {error}")
    if not faults and not rows:
        faults.append(f"{file}: no {what} in it; write one a line")
    raise_faults(faults)
    return rows


def raise_faults(faults: list[str]) -> None:
    """Raise a UserError that lists the faults, if there are any."""
    if faults:
        more = [f"... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise UserError("\n".join(faults[:MAX_FAULTS] + more))


def _parse_document(line: str, max_words: int | None) -> Mapping[str, str]:
    return {"text": line if max_words is None else " ".join(line.split()[:max_words])}


def _parse_fields(line: str) -> Mapping[str, str]:
    return {key: _as_text(key, value) for key, value in parse_object(line).items()}


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object that a line holds.

    Raises:
        BadRowError: it holds none, or one with a key twice.
    """
    try:
        row = json.loads(line, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise BadRowError(f"not valid JSON ({error.msg} at character {error.pos + 1})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise BadRowError(f"JSON that cannot be read ({error})") from error
    if not isinstance(row, dict):
        raise BadRowError("not a JSON object; write one {...} a line")
    return row


def _no_constant(name: str) -> None:
    raise BadRowError(f"not valid JSON ({name} is no number)")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twin = next(key for key in row if sum(key == other for other, _ in pairs) > 1)
        raise BadRowError(f"key {twin!r} twice in one object")
    return row


def _as_text(key: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise BadRowError(f"{key!r} is {KIND_OF[type(value)]}; a field is text, a number or true/false")
    text = value if isinstance(value, str) else json.dumps(value)
    check_text(key, key + text)
    return text


def check_text(name: str, text: str) -> None:
    """Raises BadRowError for text that no file can hold."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadRowError(f"{name!r} holds half of a surrogate pair; write the whole character")


KIND_OF = {type(None): "null", list: "a list", dict: "an object"}


def _read_datasets(source: DatasetsSource, base_dir: Path) -> list[Row]:
    """Columns of text, numbers and booleans become fields; other columns, and empty cells, are not fields."""
    import datasets
    from datasets.exceptions import DatasetsError

    directory = base_dir / Path(source.name).expanduser()
    try:
        if (directory / "state.json").is_file() or (directory / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(directory))
            if isinstance(loaded, datasets.DatasetDict):
                loaded = loaded[source.split]
        else:
            name = str(directory) if directory.is_dir() else source.name
            loaded = datasets.load_dataset(name, source.config, split=source.split)
    except (OSError, ValueError, KeyError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"dataset {source.name!r}, split {source.split!r}: cannot be loaded ({reason})") from error
    where = f"{source.name}[{source.split}]"
    rows = [Row(dict(_text_cells(row)), f"{where} row {number}") for number, row in enumerate(loaded)]
    if not rows:
        raise UserError(f"dataset {where}: has no rows")
    return rows


def _text_cells(row: Any) -> Iterator[tuple[str, str]]:
    for key, value in row.items():
        if isinstance(value, str | int | float):
            yield key, value if isinstance(value, str) else json.dumps(value)
