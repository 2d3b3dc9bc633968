"""What a diagnosis of a scan says in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .causes import PLACE, Cause
from .diagnosis import Diagnosis
from .findings import Finding, Grade

__all__ = ['agreement_findings', 'agreement_values']

TOPIC = 'agreement'
FIXED = f'ptychopinn doctor {PLACE} --fix OUT.npz writes it so'


def agreement_findings(diagnosis: Diagnosis | None, words: str = 'IN') -> Iterator[Finding]:
    """Yield whether a scan agrees with itself down to photon noise, and each cause if it does not.

    `words` are how a command line names the scan.
    """
    if diagnosis is None:
        yield Finding(
            Grade.CAUTION,
            TOPIC,
            'the patterns are too few, or too far apart, to tell whether they, probe and positions agree.',
        )
        return
    values = agreement_values(diagnosis)
    for cause in diagnosis.causes:
        grade = Grade.WRONG if cause.clear else Grade.CAUTION
        yield Finding(grade, TOPIC, _of_cause(cause, words), values)
    if diagnosis.suspected:
        yield Finding(Grade.CAUTION, TOPIC, _of_forces(diagnosis), values)
        return
    if diagnosis.causes and diagnosis.solved:
        return
    if not diagnosis.causes and diagnosis.near:
        yield Finding(
            Grade.FINE,
            TOPIC,
            'patterns, probe and positions agree: pixels that were not used are predicted near photon noise '
            f'({_ratio(diagnosis.ratio)} times its deviance).',
            values,
        )
        return
    known = 'What is left then' if diagnosis.causes else 'The scan'
    yield Finding(
        Grade.WRONG,
        TOPIC,
        f'{known} is far from photon noise ({_ratio(diagnosis.explained)} times its deviance), and nothing '
        'that was tried explains it: turned, mirrored or shifted patterns, positions in another unit, order '
        'or orientation, another probe, background, bad pixels, varying intensity.',
        values,
    )


def agreement_values(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis in values that JSON knows."""
    return {
        'times_noise': _finite(diagnosis.ratio),
        'near_noise': diagnosis.near,
        'times_noise_then': _finite(diagnosis.explained),
        'near_noise_then': diagnosis.solved,
        'suspected': list(diagnosis.suspected),
        'causes': [
            {
                'cause': cause.key,
                'sentence': cause.sentence,
                'repairable': cause.change is not None,
                'times_noise_before': _finite(cause.before),
                'times_noise_after': _finite(cause.after),
            }
            for cause in diagnosis.causes
        ],
    }


def _of_forces(diagnosis: Diagnosis) -> str:
    return (
        'pixels that were not used are predicted near photon noise, but what is left of the patterns is no '
        f'noise: it pulls at {", ".join(diagnosis.suspected)}. Something of it is not as the file says, '
        'and nothing that was tried explains it.'
    )


def _of_cause(cause: Cause, words: str) -> str:
    remedy = (cause.remedy or FIXED).replace(PLACE, words)
    return (
        f'{cause.sentence}: {remedy} (deviance {_ratio(cause.before)} times photon noise as given, '
        f'{_ratio(cause.after)} times then).'
    )


def _ratio(value: float) -> str:
    return f'{value:.3g}' if math.isfinite(value) else 'many'


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
