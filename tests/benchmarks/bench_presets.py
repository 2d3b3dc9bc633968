"""Quality and CPU time of the presets on a small simulated scan (8×8 positions, 5 px steps, 1e5 photons).

``OMP_NUM_THREADS=1 python tests/benchmarks/bench_presets.py prior fast balanced``

The first argument is the architecture.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'conformance'))

from scan_maker import simulated_scan

from ptycho_engine.formats.archive import load_archive
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score
from ptycho_engine.simulate import without_truth
from ptycho_engine.training.train import train
from ptychopinn_ptychodus.presets import apply_preset
from ptychopinn_ptychodus.settings import ReconstructorSettings


def main() -> None:
    raw = simulated_scan()
    truth = raw.objectGuess
    assert truth is not None
    scan = Scan.from_raw(without_truth(raw))
    box = scan_box(raw.xcoords, raw.ycoords, truth.shape)
    for name in sys.argv[2:]:
        settings = ReconstructorSettings.with_defaults()
        settings.engine.architecture.set_value(sys.argv[1])
        apply_preset(settings, name)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            for _ in train([scan], settings.training_config('pinn'), Path(folder)):
                pass
            trained = time.process_time() - begin
            archive = load_archive(Path(folder) / 'wts.h5.zip')
        refined = settings.inference_config(refines=settings.is_cnn)
        runs = {'network': replace(refined, refine_iterations=0)} if settings.is_cnn else {}
        for what, config in (runs | {'result': refined}).items():
            begin = time.process_time()
            for event in reconstruct(scan, archive, config):
                if isinstance(event, Reconstructed):
                    found = score(truth, event.reconstruction.object_array, box)
                    print(
                        f'{name} {what}: {time.process_time() - begin:.1f} s after {trained:.0f} s',
                        found,
                        flush=True,
                    )


if __name__ == '__main__':
    main()
