"""The command ``ptychopinn``: of each sub-command one module does it, and one of ``arguments`` declares it.

What a command needs is imported once :func:`main` runs, so that Ctrl-C has an answer from the beginning, and
what does it once the command line is known to be right, so that help and complaints come at once.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from .options import CommandParser

__all__ = ['main']

COMMANDS = {
    'demo': 'simulate a scan, reconstruct it and show how good the result is',
    'simulate': 'simulate a scan and write it as NPZ and as a Ptychodus directory',
    'prepare': 'crop, bin and centre the patterns of a scan, with all that belongs to them',
    'train': 'train a network on scans',
    'reconstruct': 'reconstruct a scan, with or without a trained model',
    'live': 'show the image of a scan while it runs',
    'evaluate': 'compare reconstructions with a known object',
    'inspect': 'say what a model was trained on, or how a result came about',
    'doctor': 'look at the installation and at data for trouble',
    'settings': 'print all settings as a file, or their JSON Schema',
    'link': 'put the plugin where another Ptychodus looks for it',
    'gui': 'start Ptychodus with PtychoPINN',
    'convert': 'write a scan or a result in another format: NPZ, CXI, Ptychodus, TIFF',
    'export-onnx': 'write a learned prior as an ONNX file, for TensorRT and onnxruntime',
    'convert-product': 'convert an NPZ scan to a Ptychodus product file',
    'validate-product': 'check a product file against every rule of its contract',
    'import-upstream': 'write files of the original PtychoPINN as ours: scans, products, settings',
    'make-fixture': 'write the first positions of a scan as a small fixed file for tests',
}

EXIT_CANCELLED = 130
EXIT_BROKEN_PIPE = 141
"""What a shell says of other tools when the reader of their output goes away: 128 and the signal SIGPIPE."""
SIGNALLED = 128
"""The exit code is this plus the number of the signal that ended the run, as shells have it."""


def module_of(command: str) -> str:
    """Return the name of the modules of a sub-command."""
    return command.replace('-', '_')


def build_parser(chosen: str | None = None) -> CommandParser:
    """Return the parser of the command and all its sub-commands.

    Where the sub-command is already known only that is declared, and '' declares none.
    """
    import importlib

    from ..version import __version__
    from .options import CommandParser, WrappedHelp

    parser = CommandParser(
        prog='ptychopinn',
        description='Physics-informed neural networks for ptychography.',
    )
    parser.add_argument('--version', action='version', version=f'ptychopinn {__version__}')
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, summary in COMMANDS.items():
        if chosen not in (None, name):
            subparsers.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f'.arguments.{module_of(name)}', __name__)
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=WrappedHelp,
        )
        sub.add_argument('--quiet', action='store_true', help='print results and errors only')
        module.add_arguments(sub)
        sub.set_defaults(parser=sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns its exit code.

    0, 1 (failure), 2 (a mistake in the input), 141 where nobody reads what is printed, or, after a signal,
    128 and its number: 130 (Ctrl-C), 143 (SIGTERM), 129 (SIGHUP).
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        restore = _interrupt_at_once()
        try:
            import importlib

            from .streams import drop, flush_streams, prepare_streams

            prepare_streams()
            options = _parse(words)
            # Here, where Ctrl-C ends what takes a second to load.
            run = importlib.import_module(f'.{module_of(options.command)}', __name__).run
        finally:
            restore()
        code = _run(run, options)
    except KeyboardInterrupt:
        _say_interrupted()
        return EXIT_CANCELLED
    except BrokenPipeError as error:
        # From what argparse prints.
        drop('stdout', error)
        code = 0
    except SystemExit:
        lost = _lost_output(flush_streams())
        if lost:
            raise SystemExit(lost) from None
        raise
    return code or _lost_output(flush_streams())


def _lost_output(error: OSError | None) -> int:
    """Return the exit code for output that could not be written, as other tools have it; 0 for none."""
    if error is None:
        return 0
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    from .failures import EXIT_FAILURE
    from .paragraph import complain

    complain(f'ptychopinn: what is printed cannot be written: {error.strerror}.')
    return EXIT_FAILURE


def _interrupt_at_once() -> Callable[[], object]:
    """Let Ctrl-C end the process at once, until the function that is returned is called.

    An import that it interrupts may fail in many ways; nothing is being written yet.
    """
    import os
    import signal
    import threading

    previous = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread()
        or previous is not signal.default_int_handler
    ):
        return lambda: None

    def leave(signum: int, frame: object) -> None:
        _say_interrupted()
        os._exit(EXIT_CANCELLED)

    signal.signal(signal.SIGINT, leave)
    return lambda: signal.signal(signal.SIGINT, previous)


def _say_interrupted() -> None:
    try:
        print('ptychopinn: interrupted', file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads it any longer.
        return


def _parse(words: list[str]) -> argparse.Namespace:
    """Return the options of a command line; a wrong one ends the process with a sentence."""
    import argparse
    import logging

    from .paragraph import LogHandler

    # Ahead of the sub-command there are only flags without a value.
    parser = build_parser(next((word for word in words if word in COMMANDS), ''))
    options = argparse.Namespace(words=words)
    _, unknown = parser.parse_known_args(words, options)
    if unknown:
        options.parser.refuse(unknown[0])
    level = logging.WARNING if options.quiet else logging.INFO
    logging.basicConfig(level=level, handlers=[LogHandler()], force=True)
    for noisy in ('matplotlib', 'h5py'):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for line in getattr(options, 'told', []):
        logging.getLogger('ptychopinn.commands').info('%s', line)
    return options


def _run(run: Callable[[argparse.Namespace], int | None], options: argparse.Namespace) -> int:
    """Run what was asked for, and say in one sentence what went wrong."""
    from ..errors import Cancelled
    from .failures import failure_of
    from .interrupt import end_on_signals
    from .paragraph import complain

    try:
        with end_on_signals():
            code = run(options)
    except Cancelled as error:
        complain(f'ptychopinn {options.command}: {error}')
        return EXIT_CANCELLED
    except KeyboardInterrupt as error:
        complain(f'ptychopinn {options.command}: {str(error) or "interrupted"}')
        return SIGNALLED + getattr(error, 'signum', EXIT_CANCELLED - SIGNALLED)
    except BrokenPipeError:
        raise
    except Exception as error:
        failure = failure_of(error, getattr(options, 'output', None))
        if failure is None:
            raise
        sentence, code = failure
        complain(f'ptychopinn {options.command}: {sentence}')
        return code
    return code or 0
