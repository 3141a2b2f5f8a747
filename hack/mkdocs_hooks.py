"""What `mkdocs.yml` cannot say of the site: pages that stand beside docs/, and a mermaid.js of its own (ADR 0165).

A link that leaves docs/ leads, in the site, to the page `repository/<path>`: Markdown as it is, any other text as a
block of code, a folder as a list of its files, and a picture to itself. Only what is linked, or stands in the
navigation, is brought along.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = "docs"
BESIDE = "repository"
SCRIPT = "assets/mermaid.min.js"
SCRIPT_SOURCE = REPOSITORY / "build/docs/mermaid/artoo_mermaid/assets/mermaid.min.js"

_PARTS = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_PICTURES = (".png",)
_LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".py": "python", ".sh": "sh"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add mermaid.js and every file beside docs/ that is led to, directly or by another one."""
    files.append(File.generated(config, SCRIPT, abs_src_path=str(SCRIPT_SOURCE)))
    sources = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()]
    waiting = [path for source in sources for path in _linked(source)]
    waiting += [uri.removeprefix(f"{BESIDE}/") for uri in _entries(config.nav) if uri.startswith(f"{BESIDE}/")]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or _in_docs(path):
            continue
        seen.add(path)
        files.append(_file(config, path))
        if path.endswith(".md"):
            waiting += _linked(path)
        elif (REPOSITORY / path).is_dir():
            waiting += [f"{path}/{name}" for name in _listing(path)]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/, or come from beside it, into links between pages."""
    source = _source(page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri)

    def linked(match: re.Match[str]) -> str:
        target, hash_, anchor = match[0].partition("#")
        path = _resolved(source, target)
        if path is None or (_in_docs(path) and _in_docs(source)):
            return match[0]
        return posixpath.relpath(_uri(path), here or ".") + hash_ + anchor

    parts = _PARTS.split(markdown)
    return "".join(part if i % 2 else _LINK.sub(linked, part) for i, part in enumerate(parts))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load mermaid.js where a diagram is. The theme takes the one that is there in place of a CDN's."""
    if '<pre class="mermaid">' not in output:
        return output
    script = f'<script src="{get_relative_url(SCRIPT, page.url)}"></script>'
    return output.replace("</head>", f"{script}</head>", 1)


def _file(config: MkDocsConfig, path: str) -> File:
    if path.endswith(_PICTURES):
        return File.generated(config, _uri(path), abs_src_path=str(REPOSITORY / path))
    return File.generated(config, _uri(path), content=_content(path))


def _in_docs(path: str) -> bool:
    return path.startswith(f"{DOCS}/")


def _uri(path: str) -> str:
    """The site's source of a path of the repository."""
    if _in_docs(path):
        return path.removeprefix(f"{DOCS}/")
    return f"{BESIDE}/{path}" if path.endswith((".md", *_PICTURES)) else f"{BESIDE}/{path}.md"


def _source(uri: str) -> str:
    """The path in the repository of a page, which for code and folders need not exist: they hold no links to it."""
    return uri.removeprefix(f"{BESIDE}/") if uri.startswith(f"{BESIDE}/") else f"{DOCS}/{uri}"


def _resolved(source: str, target: str) -> str | None:
    """The path in the repository that a link of a page means; None: elsewhere, or within the page."""
    if not target or ":" in target or target.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if (REPOSITORY / path).exists() else None


def _linked(source: str) -> Iterator[str]:
    text = (REPOSITORY / source).read_text(encoding="utf-8")
    for part in _PARTS.split(text)[::2]:
        for target in _LINK.findall(part):
            if path := _resolved(source, target.partition("#")[0]):
                yield path


def _entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from _entries(value)
    elif nav is not None:
        for entry in nav:
            yield from _entries(entry)


def _listing(folder: str) -> list[str]:
    return sorted(path.name for path in (REPOSITORY / folder).iterdir() if path.is_file())


def _content(path: str) -> str:
    file = REPOSITORY / path
    if file.is_dir():
        base = posixpath.basename(path)
        return f"# {path}\n\n" + "".join(f"* [{name}]({base}/{name})\n" for name in _listing(path))
    text = file.read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n````{_LANGUAGES.get(file.suffix, 'text')}\n{text}````\n"
