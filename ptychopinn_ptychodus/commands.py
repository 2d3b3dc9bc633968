"""Functions behind the commands that concern Ptychodus: start it, and see whether it will find PtychoPINN."""

from __future__ import annotations

import importlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from . import compat

__all__ = ['PLUGIN_FILE', 'Findings', 'examine', 'gui_main', 'plugin_path']

PLUGIN_FILE = 'ptychopinn_reconstructor.py'


def gui_main() -> int:
    """Start Ptychodus with PtychoPINN, also where its plugin folder does not hold our file."""
    from .install import install

    install()
    main = importlib.import_module('ptychodus.__main__').main
    return int(main())


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
    algorithms: tuple[str, ...]
    """Keys of the algorithms that Ptychodus lists in this process."""

    @property
    def ok(self) -> bool:
        """Whether the unmodified command lists both of our algorithms."""
        ours = {'ptychopinn_pinn', 'ptychopinn_supervised'}
        return self.problem is None and self.plugin_present and ours <= set(self.algorithms)


def plugin_path() -> Path | None:
    """Return where Ptychodus looks for our plugin file, or None without Ptychodus."""
    if compat.ptychodus_version() is None:
        return None
    plugins = importlib.import_module('ptychodus.plugins')
    folders = list(plugins.__path__)
    return Path(folders[0]) / PLUGIN_FILE if folders else None


def examine() -> Findings:
    """Start Ptychodus' model, without a window, and report what it lists."""
    problem = compat.why_unsupported()
    path = plugin_path()
    algorithms: tuple[str, ...] = ()
    if problem is None:
        core = importlib.import_module('ptychodus.model.core')
        level = logging.getLogger().level
        model = core.ModelCore(None)
        logging.getLogger().setLevel(level)
        algorithms = tuple(model.processing_core.processing_api.available_reconstructors())
    return Findings(
        release=compat.ptychodus_version(),
        problem=problem,
        plugin=path,
        plugin_present=path is not None and path.is_file(),
        algorithms=algorithms,
    )


if __name__ == '__main__':
    sys.exit(gui_main())
