"""A gate before Ptychodus' reading of settings files; other algorithms' files pass as they always did."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.processing import ProcessingAlgorithmParameter

from ptycho_engine.errors import ConfigError
from ptycho_engine.printable import printable

from .library import ALGORITHMS
from .settings import ReconstructorSettings
from .settings_file import asked_algorithm, read_settings

__all__ = ['SettingsGate']

logger = logging.getLogger('ptychopinn')

OURS = {f'ptychopinn_{name.casefold()}' for name in ALGORITHMS}


class SettingsGate:
    """Reads settings files in the registry's place.

    Parameters
    ----------
    registry : SettingsRegistry
        Whose ``open_settings`` is replaced.
    algorithm : ProcessingAlgorithmParameter
        The chosen algorithm; the gate is there only for ours.
    settings : ReconstructorSettings
        Our settings in the registry.
    tell : callable
        Is given the sentence on a file that cannot be followed, where no batch run refuses it.
    """

    def __init__(
        self,
        registry: SettingsRegistry,
        algorithm: ProcessingAlgorithmParameter,
        settings: ReconstructorSettings,
        tell: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._open = registry.open_settings
        self._algorithm = algorithm
        self._settings = settings
        self._tell = tell
        self.refuses = False
        """Whether a file that cannot be followed raises ConfigError; else what can be read of it is."""
        self.fault = ''
        """The sentence on the file of the start, or the last one in the window, if it was not followed."""
        registry.open_settings = self.open_settings  # type: ignore[method-assign]

    def open_settings(self, file_path: Path) -> None:
        """Read a settings file.

        Raises
        ------
        ConfigError
            If a batch run of ours would not follow it to the letter.
        """
        if not self._concerns_us(asked_algorithm(file_path)):
            self._open(file_path)
            return
        try:
            self._follow(file_path)
        except ConfigError as error:
            if self.refuses:
                raise
            self.fault = str(error)
            self._tell(self.fault)
        else:
            if not self.refuses:
                self.fault = ''

    def require_followed(self) -> None:
        """Raise ConfigError if the settings file of the program's start could not be followed."""
        if self.fault:
            raise ConfigError(self.fault)

    def require_file(self, path: Path) -> None:
        """Raise ConfigError if there is something at `path` that Ptychodus would not take for a file."""
        there = path.exists() or path.is_symlink()
        if there and not path.is_file() and self._concerns_us(None):
            read_settings(path)

    def is_asked_for_ours(self, path: Path) -> bool:
        """Return whether a run with the settings file `path`, which need not be there, is one of ours."""
        return self._concerns_us(asked_algorithm(path) if path.is_file() else None)

    def _concerns_us(self, asked: str | None) -> bool:
        name = (asked or '').casefold()
        if name in self._algorithm.available_reconstructors():
            return name in OURS
        return name.startswith('ptychopinn_') or self._algorithm.get_value() in OURS

    def _follow(self, path: Path) -> None:
        file = read_settings(path)
        try:
            remarks = file.refuse(self._registry)
        except ConfigError:
            if not self.refuses:
                file.apply(self._registry)
            raise
        self._open(path)
        for remark in remarks:
            logger.warning('%s', remark)
        supervised = self._algorithm.get_value().endswith('supervised')
        try:
            self._settings.check('supervised' if supervised else 'pinn')
        except ConfigError as error:
            raise ConfigError(f'{printable(path)}: {error}') from error
