"""End train, reconstruct, prepare and convert-product at random moments, and cut the power; what is left?

After each end the earlier results must be whole, or the new ones, and what is shown meanwhile must be of one
run. A training that is resumed must give what one gives that was never ended: the model, the weights of the
last epoch, the optimiser and the history. SIGTERM and SIGHUP leave no temporary file; SIGKILL and the power
leave none after the next run. Every fifth run begins in an empty folder.

Half of the moments are spread over the time of a run. The others are operations on files, half of them
where the new results take the place of the earlier ones. For these a library is preloaded
(``powerlog.c``), which also records a run for the power cuts (``power_cut.py``). Runs are forked off this
process, which has everything loaded.

Run: python tests/benchmarks/kill_everywhere.py [--moments 50] [--seed 0] [--tasks train] [--kinds power]
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import select
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
from power_cut import Disk, read_record

from ptycho_engine.commands import main as ptychopinn
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.checkpoint import load_checkpoint
from ptycho_engine.formats.diffraction_file import read_diffraction_file
from ptycho_engine.formats.product import read_product
from ptycho_engine.io.folder_lock import tidy
from ptycho_engine.io.staging import COMPLETE

SIGNALS = {'SIGKILL': -9, 'SIGTERM': 143, 'SIGHUP': 129}
POWER = 'power'
SHIM = Path(__file__).with_name('powerlog.c')
QUICK = ['--filters-scale', '1', '--architecture', 'cnn', '--groups', '16']
EPOCHS = 4
HANG_S = 90.0
JUST_BEFORE = 4
"""Operations ahead of the first one that puts a result in place, from which on they are late ones."""


def digest(*arrays: object) -> str:
    """Return a checksum of arrays and texts."""
    total = sha256()
    for array in arrays:
        if isinstance(array, str):
            total.update(array.encode())
            continue
        total.update(np.ascontiguousarray(array).tobytes())  # type: ignore[call-overload]
    return total.hexdigest()[:12]


def of_model(path: Path) -> str:
    """Load a model; its history is a part of it, but for the seconds."""
    archive = load_archive(path)
    numbers = [sorted(record.items()) for record in archive.history]
    timeless = [[(name, value) for name, value in record if 'second' not in name] for record in numbers]
    return digest(*(archive.weights[name] for name in sorted(archive.weights)), repr(timeless))


def of_checkpoint(path: Path) -> str:
    """Load a checkpoint: the weights of the last epoch and the state of the optimiser."""
    found = load_checkpoint(path)
    return digest(
        *(found.weights[name] for name in sorted(found.weights)),
        *(found.optimiser[name] for name in sorted(found.optimiser)),
    )


def of_product(path: Path) -> str:
    """Load a product."""
    product = read_product(path)
    return digest(product.object_array, product.probe, product.position_x_m)


def of_arrays(path: Path) -> str:
    """Load the arrays of a reconstruction."""
    with np.load(path, allow_pickle=False) as arrays:
        return digest(*(arrays[name] for name in sorted(arrays.files) if name != '_metadata'))


def of_picture(path: Path) -> str:
    """Look at a picture; it shows how many seconds it took, and is never the same."""
    assert path.read_bytes().endswith(b'IEND\xaeB`\x82'), f'{path} is cut off'
    return 'whole'


def of_patterns(path: Path) -> str:
    """Load the patterns of a scan."""
    return digest(np.asarray(read_diffraction_file(path).counts[:]))


State = dict[str, str]
"""Checksums of the results that are shown, by their names."""


@dataclass
class Task:
    """A command that replaces the results of an earlier one."""

    name: str
    words: Callable[[Path, bool], list[str]]
    """From the output and whether it is the new run."""
    parts: dict[str, Callable[[Path], str]]
    """Its results, and how a checksum of each is found; what is not whole raises."""
    earlier: State = field(default_factory=dict)
    new: State = field(default_factory=dict)
    seconds: float = 0.0
    operations: int = 0
    late: int = 0
    """The first of its operations that count as late."""
    count: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def state(self, out: Path) -> State:
        """Look at the results that are shown."""
        return {name: of(out / name) for name, of in self.parts.items() if (out / name).exists()}


class Bench:
    """The tasks, with their earlier and their new results."""

    def __init__(self, root: Path, seed: int, names: list[str] | None = None) -> None:
        self.root, self.random = root, random.Random(seed)
        self.log = root / 'said'
        logging.getLogger('ptychopinn').setLevel(logging.ERROR)
        # Once here and not in each child; nothing is computed in this process, which has one thread only.
        for name in ('pytorch.backend', 'pytorch.operations'):
            importlib.import_module(f'ptycho_engine.backends.{name}')
        for name in ('train', 'reconstruct', 'prepare', 'convert_product', 'simulate'):
            importlib.import_module(f'ptycho_engine.commands.{name}')
        scan, other = root / 'scan', root / 'other'
        for folder, points in ((scan, '5x5'), (other, '4x5')):
            code = self.run(['simulate', '--output', str(folder), '--points', points, '--size', '32'])
            assert code == 0, self.log.read_text()
        model = root / 'model'
        assert self.run(['train', str(scan), '--output', str(model), '--epochs', '1', *QUICK]) == 0

        def train(out: Path, new: bool) -> list[str]:
            seed, epochs = ('1', str(EPOCHS)) if new else ('0', '2')
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

        result = {
            'product.h5': of_product,
            'reconstruction.npz': of_arrays,
            'reconstruction.png': of_picture,
        }
        tasks = [
            Task('train', train, {'wts.h5.zip': of_model}),
            Task('reconstruct', reconstruct, result),
            Task('prepare', prepare, {'diffraction.h5': of_patterns, 'product.h5': of_product}),
            Task('convert-product', convert, {'out.h5': of_product}),
        ]
        self.tasks = [task for task in tasks if names is None or task.name in names]
        for task in self.tasks:
            for new in (False, True):
                out = self.folder(task, new)
                out.mkdir()
                if new:
                    shutil.copytree(self.folder(task), out, dirs_exist_ok=True)
                tic = time.monotonic()
                assert self.run(task.words(out, new)) == 0, self.log.read_text()
                task.seconds = time.monotonic() - tic
                state = task.state(out)
                assert state.keys() == task.parts.keys()
                if new:
                    task.new = state
                else:
                    task.earlier = state
            assert task.earlier != task.new
            self.count_operations(task)

    def folder(self, task: Task, new: bool = False) -> Path:
        """Return where the results of the earlier run lie, or those of the new one."""
        return self.root / f'{task.name}-{"new" if new else "earlier"}'

    def run(
        self,
        words: list[str],
        *,
        at: float | None = None,
        signum: int = 0,
        **environment: object,
    ) -> int | str:
        """Run a command in a fork, perhaps end it after `at` seconds; return its exit code, or 'hang'."""
        pid = os.fork()
        if pid == 0:
            self._run_here(words, environment)
        handle = os.pidfd_open(pid)
        try:
            ready, _, _ = select.select([handle], [], [], HANG_S if at is None else at)
            if not ready and at is not None:
                signal.pidfd_send_signal(handle, signum)
                ready, _, _ = select.select([handle], [], [], HANG_S)
            if not ready:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if ready else 'hang'

    def _run_here(self, words: list[str], environment: dict[str, object]) -> None:
        """Become a run of a command; does not return."""
        code = 99
        try:
            os.environ.update({name: str(value) for name, value in environment.items()})
            # What was ignored from the start, as by nohup, would stay so.
            for name in SIGNALS.keys() - {'SIGKILL'}:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            said = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            nowhere = os.open(os.devnull, os.O_RDONLY)
            for stream, target in ((0, nowhere), (1, said), (2, said)):
                os.dup2(target, stream)
            try:
                code = ptychopinn(words)
            except BaseException:  # noqa: BLE001  as the interpreter would
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def record(self, task: Task, out: Path) -> Path:
        """Run a task in `out` and record what it does to its files."""
        record = self.root / f'{task.name}.log'
        for path in self.root.glob(f'{record.name}*'):
            path.unlink()
        code = self.run(task.words(out, True), POWERLOG_ROOT=out, POWERLOG_FILE=record)
        assert code == 0, self.log.read_text()
        return record

    def count_operations(self, task: Task) -> None:
        """Count what a run does to its files."""
        out = self.begin(task, fresh=False)
        operations = read_record(self.record(task, out))
        shutil.rmtree(out)
        assert operations, 'the library is not preloaded'
        # A folder of results is put in place by one rename.
        decisive = {COMPLETE, *task.parts}
        renames = [
            number
            for number, (what, _, _, two) in enumerate(operations, start=1)
            if what == 'rename' and os.path.basename(two) in decisive
        ]
        task.operations, task.late = len(operations), renames[0] - JUST_BEFORE

    def begin(self, task: Task, *, fresh: bool) -> Path:
        """Make the folder in which a run begins."""
        out = self.root / 'out'
        out.mkdir()
        if not fresh:
            shutil.copytree(self.folder(task), out, dirs_exist_ok=True)
        return out

    def operation(self, task: Task, number: int) -> int:
        """Draw an operation, every other one a late one."""
        first = task.late if number % 2 else 1
        return self.random.randint(first, task.operations)

    def kill(self, task: Task, name: str, number: int, moments: int) -> None:
        """End a run at a random moment and look at what is left."""
        fresh = number % 5 == 4
        out = self.begin(task, fresh=fresh)
        signum = getattr(signal, name)
        if number % 2:
            last = self.operation(task, number // 2)
            when = f'{name} at operation {last} of {task.operations}{" in an empty folder" * fresh}'
            code = self.run(task.words(out, True), POWERLOG_ROOT=out, POWERLOG_END=f'{last} {signum}')
        else:
            at = (number + 2 * self.random.random()) / moments * 1.05 * task.seconds
            when = f'{name} after {at:.2f} s of {task.seconds:.2f} s{" in an empty folder" * fresh}'
            code = self.run(task.words(out, True), at=at, signum=signum)
        said = self.log.read_text() if self.log.exists() else ''
        # A signal may come before the command has begun, and after it has ended.
        if code not in (0, SIGNALS[name], -signum) or 'Traceback' in said:
            task.faults.append(f'{when}: exit code {code}: {said[-2000:]}')
        if name != 'SIGKILL' and hidden(out):
            task.faults.append(f'{when}: left {hidden(out)}')
        if name != 'SIGKILL' and code == SIGNALS[name] and task.name == 'train':
            self.saved(task, out, when)
        self.look(task, out, when, fresh=fresh)
        shutil.rmtree(out)

    def saved(self, task: Task, out: Path, when: str) -> None:
        """Check that a training which was asked to end has saved all its epochs as its model."""
        if not (out / 'checkpoint.zip').exists():
            return
        checkpoint = load_checkpoint(out / 'checkpoint.zip')
        if checkpoint.model.config.seed == 1:
            task.count['stopped'] += 1
            model, epochs = load_archive(out), checkpoint.progress.epoch
            # The history also has an epoch that was cut short.
            if model.config.seed != 1 or not epochs <= len(model.history) <= epochs + 1:
                task.faults.append(f'{when}: the model is not that of the {epochs} epochs')

    def look(self, task: Task, out: Path, when: str, *, fresh: bool) -> None:
        """Judge what is left, run again, and judge that."""
        try:
            known: list[State] = [{} if fresh else task.earlier, task.new]
            shown = task.state(out)
            tidy(out)
            state = task.state(out)
            if task.name == 'train' and state not in known:
                # A run that was stopped has a model of its own, of some epoch.
                model = load_archive(out)
                if model.config.seed == 1 and 0 < len(model.history) <= EPOCHS:
                    known.append(state)
            if not any(shown.items() <= one.items() for one in known):
                task.faults.append(f'{when}: files of two runs are shown ({shown})')
            if state not in known:
                task.faults.append(f'{when}: the results are neither the earlier nor the new ones ({state})')
            task.count['new' if state == known[1] else 'earlier' if state == known[0] else 'own'] += 1
            self.again(task, out, when)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is a fault)
            task.faults.append(f'{when}: {type(error).__name__}: {error}')

    def again(self, task: Task, out: Path, when: str) -> None:
        """Run the command again, a training from where it was, and compare with a run that was not ended."""
        words, checkpoint = task.words(out, True), out / 'checkpoint.zip'
        if checkpoint.exists() and load_checkpoint(checkpoint).model.config.seed == 1:
            words.append('--resume')
            task.count['resumed'] += 1
        code = self.run(words)
        if code != 0:
            task.faults.append(f'{when}: run again, it ends with {code}: {self.log.read_text()[-2000:]}')
        elif task.state(out) != task.new:
            task.faults.append(f'{when}: run again, it gives something else')
        elif task.name == 'train' and of_checkpoint(checkpoint) != of_checkpoint(
            self.folder(task, True) / checkpoint.name
        ):
            task.faults.append(f'{when}: run again, its last epoch is another')
        if hidden(out):
            task.faults.append(f'{when}: the next run left {hidden(out)}')

    def cut_power(self, task: Task, moments: int) -> None:
        """Record a run, and look at the disk as it would be after a power cut at random moments of it."""
        for fresh in (False, True):
            out = self.begin(task, fresh=fresh)
            before = self.root / 'before'
            shutil.copytree(out, before)
            found = {path: path.stat().st_ino for path in out.rglob('*')}
            record = self.record(task, out)
            lines = read_record(record)
            for number in range(moments):
                if (number % 5 == 4) != fresh:
                    continue
                last, luck = (
                    min(self.operation(task, number), len(lines)),
                    self.random.choice([0.0, 0.5, 1.0]),
                )
                crashed = Disk(found, before, out)
                for line, words in enumerate(lines[:last]):
                    crashed.do(line, words, record)
                shutil.rmtree(out)
                crashed.write(out, luck, self.random)
                empty = ' in an empty folder' * fresh
                when = f'power cut at operation {last} of {len(lines)}, luck {luck}{empty}'
                self.look(task, out, when, fresh=fresh)
            shutil.rmtree(out)
            shutil.rmtree(before)


def hidden(folder: Path) -> list[str]:
    """Return what lies about unfinished."""
    return [str(path.relative_to(folder)) for path in folder.rglob('.*')]


def bar(bench: Bench, moments: int, kinds: list[str]) -> int:
    """Run everything, and print a line for each command and way to end it; return the number of faults."""
    for task in bench.tasks:
        for kind in kinds:
            told, task.count, tic = len(task.faults), Counter(), time.monotonic()
            if kind == POWER:
                bench.cut_power(task, moments)
            else:
                for number in range(moments):
                    bench.kill(task, kind, number, moments)
            counts = ', '.join(f'{count} {name}' for name, count in sorted(task.count.items()))
            faults = task.faults[told:]
            print(f'{task.name:16} {kind:8} {moments:4} moments: {counts}; {len(faults)} faults', end='')
            print(f' ({time.monotonic() - tic:.0f} s)', *faults, sep='\n  ', flush=True)
    return sum(len(task.faults) for task in bench.tasks)


def preload(folder: Path) -> None:
    """Start this program anew with the library that sees what is done to files."""
    library = folder / 'powerlog.so'
    compiler = ['gcc', '-O1', '-shared', '-fPIC', '-o', str(library), str(SHIM), '-ldl', '-pthread']
    subprocess.run(compiler, check=True)
    environment = {**os.environ, 'LD_PRELOAD': str(library), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, *sys.argv, '--root', str(folder)], env=environment, check=False)
    sys.exit(done.returncode)


def main() -> None:
    """Print a table; exit with 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else '')
    parser.add_argument('--moments', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--tasks', nargs='+', metavar='NAME', help='only these commands')
    parser.add_argument('--kinds', nargs='+', choices=[*SIGNALS, POWER], default=[*SIGNALS, POWER])
    parser.add_argument('--root', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.root is None:
        with tempfile.TemporaryDirectory() as name:
            preload(Path(name))
    faults = bar(Bench(options.root, options.seed, options.tasks), options.moments, options.kinds)
    sys.exit(faults > 0)


if __name__ == '__main__':
    main()
