"""Batch mode on one release with one backend: what is asked, the exit code, the files, the sentence.

    python tests/conformance/batch_table.py [RELEASE ...] [--backend pytorch|tensorflow]

prints the whole table, 1.5.1 to 1.7.0 by default. Each release runs from its unpacked wheel with the plugin
file in it, all its command lines in one process to pay its start-up once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import HERE
from releases import SUPPORTED, environment_of, unpack
from scan_maker import product_of, simulated_scan, write_scan, write_settings

from ptycho_engine.formats.product import write_product
from ptychopinn_ptychodus.conversion import product_data

__all__ = ['BACKENDS', 'FAILURES', 'WITHOUT_TRAINING', 'Row', 'batch_table', 'markdown', 'release_scan']

BACKENDS = ('pytorch', 'tensorflow')
QUICK = {'PtychoPINNTraining': {'NumEpochs': '1', 'BatchSize': '16'}, 'PtychoPINNEngine': {'NumGroups': '64'}}
PRODUCT_NAMES = {'1.5.1': 'product-in.h5'}
"""What a release calls the product in its input directory, where it is not ``product.h5``."""


@dataclass(frozen=True)
class Row:
    """One command line and what came of it."""

    release: str
    case: str
    code: int
    files: tuple[str, ...]
    log: str
    out: Path

    @property
    def errors(self) -> list[str]:
        """The lines that the log marks as errors."""
        return [line for line in self.log.splitlines() if '[ERROR]' in line]


def release_scan(folder: Path, release: str, changes: dict[str, dict[str, str]] | None = None) -> Path:
    """Write a directory of 64 patterns that `release` can read, with quick settings."""
    raw = simulated_scan()
    write_scan(folder, raw)
    write_settings(folder, _merged(QUICK, changes or {}))
    # Ptychodus 1.7's own file does not open in earlier releases; ours does.
    (folder / 'product.h5').unlink()
    write_product(folder / PRODUCT_NAMES.get(release, 'product.h5'), product_data(product_of(raw)))
    return folder


def _merged(*layers: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    merged: dict[str, dict[str, str]] = {}
    for layer in layers:
        for group, values in layer.items():
            merged.setdefault(group, {}).update(values)
    return merged


WITHOUT_TRAINING = {
    'no model': {},
    'physics': {'Processing': {'Algorithm': 'PtychoPINN_Physics'}},
}
"""Case: settings. Reconstructions for which nothing is trained."""

FAILURES = {
    'absent model': ('reconstruct', {'PtychoPINNInference': {'ModelPath': '/nowhere/model.zip'}}),
    'nothing to train': ('train', {'Processing': {'Algorithm': 'PtychoPINN_Physics'}}),
    'damaged model': ('reconstruct', {}),
    'unknown algorithm': ('train', {'Processing': {'Algorithm': 'PtychoPINN_PIN'}}),
    'wrong setting': ('train', {'PtychoPINNEngine': {'Backend': 'abacus'}}),
    'failed run': ('train', {'Processing': {'Algorithm': 'PtychoPINN_Supervised'}}),
    'no product': ('reconstruct', {}),
    'no patterns': ('train', {}),
}
"""Case: action and settings. The failed run asks for labels that the product does not hold."""


def batch_table(root: Path, release: str, backends: tuple[str, ...] = BACKENDS) -> list[Row]:
    """Run all that there is on one release; what trains with each backend, the rest with the first."""
    tree = unpack(release, root / 'tree', plugin=True)
    commands: list[tuple[str, str, Path, Path]] = []
    for backend in backends:
        settings = {'PtychoPINNEngine': {'Backend': backend}}
        scan = release_scan(root / backend / 'IN', release, settings)
        # The model goes beside a second copy of the scan, where a reconstruction looks for it.
        second = Path(shutil.copytree(scan, root / backend / 'TRAINED'))
        commands.append((f'train, {backend}', 'train', scan, second))
        commands.append((f'reconstruct, {backend}', 'reconstruct', second, root / backend / 'OUT'))
    for case, settings in WITHOUT_TRAINING.items():
        folder = root / case.replace(' ', '-')
        changes = _merged({'PtychoPINNEngine': {'Backend': backends[0]}}, settings)
        scan = release_scan(folder / 'IN', release, changes)
        commands.append((case, 'reconstruct', scan, folder / 'OUT'))
    for case, (action, settings) in FAILURES.items():
        folder = root / case.replace(' ', '-')
        scan = release_scan(folder / 'IN', release, settings)
        if case == 'damaged model':
            (scan / 'model.zip').write_bytes(b'PK\x03\x04')
        elif case == 'no product':
            (scan / PRODUCT_NAMES.get(release, 'product.h5')).unlink()
        elif case == 'no patterns':
            (scan / 'diffraction.h5').unlink()
        commands.append((case, action, scan, folder / 'OUT'))
    before = {name: _names(out) for name, _, _, out in commands}
    finished = _run(root, tree, commands)
    return [
        Row(release, name, finished[name][0], _left(out, before[name]), finished[name][1], out)
        for name, _, _, out in commands
    ]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _left(folder: Path, before: set[str]) -> tuple[str, ...]:
    return tuple(sorted(_names(folder) - before))


def _run(root: Path, tree: Path, commands: list[tuple[str, str, Path, Path]]) -> dict[str, tuple[int, str]]:
    report = root / 'report.json'
    cases = [[name, ['-b', action, '-i', str(i), '-o', str(o)]] for name, action, i, o in commands]
    done = subprocess.run(
        [sys.executable, str(HERE / 'main_driver.py'), str(report)],
        input=json.dumps(cases),
        env=environment_of(tree, {**os.environ, 'HOME': str(root), 'OMP_NUM_THREADS': '1'}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert str(tree) in done.stdout, f'another Ptychodus ran: {done.stdout[-500:]}'
    # What a shell sees of -1 is 255.
    return {name: (code % 256, log) for name, (code, log) in json.loads(report.read_text()).items()}


def markdown(rows: list[Row]) -> str:
    """Return the rows as a table for people."""
    lines = ['| Ptychodus | run | exit | files | sentence |', '|---|---|---|---|---|']
    for row in rows:
        sentence = ' '.join(line.split(': ', 1)[-1] for line in row.errors).replace(str(row.out.parent), '')
        files = ', '.join(row.files) or 'none'
        lines.append(f'| {row.release} | {row.case} | {row.code} | {files} | {sentence} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('release', nargs='*', default=SUPPORTED)
    parser.add_argument('--backend', action='append', choices=BACKENDS)
    options = parser.parse_args()
    rows = []
    for release in options.release:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            rows += batch_table(Path(folder), release, tuple(options.backend or BACKENDS))
        print(f'{release}: {time.monotonic() - start:.0f} s', file=sys.stderr)
    print(markdown(rows))


if __name__ == '__main__':
    main()
