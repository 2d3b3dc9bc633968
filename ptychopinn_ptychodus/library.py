"""The reconstructor library that the algorithm menu lists as PtychoPINN."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from ptychodus.api.reconstruct import Reconstructor
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.ptychopinn import PtychoPINNReconstructorLibrary
from ptychodus.model.ptychopinn.enums import PtychoPINNEnumerators

from .algorithm import PHYSICS, Algorithm, PhysicsReconstructor
from .reconstructor import PtychoPINNReconstructor
from .session import Session
from .settings import ReconstructorSettings

__all__ = ['ALGORITHMS', 'PtychoPINNLibrary']

TRAINABLE = ('PINN', 'Supervised')
ALGORITHMS = (*TRAINABLE, PHYSICS)


class PtychoPINNLibrary(PtychoPINNReconstructorLibrary):
    """Ptychodus' own PtychoPINN library, same name, logger and settings groups, with our reconstructors."""

    def __init__(self, settings_registry: SettingsRegistry, is_developer_mode_enabled: bool = False) -> None:
        # Not the parent's own __init__: it would look for another engine and say that there is none.
        super(PtychoPINNReconstructorLibrary, self).__init__('ptychopinn')
        settings = ReconstructorSettings.of(settings_registry)
        self.model_settings = settings.model
        self.training_settings = settings.training
        self.inference_settings = settings.inference
        self.enumerators = PtychoPINNEnumerators()
        self.engine_settings = settings.engine
        self.session = Session.of(settings)
        self._ours: list[Algorithm] = [PtychoPINNReconstructor(name, self.session) for name in TRAINABLE]
        self._ours.append(PhysicsReconstructor(self.session))
        self.get_logger().info('PtychoPINN %s', _own_version())

    def algorithm(self, name: str) -> Algorithm:
        """Return the algorithm of a name, in any case."""
        return next(one for one in self._ours if one.name.casefold() == name.casefold())

    def __iter__(self) -> Iterator[Reconstructor]:
        return iter(self._ours)


def _own_version() -> str:
    try:
        return version('ptychopinn-ptychodus')
    except PackageNotFoundError:
        return 'from a source folder'
