"""How long a run goes on after Stop is clicked in the real window, in every state of a run.

    python tests/benchmarks/bench_stop.py [--release 1.5.1] [--times 1] [--state training]

The window is offscreen, or where QT_QPA_PLATFORM says; the scan has 64 patterns of 64×64 pixels. The time is
from the click until Ptychodus says that nothing runs any more, with the load average beside it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / 'tests' / 'conformance'))
STATES = (
    'starting',
    '0.5 s after the click',
    '1.5 s after the click',
    '3 s after the click',
    'training',
    'training the prior',
    'saving',
    'inference, starting',
    'inference, network',
    'inference, refinement',
    'inference, learned prior',
    'queue of three',
)


class Stops:
    """The window, and how to bring it into each state."""

    def __init__(self, window: Any, scan: Path, work: Path) -> None:
        self._window = window
        self._work = work
        self._runs = 0
        self._mark = ''
        window.load(scan)
        window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')

    def _said(self, text: str) -> bool:
        return text in self._window.pane()[len(self._mark) :]

    def _train(self, epochs: int = 3000) -> None:
        self._runs += 1
        self._window.set_epochs(epochs)
        self._window.train(self._work / f'model-{self._runs}')

    def _infer(self) -> None:
        self._window.choose('sim')
        self._window.actions.reconstruct_button.click()

    def _reach(self, state: str) -> Callable[[], bool]:
        """Begin runs; return what is true once they are in that state."""
        window, begin = self._window, time.monotonic()
        # Far more work than anybody waits for.
        window.settings.engine.refine_iterations.set_value(5000)
        window.settings.engine.architecture.set_value('prior' if state.endswith('prior') else 'cnn')
        match state:
            case 'starting':
                self._train()
                return lambda: True
            case 'training' | 'training the prior':
                self._train()
                return lambda: self._said('Epoch 2/')
            case 'saving':
                self._train(epochs=2)
                return lambda: self._said('Epoch 2/2')
            case 'inference, starting':
                self._infer()
                return lambda: True
            case 'inference, network':
                self._infer()
                return lambda: bool(window.bar() > 0)
            case 'inference, refinement':
                self._infer()
                return lambda: bool(window.bar() > 0.31 * 64)
            case 'inference, learned prior':
                library = window.model.ptychopinn_reconstructor_library
                library.session.memory.forget()
                self._infer()
                return lambda: bool(window.bar() > 0)
            case 'queue of three':
                self._train()
                self._infer()
                self._infer()
                return lambda: self._said('Epoch 2/')
        self._train()
        seconds = float(state.split()[0])
        return lambda: time.monotonic() - begin > seconds

    def measure(self, state: str) -> str:
        """Return how long Stop takes in that state."""
        window = self._window
        self._mark, before = window.pane(), window.products()
        there = self._reach(state)
        seen = [False]

        def ready() -> bool:
            # A run that is only saving may be over between two looks.
            over = seen[0] and not window.monitor.is_processing
            seen[0] |= window.monitor.is_processing
            return over or (seen[0] and there())

        window.until(ready)
        missed = not window.monitor.is_processing
        begin = time.monotonic()
        window.status.stop_button.click()
        click = time.monotonic() - begin
        window.until(lambda: not window.monitor.is_processing)
        seconds = time.monotonic() - begin
        window.settle()
        left = [name for name in window.products() if name not in before]
        remark = ' (the run was over already)' if missed else ''
        remark += f'; leaves {", ".join(left)}' if left else ''
        return f'{seconds:5.2f} s (click {click:.2f} s), load {os.getloadavg()[0]:.1f}{remark}'


def measure(scan: Path, times: int, states: Sequence[str]) -> None:
    from window_driver import Window

    with tempfile.TemporaryDirectory() as folder:
        window = Window(scan)
        with window.model:
            stops = Stops(window, scan, Path(folder))
            for state in states:
                for _ in range(times):
                    print(f'{state:24} {stops.measure(state)}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--release', default='1.7.0', help='of Ptychodus')
    parser.add_argument('--times', type=int, default=1, help='how often in each state')
    parser.add_argument('--state', action='append', choices=STATES, help='only these')
    parser.add_argument('--scan', type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scan is not None:
        measure(arguments.scan, arguments.times, arguments.state or STATES)
        return
    from batch_table import release_scan
    from conftest import write_models
    from releases import environment_of, unpack

    with tempfile.TemporaryDirectory() as folder:
        tree = unpack(arguments.release, Path(folder) / 'tree', plugin=True)
        settings = {'PtychoPINNEngine': {'NumGroups': '32'}}
        scan = write_models(release_scan(Path(folder) / 'IN', arguments.release, settings))
        command = [sys.executable, __file__, '--scan', str(scan), '--times', str(arguments.times)]
        command += [word for state in arguments.state or () for word in ('--state', state)]
        subprocess.run(command, env=environment_of(tree, dict(os.environ)), check=True)


if __name__ == '__main__':
    multiprocessing.freeze_support()
    main()
