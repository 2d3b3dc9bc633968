"""Damage one file of a scan at random and give it to ``ptychodus -b reconstruct``, over and over.

    python -m tests.fuzz.batch --cases 400 --seed 1

Each run must end with exit code 0 and a product, or with 1, a sentence and no product; never with a
traceback, a signal or a hang. Runs are forked off a process that has Ptychodus loaded.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from . import mutate
from .samples import make_samples

HANG_CPU_S = 60.0
"""CPU time of a run, with its children, beyond which it does not end."""
HANG_IDLE_S = 60.0
"""For so long a run may use no CPU time at all; however busy the machine is, one that works gets some."""
SETTINGS = {
    'Processing': {'Algorithm': 'PtychoPINN_PINN'},
    'PtychoPINNModel': {'NumFiltersScale': '1'},
    'PtychoPINNEngine': {'Architecture': 'cnn', 'Accelerator': 'cpu', 'RefineIterations': '1'},
}
DAMAGE = {
    'model.zip': mutate.damage_sealed,
    'product.h5': mutate.damage_hdf5,
    'diffraction.h5': mutate.damage_hdf5,
    'settings.ini': mutate.damage_text,
}


def make_input(folder: Path, good: Path) -> None:
    """Write a scan, a model and settings, with which a run succeeds, into `good`."""
    samples = make_samples(folder)
    shutil.copytree(samples.directory, good)
    shutil.copy(samples.archive, good / 'model.zip')
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_dict(SETTINGS)
    with (good / 'settings.ini').open('w') as file:
        parser.write(file)


def run(scan: Path, out: Path, log: Path) -> tuple[int | str, str]:
    """Run batch mode in a fork; return its exit code, 'hang' or the signal that ended it, and its log."""
    pid = os.fork()
    if pid == 0:
        _run_here(scan, out, log)
    used, seen = 0.0, time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return (code if code >= 0 else f'signal {-code}'), log.read_text(errors='replace')
        now, at = cpu_seconds(pid), time.monotonic()
        if now > used + 0.01:
            used, seen = now, at
        if used > HANG_CPU_S or at - seen > HANG_IDLE_S:
            break
        time.sleep(0.1)
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    return f'hang, {used:.0f} CPU-s', log.read_text(errors='replace')


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of all that it has started."""
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                seconds += sum(one.cpu_times()[:4])
    return seconds


def _run_here(scan: Path, out: Path, log: Path) -> None:
    """Become a run of batch mode; does not return."""
    from ptychodus.__main__ import main

    os.setpgid(0, 0)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ['ptychodus', '-b', 'reconstruct', '-i', str(scan), '-o', str(out)]
    try:
        code = int(main())
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  as the interpreter would
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complaint(code: int | str, log: str, out: Path) -> str:
    """Return what is wrong with the end of a run; empty if nothing is."""
    if code not in (0, 1):
        return f'ended with {code}'
    if 'Traceback (most recent call last)' in log:
        return 'a traceback'
    written = (out / 'product.h5').exists()
    if code == 0 and not written:
        return 'exit code 0 without a product'
    if code == 1 and written:
        return 'exit code 1 with a product'
    if code == 1 and '[ERROR]' not in log:
        return 'exit code 1 without a sentence'
    left = [item.name for item in out.iterdir() if item.name.startswith('.')] if out.exists() else []
    return f'left behind: {left}' if left else ''


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns 1 if a run ended badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--cases', type=int, default=100)
    parser.add_argument('--first', type=int, default=0, help='number of the first case')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--file', action='append', choices=sorted(DAMAGE), help='only damage these')
    options = parser.parse_args(arguments)
    names = options.file or sorted(DAMAGE)
    ends: dict[str, Counter[str]] = {name: Counter() for name in names}
    with tempfile.TemporaryDirectory(prefix='fuzz-batch-') as folder:
        good = Path(folder) / 'good'
        make_input(Path(folder) / 'samples', good)
        code, log = run(good, Path(folder) / 'out-good', Path(folder) / 'log-good')
        if code != 0:
            print(log)
            raise SystemExit('The good scan is not reconstructed.')
        for number in range(options.first, options.first + options.cases):
            name = names[number % len(names)]
            work = Path(folder) / str(number)
            shutil.copytree(good, work / 'in')
            rng = np.random.default_rng([options.seed, number])
            (work / 'in' / name).write_bytes(DAMAGE[name]((good / name).read_bytes(), rng))
            code, log = run(work / 'in', work / 'out', work / 'log')
            wrong = complaint(code, log, work / 'out')
            ends[name]['BAD' if wrong else str(code)] += 1
            if wrong:
                print(
                    f'--seed {options.seed} --first {number} --cases 1 ({name}): {wrong}\n{log[-3000:]}',
                    flush=True,
                )
            shutil.rmtree(work)
    for name in names:
        print(f'{name:16}' + ', '.join(f'{end}: {count}' for end, count in sorted(ends[name].items())))
    bad = sum(counter['BAD'] for counter in ends.values())
    print(f'{options.cases} runs, {bad} ended badly')
    return int(bad > 0)


if __name__ == '__main__':
    raise SystemExit(main())
