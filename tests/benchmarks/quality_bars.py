"""The lines of the table of ``bench_quality.py``, and which bars they meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from quality_scenes import Case

AS_GOOD = 0.002
"""Difference of two SSIMs that is no difference."""


@dataclass(frozen=True)
class Line:
    """Scores of one method on one case."""

    case: Case
    method: str
    amplitude: float
    """SSIM."""
    phase: float
    """SSIM."""
    nrmse: float
    seconds: float
    """CPU-s of one thread; of a refined network after the network's image."""
    remark: str = ''
    correlation: float | None = None
    """Of the stated uncertainty with the true error inside the scan."""
    local_correlation: float | None = None
    """The same with the error's local root mean square."""

    def with_uncertainty(self, correlation: float, local: float, seconds: float) -> Line:
        """Return the line with what is known of its uncertainty, and its seconds without finding it out."""
        return replace(self, correlation=correlation, local_correlation=local, seconds=seconds)

    @staticmethod
    def heading() -> str:
        scores = f'{"amp":>6} {"phase":>6} {"NRMSE":>7}'
        return f'{"case":16} {"method":17} {scores} {"CPU-s":>6} {"unc.":>5} {"local":>5}'

    def __str__(self) -> str:
        known = (self.correlation, self.local_correlation)
        unc, local = ('' if value is None else f'{value:.2f}' for value in known)
        return (
            f'{self.case.name:16} {self.method:17} {self.amplitude:6.3f} {self.phase:6.3f} {self.nrmse:7.4f} '
            f'{self.seconds:6.1f} {unc:>5} {local:>5}  {self.remark}'
        ).rstrip()


@dataclass(frozen=True)
class Throughput:
    """Patterns per CPU-s of one thread."""

    refine: float
    network: float
    """Its image of a whole scan, from the opened archive on."""
    judged: float
    """With the two half scans and the sweeps that tell how good the image is."""


def judge(lines: Sequence[Line], speed: Throughput) -> Iterator[str]:
    """Yield a sentence for each bar on each case that was measured."""
    for case in {line.case.name: line.case for line in lines}.values():
        found = {line.method: line for line in lines if line.case.name == case.name}
        for bar, met, text in _bars_of(case, found):
            yield f'bar {bar}  {_verdict(met)} {case.name}: {text}'
    yield f'bar 8  {_verdict(speed.refine >= 5000)} refine {speed.refine:.0f} of 5000 patterns/s per sweep'
    yield (
        f'bar 8  {_verdict(speed.network >= 250)} network {speed.network:.0f} of 250 patterns/s, '
        f'{speed.judged:.0f} with what judges its image'
    )


def _verdict(met: bool) -> str:
    return 'met   ' if met else 'MISSED'


def _bars_of(case: Case, found: Mapping[str, Line]) -> Iterator[tuple[int, bool, str]]:
    network, refined = found.get('network'), found.get('network, refined')
    flat, chi = found.get('flat, refined'), found.get('pty-chi autodiff')
    if network is None or refined is None or flat is None:
        return
    if case.every == 1 and case.photons == 1e5:
        yield 1, *_at_least(network, 0.92, 0.85)
    if case.every == 4:
        yield 2, *_at_least(network, 0.80, 0.70)
        met, text = _at_least(refined, network.amplitude - AS_GOOD, 0.80)
        yield 2, met, f'refined {text}'
    if case.every == 1:
        wanted = {1e4: (0.809, 0.899), 1e5: (0.95, 0.97), 1e6: (0.99, 0.99)}[case.photons]
        met, text = _at_least(refined, *wanted)
        if case.photons == 1e5:
            met, text = met and refined.seconds <= 3, f'{text} in {refined.seconds:.1f} of 3 CPU-s'
        yield 3, met, f'refined {text}'
        if chi is not None and case.photons == 1e4:
            met, text = _at_least(refined, chi.amplitude, chi.phase)
            yield 3, met, f'refined {text} (pty-chi autodiff here)'
    met, text = _at_least(refined, flat.amplitude - AS_GOOD, flat.phase - AS_GOOD)
    no_worse = met and refined.nrmse <= 1.01 * flat.nrmse
    yield 4, no_worse, f'refined {text}, NRMSE {refined.nrmse:.4f} of {flat.nrmse:.4f} (from flat)'
    if case.every == 0:
        yield 5, network.nrmse <= 0.12, f'network NRMSE {network.nrmse:.4f} of 0.12'
        met = refined.nrmse <= 0.016 and refined.seconds <= 2
        yield 5, met, f'refined NRMSE {refined.nrmse:.4f} of 0.016 in {refined.seconds:.1f} of 2 CPU-s'
    for line in (network, refined):
        if line.correlation is not None:
            yield 7, line.correlation >= 0.5, f'{line.method}: uncertainty {line.correlation:.2f} of 0.50'


def _at_least(line: Line, amplitude: float, phase: float) -> tuple[bool, str]:
    met = line.amplitude >= amplitude and line.phase >= phase
    return met, f'{line.amplitude:.3f}/{line.phase:.3f} of {amplitude:.3f}/{phase:.3f}'
