"""Pages of the site made of other files: README, contracts, release notes, notebooks, and all settings.

MkDocs calls the functions below (``hooks`` in ``mkdocs.yml``). Links between files of the repository become
links between pages.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.describe import describe

ROOT = Path(__file__).parents[1]
PAGES = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'release-notes.md'}
CONTRACTS = 'specs/physics.md'
"""Where a link to all contracts leads."""
LINK = re.compile(r'(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)')
SETTINGS = {
    'The network': ModelConfig,
    'Training': TrainingConfig,
    'Reconstruction': InferenceConfig,
    'Device and run (PyTorch)': PyTorchExecutionConfig,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs``."""
    contracts = {f'specs/{path.name}': f'specs/{path.name}' for path in sorted((ROOT / 'specs').glob('*.md'))}
    for name, page in (PAGES | contracts).items():
        text = (ROOT / name).read_text(encoding='utf-8')
        files.append(File.generated(config, page, content=with_page_links(text, ROOT / name, page)))
    for path in (ROOT / 'specs').glob('*.png'):
        files.append(File.generated(config, f'specs/{path.name}', content=path.read_bytes()))
    for path in sorted((ROOT / 'docs' / 'tutorials').glob('*.ipynb')):
        files.remove(files.src_uris[f'tutorials/{path.name}'])
        files.append(File.generated(config, f'tutorials/{path.stem}.md', content=notebook_page(path)))
    files.append(File.generated(config, 'all-settings.md', content=settings_page()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let the links of a page of ``docs`` lead to pages."""
    if page.file.generated_by:
        return markdown
    return with_page_links(markdown, Path(page.file.abs_src_path), page.file.src_uri)


def with_page_links(text: str, source: Path, page: str) -> str:
    """Return the text of a file whose links to other files lead to their pages, as seen from `page`.

    Of a link to a file that is no page its words are left.
    """

    def linked(match: re.Match[str]) -> str:
        image, words, link, anchor = match[1], match[2], match[3], match[4] or ''
        if '://' in link:
            return match[0]
        name = (source.parent / link).resolve().relative_to(ROOT).as_posix()
        if name in PAGES:
            target = PAGES[name]
        elif name.endswith('.ipynb'):
            target = name.removeprefix('docs/').replace('.ipynb', '.md')
        elif name == 'specs':
            target = CONTRACTS
        elif name.startswith(('docs/', 'specs/')):
            target = name.removeprefix('docs/')
        else:
            return words
        return f'{image}[{words}]({"../" * page.count("/")}{target}{anchor})'

    return LINK.sub(linked, text)


def notebook_page(path: Path) -> str:
    """Return a notebook as a page: its text, its code, and the picture that it ends with."""
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    parts = [
        text if cell['cell_type'] == 'markdown' else f'```python\n{text}\n```'
        for cell in cells
        if (text := ''.join(cell['source']))
    ]
    parts.append(f'![What the last cell shows](../pictures/tutorials/{path.stem}.png)')
    return '\n\n'.join(parts) + '\n'


def settings_page() -> str:
    """Return a page with each field of the configurations."""
    parts = [
        '# All settings',
        'Names are those of Python and of settings files; a flag has dashes in place of `_`.',
        'Which of them matter is on a page of [its own](settings.md).',
    ]
    for title, configuration in SETTINGS.items():
        rows = [
            f'| `{info.name}` | {info.expected} | `{info.default}` | {info.doc.replace("|", "&#124;")} |'
            for info in describe(configuration)
            if info.name != 'model'
        ]
        head = [f'## {title}', '', '| name | value | default | meaning |', '|---|---|---|---|']
        parts.append('\n'.join([*head, *rows]))
    return '\n\n'.join(parts) + '\n'
