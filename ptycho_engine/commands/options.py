"""Flags made from the fields of the configurations, and ``--config FILE`` beneath them.

A command names the configurations it uses; every field of theirs is then a flag of its own name, and a key of
the settings file. ``--help`` shows the flags that matter most, ``--help-all`` every one.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import logging
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ..config.describe import FieldInfo, describe, parse_text
from ..config.execution import INFERENCE_ONLY, OVERRIDING, TRAINING_ONLY
from ..config.files import SECTIONS, write_sections
from ..config.precedence import resolve_inference, resolve_training
from ..errors import ConfigError
from ..printable import printable
from .original_words import FILE_FLAGS, SHORT_NAMES, flag_of, read_config, restate
from .paragraph import complain

__all__ = [
    'CommandParser',
    'Settings',
    'WrappedHelp',
    'add_settings',
    'in_flags',
    'read_settings',
    'write_settings',
]

logger = logging.getLogger('ptychopinn.commands')

MAIN_TRAINING = (
    *('gridsize', 'n_filters_scale', 'model_type', 'architecture'),
    *('backend', 'batch_size', 'nepochs', 'n_groups', 'learning_rate', 'seed'),
    *('accelerator', 'precision', 'logger_backend'),
)
MAIN_INFERENCE = ('backend', 'batch_size', 'calibrate', 'refine_iterations', 'accelerator', 'precision')

USED = {
    'train': ('model', 'training', 'execution'),
    'reconstruct': ('inference', 'execution'),
    'live': ('inference', 'execution'),
}
"""Sections of the settings that a command has a use for."""

HEADINGS = {
    'model': 'network',
    'training': 'training',
    'inference': 'reconstruction',
    'execution': 'where and how to compute',
}
NOT_STATED: Any = object()


class CommandParser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, with the nearest word for an unknown one."""

    original_of: str | None = None
    """The command whose flags of the original PtychoPINN are understood too; None for no such command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as any parser does, what the original says in our words; `told` keeps what that was."""
        told: list[str] = []
        if self.original_of is not None and args is not None:
            try:
                restated = restate(args, self, self.original_of)
            except ConfigError as error:
                self.error(str(error))
            args, told = restated.words, restated.told
        options, unknown = super().parse_known_args(args, namespace)
        if told:
            options.told = told
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Print one sentence and leave with status 2."""
        wrong = re.match(r"argument COMMAND: invalid choice: '(.*?)'", message)
        if wrong:
            commands = [name for action in self._actions for name in action.choices or ()]
            message = f'there is no command {wrong[1]!r}{_nearest(wrong[1], commands)}'
        end = '' if message.endswith(('.', '?')) else '.'
        complain(f'{self.prog}: {message}{end} See {self.prog} --help.')
        self.exit(2)

    def refuse(self, unknown: str) -> NoReturn:
        """Complain about an option that there is not."""
        flag = unknown.partition('=')[0]
        if not flag.startswith('-'):
            self.error(f'there is one word too many, {unknown!r}')
        self.error(f'there is no option {flag}{_nearest(flag, self._option_string_actions)}')


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean {near[0]}?' if near else '.'


class WrappedHelp(argparse.RawDescriptionHelpFormatter):
    """Wraps the prose of a description to the terminal, and leaves indented lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for indented, block in itertools.groupby(
            text.splitlines(), key=lambda line: line.startswith(' ') or not line
        ):
            found = list(block)
            lines += found if indented else textwrap.wrap(' '.join(found), width)
        return '\n'.join(lines)


class _HelpAll(argparse.Action):
    """Print the help with every flag."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        for action in parser._actions:
            text = getattr(action, 'full_help', None)
            if text is not None:
                action.help = text
        parser.print_help()
        parser.exit()


def add_settings(parser: CommandParser, command: str) -> None:
    """Add ``--config``, ``--help-all`` and a flag for every field that `command` has a use for.

    Parameters
    ----------
    parser : ArgumentParser
    command : {'train', 'reconstruct', 'live'}
    """
    parser.original_of = command if command in FILE_FLAGS else None
    parser.add_argument(
        '--config',
        type=Path,
        metavar='FILE',
        help='settings from a .toml, .yaml or .json file, such as the train.toml of an earlier run; flags '
        'win over it',
    )
    parser.add_argument(
        '--help-all', action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help='list every setting, and exit'
    )
    main = MAIN_TRAINING if command == 'train' else MAIN_INFERENCE
    for section, infos in _offered(command).items():
        group = parser.add_argument_group(HEADINGS[section])
        for info in infos:
            _add_flag(group, section, info, shown=info.name in main)


def _offered(command: str) -> dict[str, list[FieldInfo]]:
    """Return the fields that are flags of a command, by section."""
    idle = {*INFERENCE_ONLY, *OVERRIDING} if command == 'train' else set(TRAINING_ONLY)
    # A terminal decides on the progress bar, with --quiet.
    idle.add('enable_progress_bar')
    return {
        section: [
            info for info in describe(SECTIONS[section]) if section != 'execution' or info.name not in idle
        ]
        for section in USED[command]
    }


def in_flags(sentence: str) -> str:
    """Restate a sentence about fields of configurations in the names of their flags."""
    return re.sub(
        r'\b(?:Model|Training|Inference|PyTorchExecution)Config\.(\w+)',
        lambda match: flag_of(match[1]),
        sentence,
    )


def _add_flag(group: argparse._ArgumentGroup, section: str, info: FieldInfo, *, shown: bool) -> None:
    names = [info.name.replace('_', '-')]
    if info.name in SHORT_NAMES:
        names.insert(0, SHORT_NAMES[info.name])
    default = 'none' if info.default is None else info.default
    full = f'{info.doc} (default: {default})'.replace('%', '%%')
    options: dict[str, Any] = {
        'dest': f'{section}.{info.name}',
        'default': NOT_STATED,
        'help': full if shown else argparse.SUPPRESS,
    }
    if info.kind is bool:
        action: Any = argparse.BooleanOptionalAction
        flags = [f'--{name}' for name in names]
        added = group.add_argument(*flags, action=action, **options)
    else:
        metavar = {int: 'N', float: 'X'}.get(info.kind, 'NAME')
        added = group.add_argument(
            *(f'--{name}' for name in names), type=_reader(info), metavar=metavar, **options
        )
    added.full_help = full  # type: ignore[attr-defined]


def _reader(info: FieldInfo) -> Any:
    def read(text: str) -> Any:
        if info.name == 'n_groups' and text.strip() == '0':
            return None
        try:
            return parse_text(info, text)
        except ConfigError:
            raise argparse.ArgumentTypeError(f'{text!r} is not {info.expected}') from None

    return read


@dataclass(frozen=True)
class Settings:
    """What a command line and its settings file state, by section and field."""

    sections: dict[str, dict[str, Any]]
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files that a settings file of the original PtychoPINN names."""

    @property
    def execution(self) -> PyTorchExecutionConfig:
        """How to compute."""
        return PyTorchExecutionConfig(**self.sections['execution'])

    def training(self) -> TrainingConfig:
        """Return how to train.

        Raises
        ------
        ConfigError
            If a value is out of range.
        """
        stated = {**self.sections['model'], **self.sections['training']}
        return resolve_training(execution=self.execution, command_line=stated)[0]

    def inference(self) -> InferenceConfig:
        """Return how to reconstruct.

        Raises
        ------
        ConfigError
            If a value is out of range.
        """
        return resolve_inference(execution=self.execution, command_line=self.sections['inference'])[0]


def read_settings(options: argparse.Namespace) -> Settings:
    """Return the settings of a parsed command line: flags, and beneath them those of ``--config``.

    Raises
    ------
    ConfigError, DataFileNotFoundError
        If the settings file cannot be read or names what does not exist.
    """
    flags: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in vars(options).items():
        section, _, field = name.partition('.')
        if field and value is not NOT_STATED:
            flags[section][field] = value
    sections: dict[str, dict[str, Any]] = flags
    files: Mapping[str, Path] = {}
    if options.config is not None:
        network = flags['model'].get('architecture')
        in_file, files, told = read_config(options.config, USED[options.command], network)
        for line in told:
            logger.info('%s', line)
        # A flag wins over every statement of the file about the same thing.
        stated = {field for section in flags.values() for field in section}
        if 'batch_size' in flags['inference']:
            # The name under which an execution states the same.
            stated.add('inference_batch_size')
        sections = {
            section: {**{f: v for f, v in values.items() if f not in stated}, **flags[section]}
            for section, values in in_file.items()
        }
    execution = sections['execution']
    execution['enable_progress_bar'] = execution.get('enable_progress_bar', True) and not options.quiet
    return Settings(sections, files)


def write_settings(path: Path, configs: Sequence[Any], words: Sequence[str]) -> None:
    """Write `configs` as a settings file that repeats the run that was started by `words`."""
    from ..version import __version__

    # A line of its own in the file, whatever file names hold.
    command = printable(shlex.join(words))
    write_sections(path, configs, f'ptychopinn {__version__}\nptychopinn {command}')
