"""What MkDocs is told beyond ``mkdocs.yml``: pages and links that lie outside ``docs``.

`ARCHITECTURE.md` stands at the root, where who reads the source looks first, and is a page here as
well. Links to other files of the source become their names: a reader of the site may not have them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\[([^\]]*)\]\(((?!https?:|#|mailto:)[^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    text = (_ROOT / "ARCHITECTURE.md").read_text("utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "architecture.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Name, instead of linking to, what is not on the site."""
    folder = (Path(config.docs_dir) / page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[2]))
        if target.is_relative_to(config.docs_dir) or not target.exists():
            return link[0]
        name = str(target.relative_to(_ROOT))
        text = link[1].strip("`")
        return f"`{name}`" if text == name else f"{link[1]} (`{name}`)"

    return _LINK.sub(named, markdown)
