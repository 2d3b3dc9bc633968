"""Numbers that clauses of specs/ state are those of the code, each beside the words that state it.

What the numbers do is looked at by the tests that name the clauses; this keeps text and code together.
"""

from __future__ import annotations

import importlib
import re

import pytest

from tests.test_named_clauses import clauses

STATED = [
    # clause, words of the clause, module, name, value
    ('FWD-02', '0.01 counts per pixel', 'physics.forward', 'BACKGROUND', 0.01),
    ('FWD-02', "1e-6 of the probe's mean intensity", 'physics.forward', 'MODULUS_FLOOR', 1e-6),
    ('FWD-03', '`illumination / brightest + 0.001`', 'physics.groups', 'WINDOW_FLOOR', 1e-3),
    ('GAU-05', 'more than 1e14 in a pattern', 'physics.scaling', 'MOST_COUNTS', 1e14),
    ('GAU-05', 'no pixel holds half a count', 'physics.scaling', 'FAINTEST_PIXEL', 0.5),
    ('GAU-05', 'the mean is taken for 1e6', 'physics.scaling', 'PRESUMED_COUNTS', 1e6),
    ('GAU-05', 'between 1e-35 and 1e35', 'physics.scaling', 'LARGEST_FACTOR', 1e35),
    ('LOSS-04', 'rounded off below 0.001', 'physics.losses', 'LABEL_SOFTNESS', 1e-3),
    ('LOSS-07', '`w = I / (I + 0.05 m)`', 'physics.losses', 'LABEL_LIGHT', 0.05),
    ('NET-06', '128 filters at its end', 'network.cnn', 'DEEPEST_FILTERS', 128),
    ('NET-06', '32 filters at their end', 'network.cnn', 'DECODER_LAST_FILTERS', 32),
    ('NET-06', "4 of the decoder's channels", 'network.cnn', 'OUTER_CHANNELS', 4),
    ('NET-11', 'without 5 % of the valid pixels', 'training.physics_images', 'HELD_OUT_FRACTION', 0.05),
    ('NET-12', 'four choices of these pixels', 'training.physics_images', 'LOOKS', 4),
    ('NET-12', 'at most 128 groups', 'training.sources', 'JUDGING_GROUPS', 128),
    ('NET-13', 'more than 2²⁴ pixels', 'training.subscan', 'WHOLE_PIXELS', 2**24),
    ('NET-13', 'one for about 64 groups', 'training.subscan', 'GROUPS_OF_PART', 64),
    ('STI-01', 'less than 0.001 of the full illumination', 'whole_scan.stitch', 'RELATIVE_FLOOR', 1e-3),
    ('REF-02', '4 rounds of projected dual ascent', 'physics.descent', 'PROXIMAL_ROUNDS', 4),
    ('REF-03', '`1 / (0.95 W + 0.05 max W)`', 'physics.descent', 'WEAKEST_STEP', 0.05),
    ('REF-03', 'between 0 and 15', 'physics.preconditioner', 'LARGEST_GAIN', 15),
    ('REF-04', '2 % of the valid pixels', 'whole_scan.held_out', 'HELD_OUT_FRACTION', 0.02),
    ('REF-04', 'eight random sets', 'physics.likelihood', 'HELD_OUT_SETS', 8),
    ('REF-04', 'after 20 iterations', 'whole_scan.refine', 'PATIENCE', 20),
    ('REF-04', 'a relative fall of 1e-4', 'whole_scan.refine', 'BETTER', 1e-4),
    ('REF-05', 'is lower by 0.1 %', 'whole_scan.refine', 'CLEARLY', 1e-3),
    ('REF-06', 'W/2 is the curvature', 'whole_scan.uncertainty', 'MEAN_CURVATURE', 0.5),
    ('REF-07', 'with momentum 0.9', 'physics.calibration', 'MOMENTUM', 0.9),
    ('REF-08', '`−8 (Re', 'physics.calibration', 'POSITION_GAIN', 8),
    ('REF-08', 'farther than an eighth of a pattern', 'physics.calibration', 'FARTHEST_MOVE', 0.125),
    ('REF-10', 'fewer than 600 counts', 'whole_scan.refine', 'FEW_COUNTS', 600),
    ('REF-12', 'Where 8 or more patterns', 'whole_scan.subsets', 'DENSE_OVERLAP', 8),
    ('REF-12', 'a quarter of the light falls where more do', 'whole_scan.subsets', 'DENSEST', 0.25),
    ('REF-12', 'up to 32 subsets', 'whole_scan.subsets', 'MOST_SUBSETS', 32),
    ('REF-12', 'a quarter as many', 'whole_scan.subsets', 'NEAR_DIVISOR', 4),
    ('REF-13', 'or twice as strong', 'physics.descent', 'REFERENCED_FACTOR', 2),
    ('REF-13', 'a tenth of the gain', 'whole_scan.refine', 'GENTLE', 0.1),
    ('REF-13', 'at least 1.2 patterns', 'whole_scan.subsets', 'SPARSE_OVERLAP', 1.2),
    ('REF-14', 'α = 0.3', 'physics.descent', 'RPIE_ALPHA', 0.3),
    ('REF-14', 'up to 16 patterns', 'whole_scan.refine', 'RPIE_PATTERNS', 16),
    ('REF-15', 'less than 1.05 times', 'whole_scan.held_out', 'MOST_NOISE', 1.05),
    ('REF-15', 'predicted to 1 %', 'whole_scan.held_out', 'EXPLAINED', 0.01),
    ('REF-15', 'Below 0.8 of it', 'whole_scan.held_out', 'LEAST_NOISE', 0.8),
    ('REF-16', 'phase has 0.1, 0.4, 0.7 or all', 'whole_scan.refine', 'PHASE_SHARES', (0.1, 0.4, 0.7, 1.0)),
    ('REF-16', 'modulus 0.2, 0.5, 0.8 or all', 'whole_scan.refine', 'AMPLITUDE_SHARES', (0.2, 0.5, 0.8, 1.0)),
    ('SOLVE-01', 'to nothing over 60 iterations', 'whole_scan.object_solver', 'PHASE_GAIN_ITERATIONS', 60),
    ('SOLVE-02', 'less than 4e-4', 'whole_scan.object_solver', 'STILL', 4e-4),
    ('SOLVE-02', '150 at the latest', 'whole_scan.object_solver', 'MOST_ITERATIONS', 150),
    ('SOLVE-02', 'three times as large', 'whole_scan.object_solver', 'SPARSE_PATIENCE', 3),
    ('SOLVE-03', '8 more iterations', 'whole_scan.solver', 'PRIOR_ITERATIONS', 8),
    ('SOLVE-03', 'twice the strength', 'physics.learned_prior', 'VARIATION_FACTOR', 2),
    ('SOLVE-03', 'between 0.005 and 1', 'physics.learned_prior', 'LEAST_NOISE', 0.005),
    ('SOLVE-04', 'less than its standard error', 'whole_scan.solver', 'UNDECIDED', 1),
    ('SOLVE-08', 'at least 4 patterns', 'whole_scan.object_solver', 'NEWTON_OVERLAP', 4),
    ('SOLVE-08', '5 steps of Gauss and Newton', 'whole_scan.object_solver', 'NEWTON_STEPS', 5),
    ('SOLVE-08', 'up to 12', 'whole_scan.object_solver', 'MOST_STEPS', 12),
    ('SOLVE-08', 'deviance by 0.2 %', 'whole_scan.object_solver', 'NEWTON_GAINS', 2e-3),
    ('SOLVE-08', 'Three iterations of SOLVE-01', 'whole_scan.object_solver', 'SETTLING_ITERATIONS', 3),
    ('SOLVE-08', 'held-out deviance double', 'whole_scan.object_solver', 'RUNAWAY', 2),
    ('SOLVE-09', 'a Gaussian of 4 px', 'physics.learned_prior', 'DETAIL_PX', 4),
    ('SOLVE-09', 'a Gaussian of 1.5 px', 'physics.learned_prior', 'LOW_PASS_PX', 1.5),
    ('SOLVE-10', 's is 0.25 and 0.4', 'whole_scan.solver', 'STRENGTHS', (0.25, 0.4)),
    ('SOLVE-10', '0.15 like it', 'whole_scan.solver', 'WEAKEST', 0.15),
    ('SOLVE-11', 'at least 0.5', 'whole_scan.uncertainty', 'LEAST_OVERLAP', 0.5),
    ('SOLVE-13', 'below half the photon noise', 'physics.newton', 'SMOOTH_EDGE', 0.5),
    ('SOLVE-13', '4 iterations of conjugate gradients', 'whole_scan.object_solver', 'NEWTON_ITERATIONS', 4),
    ('SOLVE-13', 'three times the gain', 'physics.newton', 'PHASE_GAIN', 3),
    ('SIM-10', 'a raster of 16×16', 'simulate.template', 'RASTER_POINTS', 16),
    ('SIM-10', "a quarter of the probe's equivalent width", 'simulate.template', 'STEP_OF_WIDTH', 0.25),
    ('SIM-14', '10 or more', 'simulate.template', 'FEWEST_PHOTONS', 10),
    ('SIM-15', 'a square of 2.5 patterns', 'training.subscan', 'WIDTH', 2.5),
    ('SIM-15', 'at most 196', 'training.subscan', 'MOST_PATTERNS', 196),
    ('SIM-17', 'at least 96', 'training.simulated', 'VALIDATING_GROUPS', 96),
    ('SIM-17', 'a sixth of those', 'training.simulated', 'VALIDATING_DIVISOR', 6),
    ('RUN-01', 'eight at a time', 'training.epoch', 'SCANS_AT_ONCE', 8),
    ('STAGE-01', 'at a tenth of the learning rates', 'training.state', 'PRIOR_RATE', 0.1),
    ('RATE-03', 'E/20 where that is 0', 'training.schedule', 'WARMUP_FRACTION', 0.05),
    ('CAL-02', 'is more than 1.3 times', 'whole_scan.calibrate', 'FAR', 1.3),
    ('CAL-02', 'more than 4 times', 'whole_scan.calibrate', 'PLAINLY', 4),
    ('CAL-02', 'after 8 subsets and more', 'whole_scan.calibrate', 'MANY_SUBSETS', 8),
    ('CAL-04', 'the 64 patterns nearest', 'whole_scan.coarse_search', 'SAMPLE', 64),
    ('CAL-04', '0.8 of before', 'whole_scan.coarse_search', 'OF_THE_SCAN', 0.8),
    ('CAL-14', 'takes away 30 %', 'whole_scan.calibrate', 'LARGELY', 0.3),
    ('CAL-13', 'more than 3 times', 'whole_scan.coarse_search', 'STILL_FAR', 3),
    ('CAL-13', '8 % more', 'whole_scan.coarse_search', 'FINER', (1.08, 1 / 1.08)),
    ('CAL-14', 'fewer than 12 counts', 'whole_scan.calibrate', 'FEW_COUNTS', 12),
    ('CAL-07', 'more than a standard error', 'whole_scan.calibrate', 'LIKELY', 1),
    ('CAL-07', '2 % of what is beyond noise', 'whole_scan.calibrate', 'LEAST_GAIN', 0.02),
    ('CAL-07', 'takes away 70 %', 'whole_scan.calibrate', 'MOSTLY', 0.7),
    ('CAL-08', 'three such steps', 'whole_scan.object_solver', 'LAST_STEPS', 3),
    ('CAL-08', 'by 2 standard errors', 'whole_scan.calibrate', 'SURE', 2),
    ('CAL-08', 'below 0.03 counts', 'whole_scan.remaining', 'BACKGROUND_COUNTS', 0.03),
    ('CAL-09', 'iterations of 4, 4, 4, 2 and 1 subsets', 'whole_scan.calibrate', 'TRIAL', (4, 4, 4, 2, 1)),
    ('CAL-09', 'up to eight rounds', 'whole_scan.calibrate', 'MOST_ROUNDS', 8),
    ('CAL-09', 'takes away 0.5 % of noise', 'whole_scan.calibrate', 'LEAST_GONE', 0.005),
    ('CAL-09', 'takes away 30 %', 'whole_scan.calibrate', 'LARGELY', 0.3),
    ('CAL-09', 'momentum 0.85', 'whole_scan.calibrate', 'MOMENTUM', 0.85),
    ('CAL-10', 'above 0.03 counts', 'whole_scan.remaining', 'BACKGROUND_COUNTS', 0.03),
    ('CAL-10', 'by 1.2 times photon noise', 'whole_scan.remaining', 'UNEVEN', 1.2),
    ('CAL-10', 'a chance below 1e-4', 'whole_scan.remaining', 'CHANCE', 1e-4),
    ('CAL-10', 'has 1.5 times the power', 'whole_scan.remaining', 'PULLED_BY_FAR', 1.5),
    ('CAL-10', 'over 13 sets of patterns', 'whole_scan.remaining', 'SETS', 13),
    ('CAL-10', '(1.1 where the image is far', 'whole_scan.remaining', 'PULLED', 1.1),
    ('CAL-10', 'has twice the power', 'whole_scan.remaining', 'MOVED', 2),
    ('DOUBT-03', 'above 1.5 times', 'reconstruction.report', 'FAR_FITTED', 1.5),
    ('DOUBT-03', 'held-out ones above 2', 'reconstruction.report', 'FAR_HELD_OUT', 2),
    ('DOUBT-03', 'the former above 3 alone', 'reconstruction.report', 'FAR_ALONE', 3),
    ('DOUBT-03', '2 % of the counts', 'reconstruction.report', 'UNEXPLAINED', 0.02),
    ('DOUBT-05', 'more than half a step', 'reconstruction.reconstruct', 'PART_OF_STEP', 0.5),
    ('DOUBT-05', 'by 14 iterations', 'diagnostics.trials', 'GLANCE', 14),
    ('DOUBT-05', 'the middle 128×128', 'diagnostics.trials', 'GLANCED_SIZE', 128),
    ('DOUBT-05', 'less than 0.8', 'diagnostics.trials', 'PLAINLY', 0.8),
    ('DOUBT-05', 'less than twice', 'diagnostics.trials', 'SLOW', 2),
    ('DOUBT-04', 'above 2e-4 of the mean', 'whole_scan.remaining', 'OF_THE_COUNTS', 2e-4),
    ('DOUBT-04', 'has twice the power', 'whole_scan.remaining', 'PULLED_FOR_SURE', 2),
    ('DOCTOR-06', 'up to 169 patterns', 'diagnostics.trials', 'PULLING_PATTERNS', 169),
    ('DOCTOR-06', '36 at least', 'diagnostics.trials', 'LEAST_PULLING', 36),
    ('OPT-02', 'max(‖w‖, 1e-3)', 'backends.base', 'AGC_SMALLEST_NORM', 1e-3),
]

TEXT = {clause: re.sub(r'\s+', ' ', ' '.join(lines)) for _, clause, lines in clauses()}


@pytest.mark.parametrize(
    ('clause', 'words', 'module', 'name', 'value'), STATED, ids=[f'{row[0]}-{row[3]}' for row in STATED]
)
def test_a_stated_number_is_that_of_the_code(
    clause: str, words: str, module: str, name: str, value: object
) -> None:
    assert words in TEXT[clause]
    assert getattr(importlib.import_module(f'ptycho_engine.{module}'), name) == value
