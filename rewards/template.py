"""Templates: single-pass substitution, so that what is filled in is never read as a template again.

A judge's template file is Markdown; a line `# system`, `# user` or `# assistant` starts a message, and a last
`# assistant` message is the beginning of the judge's answer. `{name}` is replaced by a value, `{{name}}` stands for
the letters `{name}`, and any other brace for itself. Texts that are data (a prompt, a candidate's answer) are set
between two fences that carry a number the text cannot contain:

    [text 5f1c09ab]
    whatever the candidate wrote
    [end 5f1c09ab]
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UserError
from rewards.types import Message, Span

TEMPLATE_DIR = Path(__file__).parent / "templates"

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")
_UNCLOSED = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)(?![\w}])")
_HEADING = re.compile(r"# (system|user|assistant)[ \t]*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with holes: `literals[0] {names[0]} literals[1] ...`; one literal more than names."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        filled = [literal + values[name] for literal, name in zip(self.literals, self.names, strict=False)]
        return "".join(filled) + self.literals[-1]


def parse_pattern(text: str, known: Collection[str], where: str, *, first_line: int | None = None) -> Pattern:
    """Find the placeholders of `text`.

    Args:
        known: names that may be filled in.
        where: file or key, for messages. first_line: number of the text's first line in that file.

    Raises:
        UserError: a placeholder is not in `known`; the message names where, line and nearest name.
    """
    literals, names, literal, position = [], [], "", 0
    for match in _PLACEHOLDER.finditer(text):
        literal += text[position : match.start()]
        position = match.end()
        escaped, name = match.groups()
        if escaped is not None:
            literal += f"{{{escaped}}}"
            continue
        if name not in known:
            line = "" if first_line is None else f":{first_line + text.count(chr(10), 0, match.start())}"
            raise UserError(f"{where}{line}: unknown placeholder {{{name}}}; {_hint(name, known)}")
        literals.append(literal)
        names.append(name)
        literal = ""
    return Pattern((*literals, literal + text[position:]), tuple(names))


def unclosed(text: str, known: Collection[str]) -> list[str]:
    """Known names that stand behind an opening brace without the closing one: letters, but hardly meant so."""
    return [name for name in dict.fromkeys(_UNCLOSED.findall(text)) if name in known]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Messages with holes. `prefill`: the beginning of the judge's answer."""

    messages: tuple[tuple[str, Pattern], ...]
    prefill: Pattern

    def render(self, texts: Mapping[str, str], data: Mapping[str, str], *, seed: int) -> tuple[list[Message], str]:
        """Fill in trusted `texts` as they are and `data` as fenced data spans; also the filled-in prefill.

        A fence's number is a hash of the seed and of its own text, drawn again while it stands in any of the data: no
        text can contain it, equal calls give equal bytes, and calls that share a text share the prefix up to its end,
        which a judge's prefix cache relies on.
        """
        fences = {name: _draw_number(text, data.values(), seed) for name, text in data.items()}
        messages = []
        for role, pattern in self.messages:
            spans: list[Span] = []
            trusted = pattern.literals[0]
            for name, literal in zip(pattern.names, pattern.literals[1:], strict=True):
                if name in data:
                    spans.append(Span(f"{trusted}[text {fences[name]}]\n"))
                    spans.append(Span(data[name], is_data=True))
                    trusted = f"\n[end {fences[name]}]{literal}"
                else:
                    trusted += texts[name] + literal
            messages.append(Message(role, (*spans, Span(trusted))))
        return messages, self.prefill.fill(texts)


def load_template(
    name: str, *, texts: Collection[str], data: Collection[str], base_dir: Path | None = None
) -> ChatTemplate:
    """Read the template `name` of `rewards/templates/`, or the file of that path.

    Args:
        texts: placeholders for trusted texts. data: placeholders for data; each of them must occur.
        base_dir: where relative paths start; default: the working directory.

    Raises:
        UserError: no such template, or a fault in it, with file and line.
    """
    file = _template_file(name, base_dir or Path())
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    starts = [number for number, line in enumerate(lines) if _HEADING.fullmatch(line)]
    if not starts or any(line.strip() for line in lines[: starts[0]]):
        raise UserError(f"{file}:1: text before the first heading; start with a line `# system` or `# user`")
    messages: list[tuple[str, Pattern]] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        role = lines[start].split()[1]
        body = "\n".join(lines[start + 1 : end])
        known = texts if role == "assistant" else {*texts, *data}
        above = len(body) - len(body.lstrip("\n"))
        pattern = parse_pattern(body.strip("\n"), known, str(file), first_line=start + 2 + above)
        messages.append((role, pattern))
    prefill = messages.pop()[1] if messages[-1][0] == "assistant" else Pattern(("",), ())
    used = {used_name for _, pattern in messages for used_name in pattern.names}
    if missing := sorted(set(data) - used):
        raise UserError(f"{file}: placeholder {{{missing[0]}}} is missing; the judge would not see it")
    return ChatTemplate(tuple(messages), prefill)


def template_texts(name: str | None, kind: str, base_dir: Path | None = None) -> list[str]:
    """The text of a template; without a name, of all of ours that a judge of this kind may choose from by itself.

    Raises:
        UserError: no such template, or it cannot be read.
    """
    if name is None:
        files = sorted(TEMPLATE_DIR.glob(f"{kind}*.md"))
    else:
        files = [_template_file(name, base_dir or Path())]
    try:
        return [file.read_text(encoding="utf-8") for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template {name!r}: cannot be read ({error}); save it as UTF-8") from error


def _template_file(name: str, base_dir: Path) -> Path:
    known = sorted(file.stem for file in TEMPLATE_DIR.glob("*.md"))
    if name in known:
        return TEMPLATE_DIR / f"{name}.md"
    file = base_dir / Path(name).expanduser()
    if not file.is_file():
        raise UserError(f"template {name!r}: no such template or file; {_hint(name, known)}")
    return file


def _draw_number(text: str, others: Iterable[str], seed: int) -> str:
    """Eight hexadecimal digits that stand in none of the texts."""
    others = list(others)
    digest = hashlib.sha256(f"{seed}\n".encode() + text.encode("utf-8", "surrogatepass"))
    while any((number := digest.hexdigest()[:8]) in other for other in others):
        digest.update(b"again")
    return number


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
