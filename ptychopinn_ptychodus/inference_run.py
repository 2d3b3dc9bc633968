"""A reconstruction as the parent sees it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace

from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput

from ptycho_engine.errors import EngineError
from ptycho_engine.files.product import write_product
from ptycho_engine.files.product_extras import with_uncertainty
from ptycho_engine.io.text import storable
from ptycho_engine.printable import printable

from .child import Child
from .compat import result_files
from .conversion import Outcome, output_product, product_data
from .loaded_model import LoadedModel
from .run_context import TICK_S, WORKER, RunContext, TimeLeft, raise_failure
from .session import Session
from .speeds import start_key
from .worker import ReconstructJob, ScanPayload

__all__ = ['InferenceRun']

logger = logging.getLogger('ptychopinn')

PREDICTING = 0.3
"""Part of the bar that is the network's, where a refinement follows."""


class InferenceRun:
    """One reconstruction with a loaded model and the settings as they are now.

    Raises
    ------
    EngineError
        If a setting is wrong.
    """

    def __init__(
        self, session: Session, model: LoadedModel, context: RunContext, parameters: ReconstructInput
    ) -> None:
        self._session = session
        self._model = model
        self._context = context
        self._parameters = parameters
        self.goal = max(len(parameters.diffraction_patterns), 1)
        """The progress at the end."""
        self._time_left = TimeLeft()
        for remark in session.settings.moved():
            logger.warning('%s', remark)
        self._job = ReconstructJob(
            ScanPayload.of(parameters),
            model.path,
            session.settings.inference_config(),
            session.settings.execution_config(),
            # In batch mode every yield would leave a numbered file.
            partial_objects=context.output_file is None,
        )

    def follow(self) -> Iterator[ReconstructOutput]:
        """Run it; yield the result last, and before it what there is of the object so far."""
        context, product = self._context, self._parameters.product
        started = time.monotonic()
        refines = self._job.config.refine_iterations > 0
        done = 0
        with Child(f'{WORKER}:run_reconstruction', self._job, self._parameters.diffraction_patterns) as child:
            for message in child.messages(TICK_S):
                if context.stop_requested():
                    logger.info('The reconstruction was stopped; there is no result.')
                    return
                match message:
                    case ('patches', count, total):
                        if not done:
                            self._note_start(time.monotonic() - started)
                        done = self._show(count / total * (PREDICTING if refines else 1))
                    case ('sweep', sweep, sweeps):
                        done = self._show(PREDICTING + (1 - PREDICTING) * sweep / sweeps)
                    case ('speed', key, seconds):
                        self._session.speeds.note(key, seconds)
                    case ('partial', outcome):
                        yield ReconstructOutput(_saveable(output_product(product, outcome)), progress=done)
                    case ('result', outcome):
                        result = self._deliver(product, outcome)
                        logger.info(
                            'Reconstructed %d patterns in %.1f s.', self.goal, time.monotonic() - started
                        )
                        context.delivered = True
                        yield ReconstructOutput(_saveable(result), progress=self.goal)
                        return
                    case _:
                        raise_failure(message)
        raise EngineError('The PtychoPINN process ended without a result.')

    def _note_start(self, seconds: float) -> None:
        """Keep how long it took until the first patterns were there."""
        modes, job = len(self._job.scan.product.probe[0]), self._job
        key = start_key(self._model.config.model, job.config, job.execution, modes)
        self._session.speeds.note(key, seconds)

    def _show(self, fraction: float) -> int:
        """Move the bar; the last step belongs to the result."""
        done = min(int(self.goal * fraction), self.goal - 1)
        self._context.show_progress(done, self.goal)
        self._context.show_time_left(self._time_left.text(fraction))
        return done

    def _deliver(self, product: Product, outcome: Outcome) -> Product:
        losses = tuple(
            (epoch, value)
            for epoch, value in outcome.losses
            # The loss plot has a logarithmic axis.
            if math.isfinite(value) and value > 0
        )
        remarks = [f'Model: {printable(self._model.path)}']
        result = output_product(product, replace(outcome, losses=losses), remarks)
        if self._context.output_file is not None:
            data = product_data(result)
            # A product of Ptychodus has no room for it; our file has.
            if outcome.uncertainty is not None:
                data = replace(data, extras=with_uncertainty(data.extras, outcome.uncertainty))
            for path in result_files(self._context.output_file):
                write_product(path, data)
        return result


def _saveable(product: Product) -> Product:
    """Return a product whose texts Ptychodus can save, which it does not if they are not UTF-8."""
    metadata = product.metadata
    metadata = replace(metadata, name=storable(metadata.name), comments=storable(metadata.comments))
    return replace(product, metadata=metadata)
