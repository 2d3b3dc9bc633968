"""What the comments of a product say of its quality, in words for whoever looks at the image."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = ['Figures', 'figures_of', 'remark_on_simulated', 'simulated_epochs']

NUMBER = r'([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)'
ACCOUNT = 'PtychoPINN '
"""How the line begins that a reconstruction adds to the comments."""
_DEVIANCE = re.compile(rf'\bdeviance {NUMBER} per pixel')
_HELD_OUT = re.compile(rf'held-out deviance {NUMBER} → {NUMBER}')
_HELD_OUT_OF_SOLUTION = re.compile(rf'held-out deviance {NUMBER}\)')
_DROPPED = 'was dropped'
_COVERAGE = re.compile(rf'coverage {NUMBER}%')
_RESOLUTION = re.compile(rf'FRC50[^;/]* {NUMBER}/px')
_UNCERTAINTY = re.compile(rf'median uncertainty {NUMBER}')
_SIMULATED = re.compile(r'^Losses of epochs 1 to (\d+): on simulated objects\.$', re.MULTILINE)


@dataclass(frozen=True)
class Figures:
    """Figures of a result; None where they are not known."""

    deviance: float | None
    """Per pixel: of held-out pixels, or where none were held out of all."""
    held_out: bool
    """Whether the deviance is that of held-out pixels."""
    frc50: float | None
    """Cycles per pixel up to which two halves of the scan agree."""
    uncertainty: float | None
    """Median, in units of the object's amplitude."""
    coverage: float | None
    """Part of the scanned area that received light."""

    def lines(self, pixel_m: float | None) -> list[str]:
        """Return a sentence for each figure; with the pixel size, details have a size in metres."""
        lines = []
        if self.deviance is not None:
            what = 'pixels that were held out' if self.held_out else 'the measured pixels'
            lines.append(
                f'Fit: deviance {self.deviance:.3g} per pixel on {what}; about 1 is as good as the photon '
                'noise allows, less where most pixels are dark.'
            )
        if self.frc50:
            size = f'{0.5 / self.frc50:.2g} pixels'
            if pixel_m is not None and math.isfinite(pixel_m) and pixel_m > 0:
                size = f'{_length(0.5 * pixel_m / self.frc50)} ({size})'
            lines.append(
                f"Resolution: details of {size} and larger agree between the network's images of two halves "
                'of the scan (FRC 0.5).'
            )
        if self.uncertainty is not None:
            lines.append(
                f'Uncertainty: {self.uncertainty:.2g} of the amplitude, median over the scanned area.'
            )
        if self.coverage is not None and self.coverage < 0.995:
            lines.append(f'Coverage: only {self.coverage:.0%} of the scanned area received light.')
        return lines


def figures_of(comments: str) -> Figures | None:
    """Return the figures of the last reconstruction that the comments of a product tell of, or None."""
    accounts = [line for line in comments.splitlines() if line.startswith(ACCOUNT) and 'deviance' in line]
    if not accounts:
        return None
    line = accounts[-1]
    held_out, solution = _HELD_OUT.search(line), _first(_HELD_OUT_OF_SOLUTION, line)
    if held_out is not None:
        # A refinement that was dropped has left the network's image.
        deviance = _number(held_out.group(1 if _DROPPED in line else 2))
    else:
        deviance = _first(_DEVIANCE, line) if solution is None else solution
    coverage = _first(_COVERAGE, line)
    return Figures(
        deviance=deviance,
        held_out=held_out is not None or solution is not None,
        frc50=_first(_RESOLUTION, line),
        uncertainty=_first(_UNCERTAINTY, line),
        coverage=None if coverage is None else coverage / 100,
    )


def remark_on_simulated(epochs: int) -> str:
    """Return the comment that says so of the first epochs of a product's losses."""
    return f'Losses of epochs 1 to {epochs}: on simulated objects.'


def simulated_epochs(comments: str) -> int:
    """Return how many of the first epochs of a product's losses its comments call simulated."""
    found = _SIMULATED.findall(comments)
    # No more digits than an epoch can have.
    return int(found[-1][:9]) if found else 0


def _first(pattern: re.Pattern[str], line: str) -> float | None:
    found = pattern.search(line)
    return None if found is None else _number(found.group(1))


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _length(metres: float) -> str:
    for unit, name in ((1e-3, 'mm'), (1e-6, 'µm'), (1e-9, 'nm')):
        if metres >= unit:
            return f'{metres / unit:.3g} {name}'
    return f'{metres / 1e-12:.3g} pm'
