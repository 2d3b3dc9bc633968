"""The loss plot of the Processing page: whole epochs, those on simulated objects shaded, readable ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from ptychodus.api.product import LossValue

__all__ = ['draw_losses', 'fit_margins']

LOG_FROM = 10.0
"""Losses that fall by more are drawn on a logarithmic axis, which has no readable ticks over less."""
MARGINS_INCH = {'left': 0.85, 'right': 0.2, 'bottom': 0.55, 'top': 0.4}
SIMULATED, MEASURED = 'on simulated objects', 'on the scan'


def draw_losses(axes: Any, title: str, curves: Mapping[str, Sequence[LossValue]], simulated: int) -> None:
    """Draw some curves.

    Parameters
    ----------
    axes : Axes
        Cleared first.
    title : str
        What the losses belong to.
    curves : mapping of str to sequence of LossValue
        By name, at least one with a value; those without are left out.
    simulated : int
        So many of the first epochs were on simulated objects.
    """
    axes.clear()
    # A name with dollar signs in it is no formula.
    axes.set_title(title, parse_math=False)
    drawn = {name: losses for name, losses in curves.items() if losses}
    last = max(loss.epoch for losses in drawn.values() for loss in losses)
    first = min(loss.epoch for losses in drawn.values() for loss in losses)
    if simulated > 0:
        end = min(simulated, last) + 0.5
        axes.axvspan(first - 0.5, end, color='0.9', zorder=0, label=SIMULATED)
        if last > simulated:
            axes.axvspan(end, last + 0.5, color='white', zorder=0, label=MEASURED, ec='0.6', lw=0.5)
    for name, losses in drawn.items():
        axes.plot([x.epoch for x in losses], [x.value for x in losses], '.-', label=name)
    axes.set_xlim(first - 0.5, last + 0.5)
    _set_scale(axes, [loss.value for losses in drawn.values() for loss in losses])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel('Epoch')
    axes.set_ylabel('Deviance per pixel')
    axes.grid(True, color='0.85', linewidth=0.6)
    if len(drawn) > 1 or simulated > 0:
        axes.legend(loc='best')


def _set_scale(axes: Any, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_yscale('linear')
        axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:.6g}'))


def fit_margins(figure: Any) -> None:
    """Leave as much room around the axes as the labels need, whatever the size of the figure."""
    width, height = figure.get_size_inches()
    if width <= 2 * MARGINS_INCH['left'] or height <= 2 * MARGINS_INCH['bottom']:
        return
    figure.subplots_adjust(
        left=MARGINS_INCH['left'] / width,
        right=1 - MARGINS_INCH['right'] / width,
        bottom=MARGINS_INCH['bottom'] / height,
        top=1 - MARGINS_INCH['top'] / height,
    )
