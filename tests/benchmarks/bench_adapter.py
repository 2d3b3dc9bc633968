"""How PtychoPINN behaves as a guest of Ptychodus: start-up, Stop, closing, orphans.

    python tests/benchmarks/bench_adapter.py [--repeats 5]

* start-up: what the plugin adds to `ptychodus` until its model stands, against PTYCHOPINN_PTYCHODUS=off
* Stop: from the request until the run's generator ends, in training (the best model is saved) and refinement
* close: from Ctrl-C to the parent of a batch run until parent and child are gone
* orphan: from SIGKILL to the parent until the child is gone
The memory that patterns cost is in bench_handover.py. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'conformance'))
from conftest import SCRIPT
from processes import LONG, children, long_run, seconds_until_gone
from scan_maker import simulated_scan, write_scan, write_settings

START = """
import time
start = time.perf_counter(), time.process_time()
import ptychodus.__main__
from ptychodus.model import ModelCore
ModelCore(None)
print('SECONDS', time.perf_counter() - start[0], time.process_time() - start[1])
"""


def start_up(environment: dict[str, str], switch: str) -> list[float]:
    """Return wall-clock and CPU seconds of one start of Ptychodus' model."""
    done = subprocess.run(
        [sys.executable, '-c', START],
        env={**environment, 'PTYCHOPINN_PTYCHODUS': switch},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('SECONDS')]
    return [float(word) for word in line.split()[1:]]


def report_start_up(environment: dict[str, str], repeats: int) -> None:
    start_up(environment, 'on')  # compiles, and fills the file cache
    runs: dict[str, list[list[float]]] = {'off': [], 'on': []}
    for _ in range(repeats):
        # In turn, so that a busy machine is busy for both.
        for switch, found in runs.items():
            found.append(start_up(environment, switch))
    # The quickest of each: all else is the rest of the machine.
    wall, cpu = (min(row[k] for row in runs['on']) - min(row[k] for row in runs['off']) for k in (0, 1))
    print(f'start-up: the plugin adds {wall:.2f} s, {cpu:.2f} s of CPU time (limit 0.2 s)')


def report_stop(action: str, scan: Path, out: Path) -> None:
    """Run in this process, as the window's worker thread does, and ask to stop."""
    from ptychodus.api.io import load_diffraction_data, load_product
    from ptychodus.api.reconstruct import prepare_reconstruct_input

    from ptychopinn_ptychodus.reconstructor import PtychoPINNReconstructor
    from ptychopinn_ptychodus.run_context import RunContext
    from ptychopinn_ptychodus.session import Session
    from ptychopinn_ptychodus.settings import ReconstructorSettings

    class Impatient(RunContext):
        """Asks to stop two seconds after the first sign of work."""

        begun: float | None = None
        asked: float | None = None

        def stop_requested(self) -> bool:
            now = time.monotonic()
            if self.asked is None and self.begun is not None and now > self.begun + 2:
                self.asked = now
            return self.asked is not None

        def show_progress(self, done: int, goal: int) -> None:
            if self.begun is None and done > 0:
                self.begun = time.monotonic()

    settings = ReconstructorSettings.with_defaults()
    settings.model.n_filters_scale.set_value(1)
    settings.training.nepochs.set_value(3000)
    settings.engine.refine_iterations.set_value(1_000_000)
    settings.engine.accelerator.set_value('cpu')
    data = prepare_reconstruct_input(
        load_diffraction_data(scan / 'diffraction.h5'), load_product(scan / 'product.h5')
    )
    reconstructor = PtychoPINNReconstructor('PINN', Session.of(settings))
    context = reconstructor.context = Impatient(data)
    if action == 'train':
        outputs = reconstructor.train(out, out)
    else:
        reconstructor.load_model_from_file(scan / 'model.zip')
        outputs = reconstructor.reconstruct(data)
    for output in outputs:
        context.show_progress(output.progress, 0)
    assert context.asked is not None
    seconds = time.monotonic() - context.asked
    left = sorted(path.name for path in out.iterdir())
    print(f'Stop, {action}: {seconds:.2f} s (limit 1 s); leaves {", ".join(left) or "nothing"}')


def report_end(action: str, scan: Path, out: Path, environment: dict[str, str], how: signal.Signals) -> None:
    write_settings(scan, LONG[action])
    with long_run(action, scan, out, environment) as process:
        (child,) = children(process.pid)
        start = time.monotonic()
        process.send_signal(how)
        code = process.wait(30)
        parent = time.monotonic() - start
        gone = seconds_until_gone(child, 30)
    total = 'NEVER' if gone is None else f'after {time.monotonic() - start:.2f} s'
    left = sorted(path.name for path in out.iterdir())
    name = {signal.SIGINT: 'close', signal.SIGKILL: 'orphan'}[how]
    print(
        f'{name}, {action}: parent gone after {parent:.2f} s (code {code}), child {total}; '
        f'leaves {", ".join(left) or "nothing"}'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=5)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    environment = {**os.environ, 'HOME': str(root), 'OMP_NUM_THREADS': '1'}
    # An installed package is compiled.
    environment.pop('PYTHONDONTWRITEBYTECODE', None)
    try:
        report_start_up(environment, options.repeats)
        scan = write_scan(root / 'IN', simulated_scan())
        command = [str(SCRIPT), '-b', 'train', '-i', str(scan), '-o', str(scan)]
        subprocess.run(command, env=environment, capture_output=True, check=True)
        for action in LONG:
            out = root / f'STOP-{action}'
            out.mkdir()
            report_stop(action, scan, out)
        for how in (signal.SIGINT, signal.SIGKILL):
            for action in LONG:
                report_end(action, scan, root / f'{how.name}-{action}', environment, how)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == '__main__':
    main()
