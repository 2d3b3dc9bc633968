"""Seeded faults: would the tests notice? Not run by pytest.

  python -m tests.mutants              # all of them, about a quarter of an hour on one core
  python -m tests.mutants --only 3 17  # some, by their numbers
  python -m tests.mutants --list

Each fault replaces a text of one file, in a copy of the checkout, and runs test modules that should notice. A
fault that they let pass is *alive*: a rule that no test holds. The exit code is 0 where 95 % are killed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENOUGH = 0.95
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Mutant:
    """A fault, and who should notice."""

    file: str
    """Below `ptycho_engine`."""
    old: str
    """Occurs once in the file."""
    new: str
    tests: tuple[str, ...]
    """Modules below `tests`, perhaps with a test's name."""


EARLY = 'whole_scan/test_before_convergence.py'
LOSSES = 'backends/test_losses.py'
ENDING = 'whole_scan/test_ending.py'
REFINE = 'whole_scan/test_refine.py'
STEPS = 'physics/test_calibration.py'
RECORDED = 'reconstruction/test_recorded.py'
SUBSETS = 'whole_scan/test_subsets.py'
PRIOR = 'physics/test_learned_prior.py'
IMAGES = 'training/test_physics_images.py'
SIMULATED = 'training/test_simulated.py'
FORWARD = 'physics/test_forward.py'
NUMBERS = 'test_stated_numbers.py'
GOLDEN = 'whole_scan/test_solver.py'

TORCH = 'backends/pytorch'
TENSORFLOW = 'backends/tensorflow'

MUTANTS = (
    # The forward model and the likelihood.
    Mutant('physics/forward.py', 'BACKGROUND = 0.01', 'BACKGROUND = 0.1', (EARLY, LOSSES)),
    Mutant('physics/forward.py', 'MODULUS_FLOOR = 1e-6', 'MODULUS_FLOOR = 1e-4', (FORWARD,)),
    Mutant('physics/groups.py', 'WINDOW_FLOOR = 1e-3', 'WINDOW_FLOOR = 1e-1', (RECORDED,)),
    Mutant('physics/losses.py', 'LABEL_LIGHT = 0.05', 'LABEL_LIGHT = 0.1', (LOSSES,)),
    Mutant('physics/losses.py', 'LABEL_SOFTNESS = 1e-3', 'LABEL_SOFTNESS = 3e-3', (LOSSES,)),
    Mutant('physics/geometry.py', 'np.floor(start + 0.5)', 'np.floor(start)', ('physics/test_geometry.py',)),
    Mutant('physics/probe.py', '(-2 * np.pi) * shift', '(2 * np.pi) * shift', (FORWARD,)),
    Mutant(
        'physics/noise.py', '1 + 1 / (6 * np.maximum', '1 + 1 / (3 * np.maximum', ('physics/test_noise.py',)
    ),
    Mutant('physics/scaling.py', 'MOST_COUNTS = 1e14', 'MOST_COUNTS = 1e13', (NUMBERS,)),
    Mutant('physics/scaling.py', 'mean_counts / predicted', 'mean_counts / (2 * predicted)', (FORWARD,)),
    Mutant(
        'physics/likelihood.py',
        'HELD_OUT_SETS = 8',
        'HELD_OUT_SETS = 4',
        (f'{REFINE}::test_ref_04_held_out_pixels_are_good_ones_and_carry_no_gradient',),
    ),
    Mutant('physics/likelihood_terms.py', 'ops.most(ratio, 2.0)', 'ops.most(ratio, 1.0)', (REFINE,)),
    Mutant('physics/forward.py', 'term = 2 * ops.where', 'term = ops.where', (LOSSES,)),
    Mutant('physics/forward.py', 'u > -0.5, near, apart', 'u > -0.5, near, near', (LOSSES,)),
    # Steps of the solver.
    Mutant('physics/descent.py', 'WEAKEST_STEP = 0.05', 'WEAKEST_STEP = 0.06', (EARLY,)),
    Mutant(
        'physics/descent.py',
        'RPIE_ALPHA = 0.3',
        'RPIE_ALPHA = 0.4',
        (f'{REFINE}::test_ref_14_rpie_steps_by_0_3_for_up_to_16_patterns_at_a_time',),
    ),
    Mutant('physics/descent.py', 'PROXIMAL_ROUNDS = 4', 'PROXIMAL_ROUNDS = 3', (EARLY,)),
    Mutant('physics/descent.py', 'step = curvature / 8', 'step = curvature / 4', (EARLY,)),
    Mutant('physics/descent.py', 'REFERENCED_FACTOR = 2.0', 'REFERENCED_FACTOR = 1.0', (REFINE,)),
    Mutant('physics/descent.py', 'moved) > 0:', 'moved) < 0:', (EARLY,)),
    Mutant('physics/descent.py', 'self.phase_gain * self._gain)', 'self._gain)', (EARLY,)),
    Mutant('physics/descent.py', '(self._momentum - 1) / grown', 'self._momentum / grown', (EARLY,)),
    Mutant('physics/preconditioner.py', 'LARGEST_GAIN = 15.0', 'LARGEST_GAIN = 5.0', (EARLY,)),
    Mutant('physics/preconditioner.py', '(2 * np.pi) ** 2 * squared', 'np.pi**2 * squared', (EARLY,)),
    Mutant('physics/preconditioner.py', 'return max(variance, 1.0)', 'return max(variance, 1e3)', (EARLY,)),
    Mutant(
        'physics/newton.py',
        'PHASE_GAIN = 3.0',
        'PHASE_GAIN = 0.3',
        (f'{GOLDEN}::test_solve_08_and_13_a_dense_scan_takes_steps_of_newtons_kind',),
    ),
    Mutant(
        'physics/newton.py',
        'SMOOTH_EDGE = 0.5',
        'SMOOTH_EDGE = 5.0',
        (ENDING,),
    ),
    # Probe, positions, intensities and background.
    Mutant('physics/calibration.py', 'MOMENTUM = 0.9', 'MOMENTUM = 0.5', (STEPS,)),
    Mutant('physics/calibration.py', 'POSITION_GAIN = 8.0', 'POSITION_GAIN = 4.0', (STEPS,)),
    Mutant('physics/calibration.py', 'LARGEST_MOVE = 0.1', 'LARGEST_MOVE = 0.2', (STEPS,)),
    Mutant('physics/calibration.py', 'FARTHEST_MOVE = 0.125', 'FARTHEST_MOVE = 0.25', (STEPS,)),
    Mutant('physics/calibration.py', 'LARGEST_FACTOR = 2.0', 'LARGEST_FACTOR = 4.0', (STEPS,)),
    Mutant('physics/calibration.py', 'max(before - step, 0.0)', 'before - step', (STEPS,)),
    Mutant('physics/calibration.py', 'away - away.mean(axis=0)', 'away', (STEPS,)),
    Mutant(
        'physics/detector.py',
        'MOST_BAD = 0.15',
        'MOST_BAD = 0.6',
        ('physics/test_detector.py',),
    ),
    Mutant(
        'physics/detector.py',
        'OUTLIER = 8.0',
        'OUTLIER = 80.0',
        ('physics/test_detector.py',),
    ),
    # The learned prior as a step, and as a network.
    Mutant('physics/learned_prior.py', 'VARIATION_FACTOR = 2.0', 'VARIATION_FACTOR = 1.0', (EARLY,)),
    Mutant('physics/learned_prior.py', 'DETAIL_PX = 4.0', 'DETAIL_PX = 5.0', (EARLY,)),
    Mutant('physics/learned_prior.py', 'LOW_PASS_PX = 1.5', 'LOW_PASS_PX = 2.0', (EARLY,)),
    Mutant('physics/learned_prior.py', 'DARK = 0.05', 'DARK = 0.5', (EARLY,)),
    Mutant(
        'physics/learned_prior.py',
        'LEAST_NOISE, MOST_NOISE = 0.005, 1.0',
        'LEAST_NOISE, MOST_NOISE = 0.01, 0.5',
        (PRIOR,),
    ),
    Mutant(
        'physics/learned_prior.py',
        'if self._turned else self._with_phase_of',
        'if not self._turned else self._with_phase_of',
        (EARLY,),
    ),
    Mutant(f'{TORCH}/network.py', '0.5 * deviation.log()', '5.0 * deviation.log()', (EARLY, RECORDED)),
    Mutant(f'{TORCH}/network.py', 'obj.real - 1, obj.imag', 'obj.real, obj.imag', (EARLY, RECORDED)),
    Mutant(
        f'{TENSORFLOW}/network.py',
        '0.5 * tf.math.log(deviation)',
        '5.0 * tf.math.log(deviation)',
        (EARLY, RECORDED),
    ),
    # The rules of the whole scan.
    Mutant('whole_scan/solver.py', 'PHASE_GAIN_ITERATIONS = 60', 'PHASE_GAIN_ITERATIONS = 50', (ENDING,)),
    Mutant('whole_scan/solver.py', 'MOST_ITERATIONS = 150', 'MOST_ITERATIONS = 140', (ENDING,)),
    Mutant('whole_scan/solver.py', 'STILL = 4e-4', 'STILL = 5e-4', (ENDING,)),
    Mutant('whole_scan/solver.py', 'SPARSE_PATIENCE = 3', 'SPARSE_PATIENCE = 2', (ENDING,)),
    Mutant(
        'whole_scan/solver.py',
        'NEWTON_OVERLAP, LEAST_SUBSETS = 4.0, 4',
        'NEWTON_OVERLAP, LEAST_SUBSETS = 40.0, 4',
        (ENDING,),
    ),
    Mutant('whole_scan/solver.py', 'SETTLING_ITERATIONS = 3', 'SETTLING_ITERATIONS = 1', (NUMBERS,)),
    Mutant('whole_scan/solver.py', 'self.descent.change < STILL', 'self.descent.change > STILL', (ENDING,)),
    Mutant('whole_scan/solver.py', 'PRIOR_ITERATIONS = 8', 'PRIOR_ITERATIONS = 6', (ENDING,)),
    Mutant('whole_scan/solver.py', 'STRENGTHS = 0.25, 0.4', 'STRENGTHS = 0.25, 0.8', (ENDING, RECORDED)),
    Mutant('whole_scan/solver.py', 'WEAKEST = 0.15', 'WEAKEST = 0.3', (ENDING,)),
    Mutant('whole_scan/solver.py', 'UNDECIDED = 1.0', 'UNDECIDED = 100.0', (ENDING, RECORDED)),
    Mutant('whole_scan/subsets.py', 'SPARSE_OVERLAP = 1.2', 'SPARSE_OVERLAP = 3.0', (ENDING,)),
    Mutant('whole_scan/subsets.py', 'DENSEST = 0.25', 'DENSEST = 0.5', (SUBSETS, NUMBERS)),
    Mutant('whole_scan/subsets.py', 'DENSE_OVERLAP = 8.0', 'DENSE_OVERLAP = 12.0', (SUBSETS,)),
    Mutant('whole_scan/subsets.py', 'MOST_SUBSETS = 32', 'MOST_SUBSETS = 16', (SUBSETS,)),
    Mutant('whole_scan/subsets.py', 'NEAR_DIVISOR = 4', 'NEAR_DIVISOR = 2', (SUBSETS,)),
    Mutant('whole_scan/held_out.py', 'HELD_OUT_FRACTION = 0.02', 'HELD_OUT_FRACTION = 0.2', (RECORDED,)),
    Mutant('whole_scan/held_out.py', 'LEAST_NOISE * fit.noise <', '0 * fit.noise <', (REFINE,)),
    Mutant('whole_scan/refine.py', 'GENTLE = 0.1', 'GENTLE = 1.0', (RECORDED, REFINE)),
    Mutant(
        'whole_scan/refine.py',
        'RPIE_PATTERNS = 16',
        'RPIE_PATTERNS = 15',
        (f'{REFINE}::test_ref_14_rpie_steps_by_0_3_for_up_to_16_patterns_at_a_time',),
    ),
    Mutant('whole_scan/uncertainty.py', 'MEAN_CURVATURE = 0.5', 'MEAN_CURVATURE = 1.0', (REFINE,)),
    Mutant(
        'whole_scan/stitch.py',
        'RELATIVE_FLOOR = 1e-3',
        'RELATIVE_FLOOR = 2e-3',
        ('whole_scan/test_stitch.py',),
    ),
    Mutant(
        'whole_scan/uncertainty.py',
        'LEAST_OVERLAP = 0.5',
        'LEAST_OVERLAP = 0.8',
        ('whole_scan/test_uncertainty.py',),
    ),
    Mutant('whole_scan/uncertainty.py', 'phase=0.00756', 'phase=0.03', ('whole_scan/test_uncertainty.py',)),
    Mutant(
        'whole_scan/uncertainty.py',
        'AVERAGED_PX = 4.0',
        'AVERAGED_PX = 8.0',
        ('whole_scan/test_uncertainty.py',),
    ),
    Mutant('whole_scan/refine.py', 'PATIENCE = 20', 'PATIENCE = 5', (REFINE,)),
    Mutant('whole_scan/refine.py', 'FEW_COUNTS = 600.0', 'FEW_COUNTS = 60000.0', (REFINE, RECORDED)),
    Mutant('whole_scan/refine.py', '(0.1, 0.4, 0.7, 1.0)', '(1.0,)', (REFINE,)),
    Mutant(
        'whole_scan/refine.py', 'value * (1 + CLEARLY) if', 'value * (1 - CLEARLY) if', (REFINE, RECORDED)
    ),
    Mutant('whole_scan/held_out.py', 'fit.noise + EXPLAINED**2 * fit.counts', '0.0', (REFINE,)),
    Mutant('whole_scan/held_out.py', 'max(MOST_NOISE * fit.noise', 'max(10 * fit.noise', (REFINE,)),
    Mutant('whole_scan/solver.py', 'self._best() or STRENGTHS[0]', 'STRENGTHS[0]', (ENDING,)),
    # Training.
    Mutant('backends/losses.py', 'fit / (1 + per_pixel)', 'fit / (2 + per_pixel)', (LOSSES,)),
    Mutant('physics/losses.py', 'LABEL_SOFTNESS**2', 'LABEL_SOFTNESS', (LOSSES,)),
    Mutant('training/physics_images.py', 'HELD_OUT_FRACTION = 0.05', 'HELD_OUT_FRACTION = 0.1', (NUMBERS,)),
    Mutant('training/physics_images.py', '1 + (epoch - 1) % LOOKS', '1', (IMAGES,)),
    Mutant('training/subscan.py', 'WIDTH = 2.5', 'WIDTH = 4.0', (IMAGES,)),
    Mutant(
        'training/epoch.py', '[config.seed, 1, epoch]', '[config.seed, 1, 0]', ('training/test_epoch.py',)
    ),
    Mutant('training/epoch.py', 'SCANS_AT_ONCE = 8', 'SCANS_AT_ONCE = 16', ('training/test_epoch.py',)),
    Mutant(
        'training/train.py',
        'held_out.loss if held_out else training.loss\n    if',
        'training.loss\n    if',
        ('training/test_epoch.py',),
    ),
    Mutant('training/state.py', 'PRIOR_RATE = 0.1', 'PRIOR_RATE = 1.0', (NUMBERS,)),
    Mutant(
        'training/state.py',
        'better = loss < self.best_loss',
        'better = loss <= 1.1 * self.best_loss',
        ('training/test_epoch.py',),
    ),
    Mutant(
        'training/schedule.py',
        'WARMUP_FRACTION = 0.05',
        'WARMUP_FRACTION = 0.2',
        ('training/test_schedule.py',),
    ),
    Mutant(
        'training/simulated.py',
        'VALIDATING_GROUPS, VALIDATING_DIVISOR = 96, 6',
        'VALIDATING_GROUPS, VALIDATING_DIVISOR = 48, 6',
        (SIMULATED,),
    ),
    Mutant('training/simulated.py', 'weakest: float = 1 / 3', 'weakest: float = 2 / 3', (SIMULATED,)),
    Mutant('training/simulated.py', 'photon_factor: float = 3.0', 'photon_factor: float = 1.3', (SIMULATED,)),
    Mutant('training/simulated.py', 'BEYOND = 2.0', 'BEYOND = 1.0', ('training/test_contrast.py',)),
    Mutant('simulate/probes.py', '(1.0, 0.5, 0.5)', '(1.0, 0.5, 1.0)', (SIMULATED,)),
    Mutant('simulate/probes.py', '0.1 * strength', '0.2 * strength', (SIMULATED,)),
    Mutant('simulate/template.py', 'STEP_OF_WIDTH = 0.25', 'STEP_OF_WIDTH = 0.5', (SIMULATED,)),
    # From patches to a result.
    Mutant('formats/product_extras.py', 'budget -= size', 'budget -= 0', ('formats/test_product.py',)),
    Mutant('formats/product_extras.py', 'if size <= budget', 'if size < 4096', ('formats/test_product.py',)),
    Mutant(
        'reconstruction/report.py',
        'FAR_ALONE = 1.5, 2.0, 3.0',
        'FAR_ALONE = 1.5, 2.0, 30.0',
        ('reconstruction/test_far_from_noise.py', NUMBERS),
    ),
    Mutant(
        'reconstruction/report.py',
        'UNEXPLAINED**2 * counts',
        'UNEXPLAINED * counts',
        ('reconstruction/test_far_from_noise.py',),
    ),
    Mutant('reconstruction/synchronise.py', 'np.vdot(a, b)', 'np.vdot(b, a)', ('whole_scan/test_stitch.py',)),
)


def copied(place: Path) -> Path:
    """Copy what git knows of the checkout, and what it does not ignore."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split('\0')):
        source, target = ROOT / name, place / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return place


def passes(place: Path, tests: Sequence[str]) -> bool:
    """Return whether the tests pass in a checkout; what hangs has noticed."""
    command = [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:randomly']
    environment = {**os.environ, 'PYTHONPATH': str(place), 'PYTHONDONTWRITEBYTECODE': '1'}
    try:
        done = subprocess.run(
            [*command, *(f'tests/{name}' for name in tests)],
            cwd=place,
            env=environment,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1, 2):
        raise SystemExit(f'pytest ended with {done.returncode}:\n{done.stdout.decode()[-2000:]}')
    return done.returncode == 0


def killed(place: Path, mutant: Mutant) -> bool:
    """Return whether a fault in a checkout is noticed; the file is as it was afterwards."""
    path = place / 'ptycho_engine' / mutant.file
    text = path.read_text(encoding='utf-8')
    try:
        path.write_text(text.replace(mutant.old, mutant.new), encoding='utf-8')
        return not passes(place, mutant.tests)
    finally:
        path.write_text(text, encoding='utf-8')


def stale() -> list[str]:
    """Return what is wrong with the table: a text that does not occur once, a module that is not there."""
    wrong = []
    for number, mutant in enumerate(MUTANTS, 1):
        times = (ROOT / 'ptycho_engine' / mutant.file).read_text(encoding='utf-8').count(mutant.old)
        if times != 1:
            wrong.append(f'{number}: {mutant.old!r} occurs {times} times in {mutant.file}')
        wrong += [
            f'{number}: there is no tests/{name}'
            for name in mutant.tests
            if not (ROOT / 'tests' / name.split('::')[0]).is_file()
        ]
    return wrong


def main() -> int:
    """Run the faults that are asked for and tell which are alive."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', type=int, nargs='+', metavar='N', help='numbers of faults; all by default')
    parser.add_argument('--list', action='store_true', help='name all faults and end')
    options = parser.parse_args()
    if options.list:
        for number, mutant in enumerate(MUTANTS, 1):
            print(f'{number:3} {mutant.file}: {mutant.old!r} -> {mutant.new!r}')
        return 0
    if wrong := stale():
        print('\n'.join(wrong))
        return 2
    chosen = {number: MUTANTS[number - 1] for number in options.only or range(1, len(MUTANTS) + 1)}
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        place = copied(Path(folder))
        tests = sorted({name for mutant in chosen.values() for name in mutant.tests})
        if not passes(place, tests):
            print('The tests fail without any fault; correct them first.')
            return 2
        for number, mutant in chosen.items():
            tic = time.perf_counter()
            noticed = killed(place, mutant)
            alive += [] if noticed else [number]
            verdict = 'killed' if noticed else 'ALIVE '
            seconds = time.perf_counter() - tic
            print(
                f'{number:3} {verdict} {mutant.file}: {mutant.old!r} -> {mutant.new!r} ({seconds:.0f} s)',
                flush=True,
            )
    print(f'{len(chosen) - len(alive)} of {len(chosen)} killed; alive: {alive or "none"}')
    return 0 if len(alive) <= (1 - ENOUGH) * len(chosen) else 1


if __name__ == '__main__':
    raise SystemExit(main())
