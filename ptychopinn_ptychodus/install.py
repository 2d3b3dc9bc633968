"""Put PtychoPINN into a running Ptychodus by replacing names where it puts itself together.

Ptychodus has no hook for reconstructors. It builds its libraries, its processing core and its panels from
names in ``ptychodus.model.core`` and ``ptychodus.controller.core``; these are the names that are replaced,
before they are used.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import io
import logging
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ptycho_engine.printable import plain_arguments

from . import compat

__all__ = ['install']

logger = logging.getLogger('ptychopinn')

MODEL_MODULE = 'ptychodus.model.core'
CONTROLLER_MODULE = 'ptychodus.controller.core'
_warned = False


def install() -> bool:
    """Offer PtychoPINN in this process' Ptychodus; a second call changes nothing.

    Returns
    -------
    bool
        Whether PtychoPINN is offered. An unsupported Ptychodus is left as it is, with one warning.
    """
    global _warned
    reason = compat.why_unsupported()
    if reason is not None:
        if not _warned:
            logger.warning('%s. Ptychodus is left unchanged.', reason)
            _warned = True
        return False
    core = importlib.import_module(MODEL_MODULE)

    from .batch import with_plain_failures
    from .library import PtychoPINNLibrary
    from .processing import HostedProcessingCore
    from .scan_arrays import work_on_scans_by_arrays
    from .scan_reader import with_product_reader, with_scan_reader

    if core.PtychoPINNReconstructorLibrary is PtychoPINNLibrary:
        return True
    _make_log_plain()
    # All are at hand before the first is replaced, so that a failure leaves no half.
    execute = with_plain_failures(core.ModelCore.batch_mode_execute)
    diffraction_core = with_scan_reader(core.DiffractionCore)
    product_core = with_product_reader(core.ProductCore)
    core.ModelCore.batch_mode_execute = execute
    core.DiffractionCore = diffraction_core  # type: ignore[attr-defined]
    core.ProductCore = product_core  # type: ignore[attr-defined]
    core.ProcessingCore = HostedProcessingCore  # type: ignore[attr-defined]
    core.PtychoPINNReconstructorLibrary = PtychoPINNLibrary  # type: ignore[attr-defined]
    work_on_scans_by_arrays()
    _replace_panel()
    return True


def _make_log_plain() -> None:
    """Show names and values of files in our log lines as ``printable`` does, and spell what stdout lacks."""
    make = logging.getLogRecordFactory()

    def make_plain(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(*arguments, **named)
        if record.name.partition('.')[0] == logger.name:
            record.args = plain_arguments(record.args)
        return record

    logging.setLogRecordFactory(make_plain)
    # Ptychodus logs to it; a log line must not print a traceback for a multiplication sign.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


def _replace_panel() -> None:
    """Replace the panel now or when the window's module is loaded: batch mode must not load Qt."""
    module = sys.modules.get(CONTROLLER_MODULE)
    if module is not None:
        _use_our_panel(module)
    else:
        sys.meta_path.insert(0, _PanelHook())


def _use_our_panel(module: ModuleType) -> None:
    try:
        from .controller import HostedProcessingController
        from .panel import PanelFactory
        from .scan_arrays import keep_listed_probes

        module.PtychoPINNViewControllerFactory = PanelFactory  # type: ignore[attr-defined]
        module.ProcessingController = HostedProcessingController  # type: ignore[attr-defined]
        keep_listed_probes()
    except Exception as error:  # noqa: BLE001  the window must open, with Ptychodus' own panel
        logger.warning('Ptychodus shows its own PtychoPINN panel (%s: %s).', type(error).__name__, error)


class _PanelHook(importlib.abc.MetaPathFinder):
    """Runs once, right after the window's module is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != CONTROLLER_MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _PanelLoader(spec.loader)
        return spec


class _PanelLoader(importlib.abc.Loader):
    """The module's own loader, and then our panel."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _use_our_panel(module)
