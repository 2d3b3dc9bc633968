"""How long the window's event loop stands still in a whole inference, and on what.

    python tests/benchmarks/bench_window.py [--side 100] [--size 64] [--load 8] [--page object]

Loads a scan of SIDE × SIDE patterns of SIZE × SIZE pixels in the real window (offscreen, or where
QT_QPA_PLATFORM says), clicks *Infer* with the learned prior and follows a timer of 10 ms until the result is
in the list. A gap is
the time from one tick to the next beyond those 10 ms. Beside each of the longest: the CPU time that the
window's thread itself used in it, which a busy machine hardly changes, and where it was. Before the run the
same is measured in the idle window, which shows what the machine alone does. `--load` starts as many
processes that only compute. The scan is simulated once.

With `--plain SECONDS` the run is not ours: a reconstructor in Ptychodus' own hands, which sleeps and then
gives a result of one object, as Ptychodus' reconstructors do. Its gaps are those of Ptychodus and Qt alone.
With `--stand-in SECONDS` the child does not reconstruct: it sends for so long what a child sends, an object
of the scan's size every half second, bars and log lines, and at the end a result. All else is as ever.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / 'tests' / 'conformance'))
TICK_S = 0.01
LONG_S = 0.1
STAND_IN = 'PTYCHOPINN_WINDOW_STAND_IN'
RESULT = 'sim_ptychopinn_pinn'
SETTINGS = {'PtychoPINNEngine': {'Architecture': 'prior', 'Accelerator': 'cpu'}}


class EventLoop:
    """Records the gaps between the ticks of a timer, and where the window's thread was in the long ones."""

    def __init__(self) -> None:
        from PyQt5.QtCore import Qt, QTimer

        self.gaps: list[tuple[float, float, str, str]] = []
        self.phase = ''
        self.cpu_s = 0.0
        self._main = threading.get_ident()
        self._last = time.monotonic(), time.thread_time()
        self._seen = ''
        self._timer = QTimer()
        self._timer.setTimerType(Qt.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(int(TICK_S * 1000))
        threading.Thread(target=self._watch, daemon=True).start()

    def _tick(self) -> None:
        now = time.monotonic(), time.thread_time()
        gap, cpu = now[0] - self._last[0] - TICK_S, now[1] - self._last[1]
        self.cpu_s += cpu
        self.gaps.append((gap, cpu, self.phase, self._seen if gap > LONG_S / 2 else ''))
        self._last, self._seen = now, ''

    def _watch(self) -> None:
        while True:
            time.sleep(0.02)
            if time.monotonic() - self._last[0] > LONG_S / 2:
                self._seen = where(sys._current_frames().get(self._main))

    def report(self, phase: str) -> str:
        rows = [row for row in self.gaps if row[2] == phase]
        gaps = sorted((row[0] for row in rows), reverse=True)
        if not gaps:
            return f'{phase:9}: no tick'
        long = [gap for gap in gaps if gap > LONG_S]
        own = [row[1] for row in rows]
        head = (
            f'{phase:7}: longest {gaps[0] * 1e3:5.0f} ms; over {LONG_S * 1e3:.0f} ms: {len(long)}, together '
            f'{sum(long):.1f} s; 99.9 % below {gaps[len(gaps) // 1000] * 1e3:.0f} ms; {len(gaps)} ticks; '
            f'own CPU at most {max(own) * 1e3:.0f} ms, in all {sum(own):.2f} s'
        )
        lines = [head]
        for gap, cpu, _, place in sorted(rows, reverse=True)[:6]:
            if gap > LONG_S / 2:
                lines.append(f'    {gap * 1e3:5.0f} ms, own CPU {cpu * 1e3:4.0f} ms: {place or "idle"}')
        return '\n'.join(lines)


def where(frame: FrameType | None) -> str:
    """Return the functions that a thread is in, from the outermost to the innermost."""
    names: list[str] = []
    while frame is not None:
        module = Path(frame.f_code.co_filename)
        if 'site-packages' in str(module) or ROOT in module.parents:
            names.append(f'{module.parent.name}/{module.stem}.{frame.f_code.co_name}')
        frame = frame.f_back
    return ' < '.join(names[:6])


def scan_directory(side: int, size: int) -> Path:
    """Return a directory with side × side patterns, made where it is not there yet."""
    folder = Path(tempfile.gettempdir()) / f'ptychopinn-window-{side}-{size}'
    if not (folder / 'IN' / 'product.h5').is_file():
        # By the installed release, whose modules earlier ones lack.
        from scan_maker import product_of, simulated_scan, write_scan

        from ptycho_engine.formats.product import write_product
        from ptychopinn_ptychodus.conversion import product_data

        raw = simulated_scan(size=size, grid=side, step=14.5)
        write_scan(folder / 'IN', raw, SETTINGS)
        # Ptychodus 1.7's own file does not open in earlier releases; ours does.
        write_product(folder / 'IN' / 'product.h5', product_data(product_of(raw)))
    return folder


def run_reconstruction(supervisor: Any, channel: Any) -> None:
    """Stand in for the child's work: what it sends, without what it computes."""
    import logging

    import numpy as np

    from ptychopinn_ptychodus.live import live_image
    from ptychopinn_ptychodus.worker import Outcome

    job, _ = supervisor.receive_job()
    shape = job.scan.product.grid.shape
    rng = np.random.default_rng(0)
    obj = (rng.normal(1, 0.1, shape) * np.exp(1j * rng.normal(0, 0.3, shape))).astype(np.complex64)
    seconds, start = float(os.environ[STAND_IN]), time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        channel.put(('patches', int(10_000 * now / seconds), 10_000))
        channel.put(('partial', live_image(obj)))
        logging.getLogger('ptychopinn.refine').info('%.1f s of the stand-in are over.', now)
        for _ in range(10):
            time.sleep(0.05)
            channel.put(('iteration', int(100 * now / seconds), 100, False))
    line = 'PtychoPINN cnn (stand-in): deviance 1 per pixel; odd/even FRC50 of the network 0.2/px.'
    channel.put(('result', Outcome(obj, ((1, 2.0), (2, 1.0)), line, uncertainty=np.abs(obj))))


def choose_plain(window: Any, seconds: float) -> None:
    """Choose a reconstructor that is not ours and computes nothing."""
    from dataclasses import replace

    import numpy as np
    from ptychodus.api.object import Object
    from ptychodus.api.reconstruct import Reconstructor, ReconstructOutput

    class Plain(Reconstructor):
        @property
        def name(self) -> str:
            return 'plain'

        def get_progress_goal(self) -> int:
            return 100

        def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
            time.sleep(seconds)
            old = parameters.product.object_
            new = Object(np.full_like(old.get_array(), 1 + 1j), old.get_pixel_geometry(), old.get_center())
            yield ReconstructOutput(replace(parameters.product, object_=new), progress=100)

    core = window.model.processing_core
    core.algorithm_parameter._current_reconstructor = Plain()
    core.algorithm_parameter.notify_observers()


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """Let `number` processes compute."""
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(folder: Path, load: int, page: str, idle_s: float, plain_s: float) -> None:
    from window_driver import Window

    from ptychopinn_ptychodus import inference_run

    if os.environ.get(STAND_IN):
        inference_run.WORKER = 'bench_window'
    window = Window(folder / 'IN')
    with window.model:
        window.load(folder / 'IN')
        shape = (
            window.model.product_core.product_repository[window.products().index('sim')]
            .get_product()
            .object_.get_array()
            .shape
        )
        print(f'object {shape}, page {page}, load {load}', flush=True)
        window.settings.engine.inference_batch_size.set_value(64)
        if plain_s:
            choose_plain(window, plain_s)
        window.spin(2)
        loop = EventLoop()
        exec_until(window, loop, 'quiet', lambda: False, idle_s)
        with busy(load):
            exec_until(window, loop, 'idle', lambda: False, idle_s)
            loop.phase = 'click'
            window.actions.reconstruct_button.click()
            if page == 'object':
                window.view.object_action.trigger()
                tree = window.view.object_view.tree_view
                tree.setCurrentIndex(tree.model().index(window.products().index(RESULT), 0))
            exec_until(window, loop, 'click', lambda: window.monitor.is_processing, 60)
            started = time.monotonic()
            exec_until(window, loop, 'run', lambda: not window.monitor.is_processing, 3600)
            seconds = time.monotonic() - started
            exec_until(window, loop, 'result', lambda: False, 6)
            window.view.grab().save(str(folder / f'{page}.png'))
        for phase in ('quiet', 'idle', 'click', 'run', 'result'):
            print(loop.report(phase), flush=True)
        print(f'run of {seconds:.0f} s; products {window.products()}')


def exec_until(window: object, loop: EventLoop, phase: str, done: object, timeout_s: float) -> None:
    """Run Qt's own event loop, as the program does, until a condition holds."""
    from PyQt5.QtCore import QTimer

    loop.phase = phase
    end = time.monotonic() + timeout_s
    timer = QTimer()

    def look() -> None:
        if done() or time.monotonic() > end:  # type: ignore[operator]
            window.app.quit()  # type: ignore[attr-defined]

    timer.timeout.connect(look)
    timer.start(100)
    window.app.exec_()  # type: ignore[attr-defined]
    timer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--side', type=int, default=100)
    parser.add_argument('--size', type=int, default=64, help='pixels of a pattern')
    parser.add_argument('--load', type=int, default=0)
    parser.add_argument('--page', choices=('processing', 'object'), default='processing')
    parser.add_argument('--idle', type=float, default=5.0, help='seconds of the idle window')
    parser.add_argument('--release', default='', help='another release of Ptychodus')
    parser.add_argument('--stand-in', default='', metavar='SECONDS', help='of a child that only sends')
    parser.add_argument(
        '--plain', type=float, default=0.0, metavar='SECONDS', help='of a run that is not ours'
    )
    arguments = parser.parse_args()
    os.environ[STAND_IN] = arguments.stand_in
    folder = scan_directory(arguments.side, arguments.size)
    if arguments.release:
        from releases import environment_of, unpack

        with tempfile.TemporaryDirectory() as tree:
            paths = environment_of(unpack(arguments.release, Path(tree), plugin=True), dict(os.environ))
            position = sys.argv.index('--release')
            rest = sys.argv[1:position] + sys.argv[position + 2 :]
            subprocess.run([sys.executable, __file__, *rest], env=paths, check=True)
        return
    measure(folder, arguments.load, arguments.page, arguments.idle, arguments.plain)


if __name__ == '__main__':
    multiprocessing.freeze_support()
    main()
