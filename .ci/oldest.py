"""Print constraints that hold every dependency of pyproject.toml at its lower bound, all others as tested."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def plain(name: str) -> str:
    return re.sub('[-_.]+', '-', name).casefold()


project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
bounds = {}
for requirement in project['dependencies']:
    name, least = re.fullmatch(r'([\w.-]+)>=([\d.]+)', requirement).groups()
    bounds[plain(name)] = least
for line in (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines():
    if not line.startswith('#') and plain(line.split('==')[0]) not in bounds:
        print(line)
for name, least in bounds.items():
    print(f'{name}=={least}')
