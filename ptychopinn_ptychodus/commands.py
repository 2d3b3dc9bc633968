"""Functions behind the commands that concern Ptychodus: start it, and see whether it will find PtychoPINN."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import compat

__all__ = ['PLUGIN_FILE', 'Findings', 'examine', 'gui_main', 'plugin_path', 'why_no_readers', 'why_not']

PLUGIN_FILE = 'ptychopinn_reconstructor.py'
OURS = {'ptychopinn_pinn', 'ptychopinn_supervised', 'ptychopinn_physics'}


def gui_main(arguments: Sequence[str] | None = None) -> int:
    """Start Ptychodus with PtychoPINN, also where its plugin folder does not hold our file.

    Parameters
    ----------
    arguments : sequence of str, optional
        For Ptychodus; None for those of this process.
    """
    from .install import install

    install()
    if arguments is not None:
        sys.argv = ['ptychodus', *arguments]
    main = importlib.import_module('ptychodus.__main__').main
    return int(main())


def why_not() -> str | None:
    """Return why Ptychodus cannot be started with PtychoPINN, as a clause, or None."""
    return compat.why_unsupported()


def why_no_readers() -> str | None:
    """Return why there are no readers of Ptychodus for files of beamlines, as a clause, or None."""
    return None if compat.ptychodus_version() else 'Ptychodus is not installed'


@dataclass(frozen=True)
class Findings:
    """What stands between this Ptychodus and PtychoPINN."""

    release: str | None
    """Installed release of Ptychodus."""
    problem: str | None
    """Why this release cannot be extended, or None."""
    plugin: Path | None
    """Where Ptychodus looks for the plugin file, or None without Ptychodus."""
    plugin_present: bool
    """Whether the file is there."""
    algorithms: tuple[str, ...] | None
    """Keys of the algorithms that Ptychodus lists in this process; None where it was not started."""
    switched_off: bool = False
    """Whether the environment keeps the plugin out of Ptychodus (API-05)."""

    @property
    def ok(self) -> bool:
        """Whether the unmodified command lists all of our algorithms."""
        return self.problem is None and self.plugin_present and set(self.algorithms or ()) >= OURS

    def report(self) -> Iterator[tuple[str, str, str]]:
        """Yield (grade, topic, text) for ``ptychopinn doctor``; grades are 'ok', 'caution' and 'STOP'."""
        if self.release is None:
            yield 'caution', 'Ptychodus', 'not installed here; pip install ptychodus to use it.'
            return
        if self.problem is not None:
            yield 'caution', 'Ptychodus', f'{self.problem}; PtychoPINN works from its own command line.'
            return
        yield 'ok', 'Ptychodus', f'{self.release}.'
        if not self.plugin_present:
            yield (
                'STOP',
                'plugin',
                f'missing: Ptychodus looks for {self.plugin}. Run "ptychopinn link", or "ptychopinn gui".',
            )
            return
        yield 'ok', 'plugin', f'{self.plugin}'
        missing = () if self.algorithms is None else sorted(OURS - set(self.algorithms))
        if self.switched_off:
            yield 'STOP', 'plugin', f'switched off; unset {compat.SWITCH} for Ptychodus to list PtychoPINN.'
        elif missing:
            yield 'STOP', 'algorithms', f'Ptychodus does not list {", ".join(missing)}; reinstall both.'
        elif self.algorithms is None:
            return
        else:
            yield 'ok', 'algorithms', 'Ptychodus lists PtychoPINN / PINN, Supervised and Physics.'


def plugin_path() -> Path | None:
    """Return where Ptychodus looks for our plugin file, or None without Ptychodus."""
    if compat.ptychodus_version() is None:
        return None
    folders = compat.folders_of('ptychodus.plugins')
    return Path(folders[0]) / PLUGIN_FILE if folders else None


def examine(*, start: bool = True) -> Findings:
    """Report what stands between this Ptychodus and PtychoPINN.

    Parameters
    ----------
    start : bool
        Whether to start Ptychodus' model, without a window, to see what it lists, which takes seconds;
        without, nothing of Ptychodus is imported.
    """
    problem = compat.why_unsupported()
    path = plugin_path()
    algorithms: tuple[str, ...] | None = None
    if start and problem is None:
        core = importlib.import_module('ptychodus.model.core')
        level = logging.getLogger().level
        # It tells at length what it loads.
        logging.disable(logging.WARNING)
        try:
            model = core.ModelCore(None)
        finally:
            logging.disable(logging.NOTSET)
            logging.getLogger().setLevel(level)
        algorithms = tuple(model.processing_core.processing_api.available_reconstructors())
    return Findings(
        release=compat.ptychodus_version(),
        problem=problem,
        plugin=path,
        plugin_present=path is not None and path.is_file(),
        algorithms=algorithms,
        switched_off=compat.is_switched_off(),
    )


if __name__ == '__main__':
    sys.exit(gui_main())
