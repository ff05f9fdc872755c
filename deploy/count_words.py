"""Counts words and sentence lengths of documents, docstrings and comments: `python deploy/count_words.py [FOLDER]`.

A sentence ends at `.`, `!`, `?` or at the end of its paragraph, list item or table cell. Code, tables and addresses are
no prose. A Chinese sentence is counted in characters. Standard library only, so that any checkout can be counted.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONG_WORDS = 25
README_MAX_WORDS, README_MAX_MEDIAN, DOCUMENT_MAX_MEDIAN = 800, 14, 16
SKIPPED_FOLDERS = {".venv", ".git", ".pytest_cache", "node_modules", "vendor", "build", "__pycache__"}

_FENCE = re.compile(r"^\s*```.*?^\s*```", re.MULTILINE | re.DOTALL)
_HTML = re.compile(r"<!--.*?-->|</?[a-zA-Z][^>]*>", re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`\n]*`")
_ITEM = re.compile(r"^\s*(?:[*+-]|\d+\.)\s+")
_WORD = re.compile(r"[^\W_](?:[\w'’.,/-]*[^\W_])?")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_END = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*`]*[A-Z0-9`])")
_JS_COMMENT = re.compile(r"/\*\*?(.*?)\*/|((?:^[ \t]*//[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
_TAG = re.compile(r"@(?:param|returns?|type|typedef|property|template|throws|import|implements|extends)\b[^\n]*")


def prose(markdown: str, *, with_tables: bool) -> str:
    """The text that a reader reads: no code blocks, pictures or addresses."""
    text = _FENCE.sub("\n\n", markdown)
    text = _LINK.sub(r"\1", _PICTURE.sub("", _HTML.sub("", text)))
    lines = []
    for line in text.splitlines():
        if line.lstrip().startswith("|"):
            lines.append(line.replace("|", " ") if with_tables else "")
        elif line.startswith("#"):
            lines += ["", line.lstrip("# ") if with_tables else "", ""]
        else:
            lines.append(_ITEM.sub("\n", line) if _ITEM.match(line) else line)
    return "\n".join(lines)


def num_words(text: str) -> int:
    return len(_WORD.findall(text))


def sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        plain = _CODE.sub("x", " ".join(paragraph.split()))
        for sentence in _END.split(plain):
            if not _HAN.search(sentence) and num_words(sentence) > 1:
                yield sentence


def comments_of_python(source: str) -> Iterator[str]:
    """Docstrings, and comments of one or several lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield prose(docstring, with_tables=False)
    block: list[str] = []
    last_row = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("# ")
        if re.match(r"noqa|type:|ruff:|isort:|pragma|!", text):
            continue
        if token.start[0] != last_row + 1:
            yield " ".join(block)
            block = []
        block.append(text)
        last_row = token.start[0]
    yield " ".join(block)


def comments_of_javascript(source: str) -> Iterator[str]:
    for match in _JS_COMMENT.finditer(source):
        text = match.group(1) if match.group(1) is not None else match.group(2)
        lines = [re.sub(r"^\s*(?:\*|//)\s?", "", line) for line in text.splitlines()]
        yield prose(_TAG.sub("", "\n".join(lines)), with_tables=False)


def files(root: Path, *endings: str) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.suffix in endings and not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts):
            yield path


def row(name: str, texts: list[str], words: int | None = None) -> float:
    lengths = [num_words(sentence) for text in texts for sentence in sentences(text)]
    if not lengths:
        return 0.0
    median = statistics.median(lengths)
    tenth = sorted(lengths)[int(len(lengths) * 0.9)]
    share = sum(length > LONG_WORDS for length in lengths) / len(lengths)
    total = sum(num_words(text) for text in texts) if words is None else words
    print(f"{name:46}{total:8,}{len(lengths):8,}{median:8.0f}{tenth:8}{share:8.0%}")
    return median


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="a checkout (default: this one)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if README or a document is over its goal")
    parser.add_argument("--quiet", action="store_true", help="print only what is over its goal")
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    with contextlib.redirect_stdout(io.StringIO() if arguments.quiet else sys.stdout):
        over = count(root)
    for name in over if arguments.check else []:
        print(f"{name} is over its goal: see deploy/count_words.py", file=sys.stderr)
    return 1 if over and arguments.check else 0


def count(root: Path) -> list[str]:
    """Prints the table; the names of documents that are over their goal."""
    print(f"{'':46}{'words':>8}{'sent.':>8}{'median':>8}{'p90':>8}{f'>{LONG_WORDS}':>8}")
    over = []
    for path in files(root, ".md"):
        name = str(path.relative_to(root))
        markdown = path.read_text(encoding="utf-8")
        words = num_words(prose(markdown, with_tables=True))
        median = row(name, [prose(markdown, with_tables=False)], words)
        is_readme = name == "README.md"
        if median > (README_MAX_MEDIAN if is_readme else DOCUMENT_MAX_MEDIAN) or (
            is_readme and words > README_MAX_WORDS
        ):
            over.append(name)
    for folder in ("server", "engine", "training", "bench", "client_web", "examples", "deploy", "tests"):
        if not (root / folder).is_dir():
            continue
        texts = [text for path in files(root / folder, ".py") for text in comments_of_python(path.read_text("utf-8"))]
        texts += [
            text
            for path in files(root / folder, ".js", ".ts")
            for text in comments_of_javascript(path.read_text("utf-8"))
        ]
        row(f"{folder}/: docstrings and comments", texts)
    return over


if __name__ == "__main__":
    sys.exit(main())
