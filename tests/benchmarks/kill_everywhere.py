"""Kill train, reconstruct, prepare and convert-product at random moments, and cut the power; what is left?

After each end the earlier results must be whole, or the new ones. A training that is resumed must give the
weights of one that was never ended. SIGTERM and SIGHUP leave no temporary file; SIGKILL and the power leave
none after the next run.

The power is cut by a record of what a run does to its files (``powerlog.c``, preloaded): the state on the
disk is worked out for a random moment. Contents that were not synchronised are empty then, and names in
folders that were not synchronised are as they were before, all or some of them.

Run: python tests/benchmarks/kill_everywhere.py [--moments 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from ptycho_engine.commands import main as ptychopinn
from ptycho_engine.data.diffraction_file import read_diffraction_file
from ptycho_engine.files.archive import load_archive
from ptycho_engine.files.checkpoint import load_checkpoint
from ptycho_engine.files.product import read_product
from ptycho_engine.io.folder_lock import tidy

SIGNALS = {'SIGKILL': -9, 'SIGTERM': 143, 'SIGHUP': 129}
POWER = 'power'
SHIM = Path(__file__).with_name('powerlog.c')
QUICK = ['--simulated-epochs', '0', '--filters-scale', '1', '--unrolled-steps', '1', '--groups', '16']
TIME_LIMIT_S = 300


def digest(*arrays: object) -> str:
    """Return a checksum of arrays."""
    total = sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())  # type: ignore[call-overload]
    return total.hexdigest()[:12]


def of_model(folder: Path) -> str:
    """Load the model and the checkpoint, if there is one."""
    weights = load_archive(folder / 'wts.h5.zip').weights
    if (folder / 'checkpoint.zip').exists():
        load_checkpoint(folder / 'checkpoint.zip')
    return digest(*(weights[name] for name in sorted(weights)))


def of_result(folder: Path) -> str:
    """Load what reconstruct writes; all of it must say the same."""
    product = read_product(folder / 'product.h5').object_array[0]
    with np.load(folder / 'reconstruction.npz', allow_pickle=False) as arrays:
        same = np.array_equal(np.asarray(product, np.complex64), arrays['objectGuess'])
    picture = (folder / 'reconstruction.png').read_bytes()
    assert picture.endswith(b'IEND\xaeB`\x82'), 'the picture is cut off'
    assert same, 'product.h5 and reconstruction.npz are of two runs'
    # A picture shows how many seconds it took.
    return digest(product)


def of_scan(folder: Path) -> str:
    """Load both files of a scan directory."""
    patterns = read_diffraction_file(folder / 'diffraction.h5')
    product = read_product(folder / 'product.h5')
    assert patterns.counts.shape[-1] == product.probe.shape[-1], 'diffraction.h5 and product.h5 of two runs'
    return digest(np.asarray(patterns.counts[:]), product.probe)


def of_product(folder: Path) -> str:
    """Load the converted product."""
    product = read_product(folder / 'out.h5')
    return digest(product.object_array, product.probe, product.position_x_m)


@dataclass
class Task:
    """A command that replaces the results of an earlier one."""

    name: str
    words: Callable[[Path, bool], list[str]]
    """From the output and whether it is the new run."""
    judge: Callable[[Path], str]
    earlier: str = ''
    new: str = ''
    seconds: float = 0.0
    count: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def run(words: list[str], *, at: float | None = None, signum: int = 0) -> int:
    """Run a command in a child of this process, perhaps end it after `at` seconds; return its exit code."""
    pid = os.fork()
    if pid == 0:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        code = 99
        try:
            code = ptychopinn(words)
        finally:
            os._exit(code)
    if at is not None:
        time.sleep(at)
        os.kill(pid, signum)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code


def hidden(folder: Path) -> list[str]:
    """Return what lies about unfinished."""
    return [str(path.relative_to(folder)) for path in folder.rglob('.*')]


class Bench:
    """The tasks, with their earlier and their new results."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        # Once here and not in each child; nothing is computed in this process, which has one thread only.
        for name in ('pytorch.backend', 'pytorch.refine'):
            importlib.import_module(f'ptycho_engine.backends.{name}')
        for name in ('train', 'reconstruct', 'prepare', 'convert_product', 'simulate'):
            importlib.import_module(f'ptycho_engine.commands.{name}')
        scan, other = root / 'scan', root / 'other'
        for folder, points in ((scan, '5x5'), (other, '4x5')):
            code = run(['simulate', '--output', str(folder), '--points', points, '--size', '32'])
            assert code == 0
        model = root / 'model'
        assert run(['train', str(scan), '--output', str(model), '--epochs', '1', *QUICK]) == 0

        def train(out: Path, new: bool) -> list[str]:
            seed, epochs = ('1', '4') if new else ('0', '2')
            return ['train', str(scan), '--output', str(out), '--seed', seed, '--epochs', epochs, *QUICK]

        def reconstruct(out: Path, new: bool) -> list[str]:
            source = scan if new else other
            few = ['--refine-iterations', '2']
            return ['reconstruct', str(source), '--model', str(model), '--output', str(out), *few]

        def prepare(out: Path, new: bool) -> list[str]:
            return ['prepare', str(scan), '--crop', '16' if new else '24', '--output', str(out)]

        def convert(out: Path, new: bool) -> list[str]:
            source = (scan if new else other) / 'scan.npz'
            return ['convert-product', '--input-npz', str(source), '--output-product', str(out / 'out.h5')]

        self.tasks = [
            Task('train', train, of_model),
            Task('reconstruct', reconstruct, of_result),
            Task('prepare', prepare, of_scan),
            Task('convert-product', convert, of_product),
        ]
        for task in self.tasks:
            folder = self.folder(task)
            for new in (False, True):
                out = self.root / f'{task.name}-{new}'
                shutil.copytree(folder, out) if new else out.mkdir()
                tic = time.monotonic()
                assert run(task.words(out, new)) == 0
                task.seconds = time.monotonic() - tic
                if new:
                    task.new = task.judge(out)
                else:
                    task.earlier = task.judge(out)
                    shutil.copytree(out, folder, dirs_exist_ok=True)
            assert task.earlier != task.new

    def folder(self, task: Task) -> Path:
        """Return where the results of the earlier run lie."""
        return self.root / f'{task.name}-earlier'

    def kill(self, task: Task, name: str) -> None:
        """End a run at a random moment and look at what is left."""
        out = self.root / 'killed'
        shutil.copytree(self.folder(task), out)
        at = self.random.uniform(0, 1.05 * task.seconds)
        signum = getattr(signal, name)
        code = run(task.words(out, True), at=at, signum=signum)
        # A signal may come before the command has begun, and after it has ended.
        if code not in (0, SIGNALS[name], -signum):
            task.faults.append(f'{name} after {at:.2f} s: exit code {code}')
        if name != 'SIGKILL' and hidden(out):
            task.faults.append(f'{name} after {at:.2f} s: left {hidden(out)}')
        self.look(task, out, f'{name} after {at:.2f} s')
        shutil.rmtree(out)

    def look(self, task: Task, out: Path, what: str) -> None:
        """Judge what is left, run again, and judge that."""
        try:
            tidy(out)
            state = task.judge(out)
            if task.name == 'train':
                # A run that was stopped has a model of its own, of some epoch.
                known = state in (task.earlier, task.new) or len(load_archive(out).history) < 4
            else:
                known = state in (task.earlier, task.new)
            if not known:
                task.faults.append(f'{what}: the results are neither the earlier nor the new ones')
            task.count['new' if state == task.new else 'earlier' if state == task.earlier else 'part'] += 1
            words = task.words(out, True)
            if task.name == 'train' and load_checkpoint(out / 'checkpoint.zip').model.config.seed == 1:
                words.append('--resume')
                task.count['resumed'] += 1
            code = run(words)
            if code != 0 or task.judge(out) != task.new:
                task.faults.append(f'{what}: run again ({code}), it gives something else')
            if hidden(out):
                task.faults.append(f'{what}: the next run left {hidden(out)}')
        except Exception as error:  # noqa: BLE001  (whatever it is, it is a fault)
            task.faults.append(f'{what}: {type(error).__name__}: {error}')

    def cut_power(self, task: Task, moments: int) -> None:
        """Record one run, and look at the disk as it would be after a power cut at random moments."""
        library, record = self.root / 'powerlog.so', self.root / f'{task.name}.log'
        if not library.exists():
            subprocess.run(
                ['gcc', '-O1', '-shared', '-fPIC', '-o', library, SHIM, '-ldl', '-pthread'], check=True
            )
        before, out = self.folder(task), self.root / 'powered'
        shutil.copytree(before, out)
        disk = {path: path.stat().st_ino for path in out.rglob('*')}
        subprocess.run(
            [sys.executable, '-m', 'ptycho_engine', *task.words(out, True)],
            env={
                **os.environ,
                'LD_PRELOAD': str(library),
                'POWERLOG_ROOT': str(out),
                'POWERLOG_FILE': str(record),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=TIME_LIMIT_S,
        )
        lines = [line.split('\t') for line in record.read_text().splitlines()]
        for _ in range(moments):
            end, luck = self.random.randint(0, len(lines)), self.random.choice([0.0, 0.5, 1.0])
            crashed = Disk(disk, before, out)
            for number, words in enumerate(lines[:end]):
                crashed.do(number, words, record)
            shutil.rmtree(out)
            crashed.write(out, luck, self.random)
            self.look(task, out, f'power cut at operation {end} of {len(lines)}, luck {luck}')
        shutil.rmtree(out)


class Disk:
    """What is on the disk for good, and what is not yet."""

    def __init__(self, found: dict[Path, int], before: Path, out: Path) -> None:
        self.names: dict[str, int] = {}
        self.folders = {str(out)}
        self.contents: dict[int, Path] = {}
        self.file: dict[int, int] = {}
        """Which file an inode is at present; numbers of inodes are used again."""
        self.waiting: list[tuple[str, int, str, str]] = []
        for number, (path, inode) in enumerate(found.items()):
            if (before / path.relative_to(out)).is_dir():
                self.folders.add(str(path))
                continue
            self.file[inode] = self.names[str(path)] = -1 - number
            self.contents[-1 - number] = before / path.relative_to(out)

    def do(self, number: int, words: list[str], record: Path) -> None:
        """Take note of a line of the record."""
        what, inode, one, two = words[0], int(words[1]), words[2], words[3]
        if what == 'create':
            self.file[inode] = number
        if what == 'sync':
            self.contents[self.file[inode]] = Path(f'{record}.{number}')
        elif what == 'sync-folder':
            waiting, self.waiting = self.waiting, []
            for operation in waiting:
                if one in {os.path.dirname(path) for path in operation[2:]}:
                    self._settle(operation)
                else:
                    self.waiting.append(operation)
        elif what != 'change':
            self.waiting.append((what, self.file.get(inode, 0), one, two))

    def _settle(self, operation: tuple[str, int, str, str]) -> None:
        what, file, one, two = operation
        if what in ('create', 'link'):
            self.names[one] = file
        elif what == 'folder':
            self.folders.add(one)
        elif what == 'remove':
            self.names.pop(one, None)
            self.folders.discard(one)
        elif what == 'rename' and one in self.folders:
            self.folders = {_moved(path, one, two) for path in self.folders}
            self.names = {_moved(path, one, two): file for path, file in self.names.items()}
        elif what == 'rename':
            self.names.pop(one, None)
            self.names[two] = file

    def write(self, out: Path, luck: float, chance: random.Random) -> None:
        """Make the folder as it is after the power is back; `luck` is the part of the rest that is there."""
        lost: set[str] = set()
        for operation in self.waiting:
            paths = {path for path in operation[2:] if path}
            if chance.random() < luck and not paths & lost:
                self._settle(operation)
            else:
                lost |= paths
        for folder in sorted(self.folders):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for name, file in self.names.items():
            if os.path.dirname(name) in self.folders:
                data = self.contents[file].read_bytes() if file in self.contents else b''
                Path(name).write_bytes(data)


def _moved(path: str, one: str, two: str) -> str:
    return two + path[len(one) :] if path == one or path.startswith(f'{one}/') else path


def bar(root: Path, moments: int, seed: int, kinds: list[str] | None = None) -> list[Task]:
    """Run everything; return the tasks with their counts and faults."""
    bench = Bench(root, seed)
    for task in bench.tasks:
        for kind in kinds or [*SIGNALS, POWER]:
            faults, task.count = len(task.faults), Counter()
            if kind == POWER:
                bench.cut_power(task, moments)
            else:
                for _ in range(moments):
                    bench.kill(task, kind)
            counts = ', '.join(f'{count} {name}' for name, count in sorted(task.count.items()))
            print(f'{task.name:16} {kind:8} {moments:4} moments: {counts}; ', end='')
            print(f'{len(task.faults) - faults} faults', flush=True)
        for fault in task.faults:
            print(f'  {fault}', flush=True)
    return bench.tasks


def main() -> None:
    """Print a table; exit with 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else '')
    parser.add_argument('--moments', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', choices=[*SIGNALS, POWER])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tasks = bar(Path(name), options.moments, options.seed, options.kinds)
    sys.exit(any(task.faults for task in tasks))


if __name__ == '__main__':
    main()
