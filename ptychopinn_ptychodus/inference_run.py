"""A reconstruction as the parent sees it."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput

from ptycho_engine.errors import EngineError
from ptycho_engine.formats.packaged import model_record
from ptycho_engine.formats.product import write_product
from ptycho_engine.formats.product_extras import with_uncertainty
from ptycho_engine.formats.provenance import in_a_line, made_by, with_provenance
from ptycho_engine.io.preflight import require_file_writable
from ptycho_engine.io.text import storable

from .child import Child
from .compat import result_files
from .conversion import output_product, product_data
from .loaded_model import LoadedModel
from .quality import remark_on_simulated
from .run_context import HEARTBEAT_S, TICK_S, WORKER, RunContext, TimeLeft, raise_failure
from .session import Session
from .speeds import start_key
from .worker import Outcome, ReconstructJob, ScanPayload

__all__ = ['InferenceRun']

logger = logging.getLogger('ptychopinn')

PREDICTING = 0.3
"""Part of the bar that is the network's, where a refinement follows."""


class InferenceRun:
    """One reconstruction with a model and the settings as they are now.

    Raises
    ------
    EngineError
        If a setting is wrong.
    """

    def __init__(
        self, session: Session, model: LoadedModel, context: RunContext, parameters: ReconstructInput
    ) -> None:
        if context.output_file is not None:
            for path in result_files(context.output_file):
                require_file_writable(path)
        self._session = session
        self._model = model
        self._context = context
        self._parameters = parameters
        self.goal = max(len(parameters.diffraction_patterns), 1)
        """The progress at the end."""
        self._time_left = TimeLeft()
        self._has_begun = False
        self._told = -math.inf
        settings = session.settings
        for remark in settings.moved():
            logger.warning('%s', remark)
        if model.of_objects:
            for remark in settings.remarks_without_cnn():
                logger.warning('%s', remark)
        # Batch mode has said where the model comes from.
        if context.output_file is None:
            logger.info('Model: %s.', model.name)
        self._job = ReconstructJob(
            ScanPayload.of(parameters),
            model.path,
            settings.inference_config(refines=not model.of_objects),
            settings.execution_config(),
            partial_objects=context.shows_images,
        )

    def follow(self) -> Iterator[ReconstructOutput]:
        """Run it; yield the result. What there is of the object before goes to the window by another way.

        Ptychodus would rebuild the whole product for every object that is yielded.
        """
        context, product = self._context, self._parameters.product
        started, begun = time.monotonic(), datetime.now(UTC)
        # Now, for the file may be another one when the run ends.
        model = model_record(self._job.model_path)
        predicting = 1.0 if self._job.config.refine_iterations == 0 else PREDICTING
        if self._model.of_objects:
            predicting = 0.0
        with Child(f'{WORKER}:run_reconstruction', self._job, self._parameters.diffraction_patterns) as child:
            for message in child.messages(TICK_S):
                if context.stop_requested():
                    logger.info('The reconstruction was stopped; there is no result.')
                    return
                context.show_waiting_image()
                match message:
                    case ('patches', count, total):
                        self._note_start(time.monotonic() - started)
                        self._show(predicting * count / total)
                    case ('iteration', iteration, iterations, calibrating):
                        self._note_start(time.monotonic() - started)
                        self._show(predicting + (1 - predicting) * iteration / iterations, calibrating)
                    case ('speed', key, seconds):
                        self._session.speeds.note(key, seconds)
                    case ('partial', image):
                        context.show_image(image)
                    case ('result', outcome):
                        result = self._deliver(product, outcome, self._provenance(outcome, model, begun))
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
        """Keep how long it took until the first patterns, or iterations, were there."""
        if self._has_begun:
            return
        self._has_begun = True
        modes, job = len(self._job.scan.product.probe[0]), self._job
        key = start_key(self._model.config.model, job.config, job.execution, modes)
        self._session.speeds.note(key, seconds)

    def _show(self, fraction: float, calibrating: bool = False) -> None:
        """Move the bar, as often as anybody can see; the last step belongs to the result."""
        text, now = self._time_left.text(fraction), time.monotonic()
        if calibrating:
            text = 'looking for what is wrong'
            self._time_left = TimeLeft()
        if now - self._told < HEARTBEAT_S:
            return
        self._told = now
        self._context.show_progress(min(int(self.goal * fraction), self.goal - 1), self.goal)
        self._context.show_time_left(text)

    def _provenance(self, outcome: Outcome, model: dict[str, Any], started: datetime) -> dict[str, Any]:
        """Return how the result came about."""
        job = self._job
        return made_by(
            sys.argv[1:],
            (job.config, job.execution),
            model=model,
            data=[],
            started=started,
            started_by='ptychodus',
            patterns={'name': job.scan.product.name, 'sha256': outcome.patterns_sha256},
        )

    def _deliver(self, product: Product, outcome: Outcome, record: dict[str, Any]) -> Product:
        losses = tuple(
            (epoch, value)
            for epoch, value in outcome.losses
            # The loss plot has a logarithmic axis.
            if math.isfinite(value) and value > 0
        )
        remarks = [f'Model: {self._model.name}', in_a_line(record)]
        simulated = self._model.simulated_epochs
        if simulated:
            remarks.append(remark_on_simulated(simulated))
        if outcome.uncertainty is not None:
            self._context.keep_map(outcome.uncertainty)
        result = output_product(product, replace(outcome, losses=losses), remarks)
        if self._context.output_file is not None:
            data = product_data(result)
            # A product of Ptychodus has no room for either; our file has.
            if outcome.uncertainty is not None:
                data = replace(data, extras=with_uncertainty(data.extras, outcome.uncertainty))
            data = replace(data, extras=with_provenance(data.extras, record))
            for path in result_files(self._context.output_file):
                write_product(path, data)
        return result


def _saveable(product: Product) -> Product:
    """Return a product whose texts Ptychodus can save, which it does not if they are not UTF-8."""
    metadata = product.metadata
    metadata = replace(metadata, name=storable(metadata.name), comments=storable(metadata.comments))
    return replace(product, metadata=metadata)
