"""Images of several methods beside the truth, for ``bench_prior.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from outside_scenes import Scene

from ptycho_engine.scoring.scores import align, scan_box, score

Object = npt.NDArray[np.complexfloating]


def draw(
    path: Path, scenes: Sequence[Scene], image: Callable[[Scene, str], Object], columns: Sequence[str]
) -> None:
    """Draw amplitude and phase of each scene, each on the range of its truth, inside the scan."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(2.6 * (1 + len(columns)), 5.4 * len(scenes)), layout='constrained')
    axes = figure.subplots(2 * len(scenes), 1 + len(columns), squeeze=False)
    for rows, scene in zip(axes.reshape(len(scenes), 2, -1), scenes, strict=True):
        box = scan_box(scene.x, scene.y, scene.truth.shape)
        images, titles = [scene.truth[box].astype(np.complex128)], ['truth']
        for column in columns:
            found = image(scene, column)
            images.append(align(scene.truth, found, box).result)
            titles.append(f'{column}, NRMSE {score(scene.truth, found, box).nrmse:.3f}')
        turn = np.exp(-1j * np.angle(images[0].mean()))
        for row, part, name in zip(rows, (np.abs, np.angle), ('amplitude', 'phase'), strict=True):
            low, high = np.quantile(part(images[0] * turn), (0.005, 0.995))
            for axis, shown, title in zip(row, images, titles, strict=True):
                axis.imshow(part(shown * turn), cmap='gray', vmin=low, vmax=high, interpolation='nearest')
                axis.set(xticks=[], yticks=[])
                axis.set_title(title, fontsize=9)
            row[0].set_ylabel(f'{scene.row} {scene.kind}, {name}', fontsize=9)
    figure.savefig(path, dpi=90)
    with Image.open(path) as picture:
        # 24 shades of grey do, and make the file a quarter as large.
        small = picture.convert('L').quantize(24)
    small.save(path, optimize=True)
