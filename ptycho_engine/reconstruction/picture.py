"""Pictures of a result: truth beside reconstruction, losses or error, Fourier ring correlation."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..io.atomic import atomic_path
from ..scoring.scores import align, fourier_ring_correlation

if TYPE_CHECKING:
    # Matplotlib is imported where something is drawn: it takes most of the time in which a command starts.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['comparison_figure', 'illuminated_box', 'object_figure', 'png_of', 'save_figure']

ComplexImage = npt.NDArray[np.complexfloating[Any, Any]]

Image = npt.NDArray[np.floating[Any]]

DARK = 0.1
"""Part of the largest illumination below which the edge of an object is left out of its picture."""

LOG_FROM = 10.0
"""Losses that fall by more are drawn on a logarithmic axis, which has no readable ticks over less."""


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(Path(path)) as temporary:
        FigureCanvasAgg(figure)
        figure.savefig(temporary, format='png', dpi=100)


def png_of(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    written = io.BytesIO()
    figure.savefig(written, format='png', dpi=80)
    return written.getvalue()


def illuminated_box(weight: Image) -> tuple[slice, slice]:
    """Return the smallest (rows, columns) outside which no pixel of an illumination (H, W) is bright."""
    bright = weight > DARK * weight.max(initial=0)
    if not bright.any():
        return slice(None), slice(None)
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def comparison_figure(
    truth: ComplexImage,
    result: ComplexImage,
    box: tuple[slice, slice],
    history: Sequence[dict[str, float]],
    title: str,
    names: tuple[str, str] = ('truth', 'reconstruction'),
    line: npt.NDArray[np.float64] | None = None,
) -> Figure:
    """Show truth and aligned result inside the scanned box, their ring correlation, and losses or error.

    Parameters
    ----------
    truth, result : (H, W) complex
    box : (rows, columns)
        The scanned region.
    history : sequence of dict
        Records of a training; empty where there was none.
    title : str
    """
    from matplotlib.figure import Figure

    aligned = align(truth, result, box)
    t, r = aligned.truth, aligned.result
    reference = t.mean() or 1
    true_phase = np.angle(t * np.conj(reference))
    phase = true_phase + np.angle(r * np.conj(t))
    figure = Figure(figsize=(12, 7.4), layout='constrained')
    axes = figure.subplots(2, 3)
    # A name may hold dollar signs.
    figure.suptitle(title, parse_math=False)
    for row, (name, a, b, unit) in enumerate(
        [('amplitude', np.abs(t), np.abs(r), ''), ('phase', true_phase, phase, ' (rad)')]
    ):
        low, high = float(a.min()), float(a.max())
        for axis, image, kind in ((axes[row, 0], a, names[0]), (axes[row, 1], b, names[1])):
            shown = axis.imshow(image, cmap='gray' if row == 0 else 'viridis', vmin=low, vmax=high)
            axis.set_title(f'{name}, {kind}', parse_math=False)
            axis.set_xlabel('x (px)')
            axis.set_ylabel('y (px)')
        figure.colorbar(shown, ax=[axes[row, 0], axes[row, 1]], label=f'{name}{unit}', shrink=0.9)
    if not _plot_history(axes[0, 2], history):
        shown = axes[0, 2].imshow(np.abs(r - t), cmap='magma')
        axes[0, 2].set_title('error' if line is None else 'difference')
        axes[0, 2].set_xlabel('x (px)')
        figure.colorbar(shown, ax=axes[0, 2], label='modulus, units of amplitude', shrink=0.9)
    _plot_frc(axes[1, 2], t, r, line)
    return figure


def object_figure(
    obj: ComplexImage, weight: Image, uncertainty: Image, title: str, box: tuple[slice, slice]
) -> Figure:
    """Show amplitude, phase and uncertainty of an object inside a box, and the illumination.

    Parameters
    ----------
    obj : (H, W) complex
    weight : (H, W) float
        Illumination, in counts.
    uncertainty : (H, W) float
        Standard deviation in units of the amplitude.
    title : str
    box : (rows, columns)
        The scanned region.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 4.8), layout='constrained')
    axes = figure.subplots(1, 4)
    figure.suptitle('\n'.join(textwrap.wrap(title, 150)), fontsize=10, parse_math=False)
    # A single pattern has a box of a single pixel: draw all.
    part = box if min(obj[box].shape) > 1 else (slice(None), slice(None))
    inside = obj[part]
    phase = np.angle(inside * np.conj(inside.mean(dtype=np.complex128) or 1))
    for axis, image, name, cmap in (
        (axes[0], np.abs(inside), 'amplitude', 'gray'),
        (axes[1], phase, 'phase (rad)', 'viridis'),
        (axes[2], uncertainty[part], 'uncertainty (units of amplitude)', 'cividis'),
        (axes[3], weight, 'illumination (counts)', 'magma'),
    ):
        shown = axis.imshow(image, cmap=cmap)
        axis.set_title(name)
        axis.set_xlabel('x (px)')
        axis.set_ylabel('y (px)')
        figure.colorbar(shown, ax=axis, shrink=0.85)
    return figure


def _plot_history(axis: Axes, history: Sequence[dict[str, float]]) -> bool:
    """Draw the losses, if there are any; return whether there are."""
    curves = [('training_loss', 'training'), ('validation_loss', 'validation')]
    for simulated in (True, False):
        part = [record for record in history if bool(record.get('simulated')) == simulated]
        for key, label in curves:
            points = [(record['epoch'], record[key]) for record in part if record.get(key, 0) > 0]
            if points:
                label = f'{label}, simulated' if simulated else label
                axis.plot(*zip(*points, strict=True), marker='.', label=label)
                axis.legend()
    if not axis.lines:
        return False
    axis.set_title('loss')
    low, high = axis.dataLim.intervaly
    if high > LOG_FROM * low:
        axis.set_yscale('log')
    axis.set_xlabel('epoch')
    axis.grid(alpha=0.3)
    return True


def _plot_frc(
    axis: Axes, truth: ComplexImage, result: ComplexImage, line: npt.NDArray[np.float64] | None
) -> None:
    frequency, correlation = fourier_ring_correlation(truth, result)
    axis.plot(frequency, correlation)
    if line is None:
        axis.axhline(0.5, color='gray', linestyle='--', label='0.5')
    else:
        axis.plot(frequency, line, color='gray', linestyle='--', label='half bit')
    axis.set_ylim(-0.1, 1.05)
    axis.set_title('ring correlation' if line is not None else 'ring correlation with the truth')
    axis.set_xlabel('spatial frequency (1/px)')
    axis.legend()
    axis.grid(alpha=0.3)
