"""Damage files at random, read them, and see that nothing but a result or a sentence comes of it.

    python -m tests.fuzz.run --seconds 120          as .ci/run does
    python -m tests.fuzz.run --cases 10000 --jobs 2
    python -m tests.fuzz.run --repeat npz:1:17       one case again, with the damaged file kept

A case is a kind of file, a seed and a number; the same three give the same damage. Readers run in processes
of their own, so that a crash, a hang or a flood of memory is seen and told like a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from .readers import KINDS, Kind
from .samples import Samples, make_samples

HANG_S = 20.0
MOST_MEMORY = 1_500_000_000
"""Bytes of memory that a reader may take at its peak, beyond what the process had before."""
ADDRESS_SPACE = 8 << 30
"""Bytes of address space of a reader, so that a flood ends in an error and not on the whole machine."""
CASES_OF_A_PROCESS = 400

Case = tuple[str, int, int]
"""Kind, seed and number."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: Case
    verdict: str
    """'same', 'other' (read, with other content), 'refused'; or 'error', 'crash', 'hang', 'memory'."""
    detail: str = ''
    peak_bytes: int = 0

    @property
    def bad(self) -> bool:
        return self.verdict in ('error', 'crash', 'hang', 'memory')


def damaged_file(case: Case, kind: Kind, samples: Samples, folder: Path) -> Path:
    """Write the damaged file of a case into a folder."""
    name, seed, number = case
    good = samples.folder / kind.source
    rng = np.random.default_rng([seed, number, *name.encode()])
    path = folder / good.name
    path.write_bytes(kind.damage(good.read_bytes(), rng))
    return path


def run_case(case: Case, kind: Kind, samples: Samples, good: str) -> Outcome:
    """Read the file of a case, in this process; `good` is what is seen in the good one."""
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
        path = damaged_file(case, kind, samples, Path(folder))
        _reset_peak()
        before = _peak()
        try:
            seen = kind.read(path, samples)
        except BaseException:  # noqa: BLE001  whatever it is, it is what is looked for
            return Outcome(case, 'error', traceback.format_exc(), _peak() - before)
    peak = _peak() - before
    if peak > MOST_MEMORY:
        return Outcome(case, 'memory', f'{peak >> 20} MiB at the peak', peak)
    verdict = 'refused' if 'refused' in seen else 'same' if seen == good else 'other'
    return Outcome(case, verdict, peak_bytes=peak)


def good_digest(kind: Kind, samples: Samples) -> str:
    """Return what the reader sees in the good file."""
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
        seen = kind.read(Path(shutil.copy(samples.folder / kind.source, folder)), samples)
    assert 'refused' not in seen, kind
    return seen


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def _peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Processes -----------------------------------------------------------------------------------------------


def _serve(pipe: Connection, samples: Samples, kinds: Mapping[str, Kind]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    good = {name: good_digest(kind, samples) for name, kind in kinds.items()}
    pipe.send('ready')
    while (case := pipe.recv()) is not None:
        pipe.send(run_case(case, kinds[case[0]], samples, good[case[0]]))


@dataclass
class _Reader:
    """A process that reads damaged files, and the case that it is at."""

    samples: Samples
    kinds: Mapping[str, Kind]
    hang_s: float
    case: Case | None = None
    since: float = 0.0
    done: int = 0
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self.samples, self.kinds), daemon=True)
        self._process.start()
        other.close()
        assert self.pipe.recv() == 'ready'
        self.done = 0

    def give(self, case: Case) -> None:
        if self.done >= CASES_OF_A_PROCESS:
            self.restart()
        self.case, self.since = case, time.monotonic()
        self.pipe.send(case)

    def take(self) -> Outcome:
        """Return the outcome that has come."""
        assert self.case is not None
        try:
            outcome: Outcome = self.pipe.recv()
            self.done += 1
        except (EOFError, ConnectionResetError):
            self._process.join()
            outcome = Outcome(self.case, 'crash', f'ended with {self._process.exitcode}')
            self._start()
        self.case = None
        return outcome

    def hangs(self) -> Outcome | None:
        """Return an outcome, and start anew, if the case takes too long."""
        if self.case is None or time.monotonic() - self.since < self.hang_s:
            return None
        outcome = Outcome(self.case, 'hang', f'more than {self.hang_s:.0f} s')
        self.restart()
        return outcome

    def restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        self.case = None
        self._process.kill()
        self._process.join()
        self.pipe.close()


def outcomes(
    samples: Samples,
    cases: Iterator[Case],
    kinds: Mapping[str, Kind],
    *,
    jobs: int = 1,
    end: float = float('inf'),
    hang_s: float = HANG_S,
) -> Iterator[Outcome]:
    """Read the files of `cases` in `jobs` processes until there are none left or the time `end` has come."""
    readers = [_Reader(samples, kinds, hang_s) for _ in range(jobs)]
    try:
        while True:
            for reader in readers:
                if reader.case is None and time.monotonic() < end and (case := next(cases, None)) is not None:
                    reader.give(case)
            busy = {reader.pipe: reader for reader in readers if reader.case is not None}
            if not busy:
                return
            for pipe in wait(list(busy), timeout=1.0):
                yield busy[pipe].take()  # type: ignore[index]
            for reader in readers:
                if (hang := reader.hangs()) is not None:
                    yield hang
    finally:
        for reader in readers:
            reader.close()


# Command -------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns 1 if a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--seconds', type=float, default=float('inf'), help='end after so long')
    parser.add_argument('--cases', type=int, default=sys.maxsize, help='end after so many')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--kind', action='append', choices=sorted(KINDS), help='only these kinds of file')
    parser.add_argument('--jobs', type=int, default=2, help='processes')
    parser.add_argument('--repeat', metavar='KIND:SEED:NUMBER', help='one case again, in this process')
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix='fuzz-samples-') as folder:
        samples = make_samples(Path(folder))
        if options.repeat:
            return _repeat(options.repeat, samples)
        kinds = {name: KINDS[name] for name in options.kind or sorted(KINDS)}
        numbered = ((kind, options.seed, number) for number in itertools.count() for kind in kinds)
        end = time.monotonic() + options.seconds
        cases = itertools.islice(numbered, options.cases)
        return _report(outcomes(samples, cases, kinds, jobs=options.jobs, end=end), list(kinds))


def _repeat(name: str, samples: Samples) -> int:
    word, seed, number = name.split(':')
    case, kind = (word, int(seed), int(number)), KINDS[word]
    kept = damaged_file(case, kind, samples, Path(tempfile.mkdtemp(prefix='fuzz-')))
    print(f'The damaged file: {kept}')
    outcome = run_case(case, kind, samples, good_digest(kind, samples))
    print(outcome.verdict, outcome.detail, sep='\n')
    return int(outcome.bad)


def _report(found: Iterator[Outcome], kinds: Sequence[str]) -> int:
    """Print each failure as it comes, and a table at the end."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    peaks = dict.fromkeys(kinds, 0)
    failures = 0
    for outcome in found:
        kind = outcome.case[0]
        counts[kind][outcome.verdict] += 1
        peaks[kind] = max(peaks[kind], outcome.peak_bytes)
        if outcome.bad:
            failures += 1
            print(
                f'--repeat {":".join(map(str, outcome.case))}: {outcome.verdict}\n{outcome.detail}',
                flush=True,
            )
    columns = ('same', 'other', 'refused', 'error', 'crash', 'hang', 'memory')
    print(f'{"":12}' + ''.join(f'{column:>9}' for column in columns) + '   peak MiB')
    for kind in kinds:
        row = ''.join(f'{counts[kind][column]:9}' for column in columns)
        print(f'{kind:12}{row}{peaks[kind] >> 20:11}')
    total = sum(sum(counter.values()) for counter in counts.values())
    print(f'{total} damaged files read, {failures} failures')
    return int(failures > 0)


if __name__ == '__main__':
    raise SystemExit(main())
