"""A setting of PtychoPINN in Ptychodus: its section in a file, its name there, its row in the panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ['ENGINE_GROUP', 'OUR_GROUPS', 'Row', 'Setting']

ENGINE_GROUP = 'PtychoPINNEngine'
SECTIONS = {
    'model': 'PtychoPINNModel',
    'training': 'PtychoPINNTraining',
    'inference': 'PtychoPINNInference',
    'engine': ENGINE_GROUP,
}
"""The sections of a settings file that are PtychoPINN's; the last is of our own."""

OUR_GROUPS = tuple(SECTIONS.values())

Kind = Literal['number', 'decimal', 'fraction', 'power of two', 'switch', 'choice', 'folders']


@dataclass(frozen=True)
class Row:
    """How the panel shows a setting."""

    group: str
    kind: Kind
    label: str
    tip: str
    items: tuple[str, ...] = ()
    """What a choice offers."""
    physics: bool = False
    """Whether the panel of physics alone has it too."""
    advanced: bool = True
    """Whether it is under *Advanced*, out of sight until that is opened."""


@dataclass(frozen=True)
class Setting:
    """One setting."""

    owner: str
    """Group of settings: model, training, inference or engine."""
    attribute: str
    """Its parameter there."""
    name: str
    """In a settings file."""
    fields: tuple[str, ...] = ()
    """Fields of the engine's configurations that take its value, such as 'TrainingConfig.seed'."""
    row: Row | None = None
    model_type: str = ''
    """The algorithm that has it, 'pinn' or 'supervised'; empty for both."""
    architecture: str = ''
    """The architecture that has it, 'cnn'; empty for both. Another does not show it."""
    idle: bool = False
    """Whether it changes nothing, whatever the algorithm: Ptychodus has it, PtychoPINN has no use for it."""

    @property
    def full_name(self) -> str:
        """Section and name."""
        return f'{SECTIONS[self.owner]}.{self.name}'

    def shown_by(self, algorithm: str) -> bool:
        """Return whether the panel of 'pinn', 'supervised' or 'physics' has a row for it."""
        if self.row is None:
            return False
        return self.row.physics if algorithm == 'physics' else self.model_type in ('', algorithm)

    def fills(self, configuration: type) -> str | None:
        """Return the field of a configuration that takes the value, or None."""
        prefix = f'{configuration.__name__}.'
        return next((f.removeprefix(prefix) for f in self.fields if f.startswith(prefix)), None)
