"""One line that says what a run with the present settings will do, and how long that will take."""

from __future__ import annotations

from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.errors import EngineError

from .choices import computes_on
from .loaded_model import LoadedModel, ScanFacts
from .readiness import scan_obstacle, training_obstacle
from .reference_speeds import (
    groups_per_epoch,
    guessed_inference,
    guessed_solution,
    guessed_training,
    steps_per_epoch,
)
from .settings import ReconstructorSettings
from .speeds import SpeedBook, inference_key, refinement_key, solution_key, start_key, training_key

__all__ = ['inference_forecast', 'spoken_time', 'training_forecast']


def training_forecast(
    settings: ReconstructorSettings,
    model_type: str,
    scan: ScanFacts | None,
    speeds: SpeedBook,
    why_no_scan: str = 'Choose a product.',
) -> str:
    """Return what a training on the chosen product will do, or why it cannot be done."""
    obstacle = training_obstacle(settings, model_type, scan, why_no_scan)
    if obstacle or scan is None:
        return f'Train: {obstacle or why_no_scan}'
    config, execution = settings.training_config(model_type), settings.execution_config()
    data = settings.train_on()
    if data == 'folder':
        return 'Train: on the scans in the folder that you choose then.'
    gridsize = config.model.gridsize
    groups = groups_per_epoch(config, scan.n)
    unit = f'sets of {gridsize}×{gridsize} patterns' if gridsize > 1 else 'patterns'
    alone = data == 'simulation'
    line = (
        f'Train: {"simulated objects in place of " * alone}{scan.n} patterns, {scan.height}×{scan.width}, '
        f'grid size {gridsize}: '
        f'{groups} {unit} per epoch'
    )
    modes = 1 if scan.probe is None else len(scan.probe)
    step = speeds.seconds(training_key(config, scan.width, execution, modes))
    where = computes_on(config.backend, execution.accelerator)
    if step is None:
        machine = speeds.machine()
        if machine is None:
            return f'{line}; how long an epoch takes on this {where} is measured in the first run.'
        whole = guessed_training(config, scan.width, scan.n, machine)
        return f'{line}, {_roughly(whole, where)} for {config.nepochs} epochs.'
    epoch = step * steps_per_epoch(config, scan.n)
    return (
        f'{line}, about {spoken_time(epoch)} per epoch on this {where}, at most '
        f'{spoken_time(epoch * config.nepochs)} for {config.nepochs} epochs.'
    )


def inference_forecast(
    settings: ReconstructorSettings,
    model: LoadedModel | None,
    scan: ScanFacts | None,
    speeds: SpeedBook,
    why_no_scan: str = 'Choose a product.',
    why_no_model: str = '',
) -> str:
    """Return what a reconstruction of the chosen product with a model will do, or why it cannot be done."""
    if scan is None:
        return why_no_scan
    if model is None:
        return why_no_model
    obstacle = scan_obstacle(scan, any_size=model.of_objects) or model.why_unusable(scan)
    if obstacle:
        return obstacle
    try:
        config = settings.inference_config(refines=not model.of_objects)
        execution = settings.execution_config()
    except EngineError as error:
        return str(error)
    where = computes_on(config.backend, execution.accelerator)
    if model.of_objects:
        return _solution_forecast(model, config, execution, scan, speeds)
    iterations = config.refine_iterations
    line = f'{scan.n} patterns' + (f', then at most {iterations} refinement iterations' if iterations else '')
    modes = 1 if scan.probe is None else len(scan.probe)
    network = (model.config.model, config, execution, modes)
    start = speeds.seconds(start_key(*network))
    rest = max(scan.n - config.batch_size * model.config.model.gridsize**2, 0)
    pattern = speeds.seconds(inference_key(*network)) if rest else 0.0
    iteration = speeds.seconds(refinement_key(scan.width, config, execution, modes)) if iterations else 0.0
    if start is None or pattern is None or iteration is None:
        machine = speeds.machine()
        if machine is None:
            return f'{line}; how long that takes on this {where} is measured in the first run.'
        return f'{line}: {_roughly(guessed_inference(model.config.model, config, scan.n, machine), where)}.'
    seconds = start + rest * pattern + scan.n * iterations * iteration
    return f'{line}: about {spoken_time(seconds)} on this {where}.'


def _solution_forecast(
    model: LoadedModel,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
    scan: ScanFacts,
    speeds: SpeedBook,
) -> str:
    """Return what a solution from a flat object, which needs no training, will do."""
    line = f'{scan.n} patterns, by physics with total variation'
    if model.config.model.architecture == 'prior':
        line = f'{scan.n} patterns, with {model.name}'
    where = computes_on(config.backend, execution.accelerator)
    modes = 1 if scan.probe is None else len(scan.probe)
    start = speeds.seconds(start_key(model.config.model, config, execution, modes))
    pattern = speeds.seconds(solution_key(model.config.model, scan.width, config, execution, modes))
    if start is not None and pattern is not None:
        return f'{line}: about {spoken_time(start + scan.n * pattern)} on this {where}{_longer(config)}.'
    machine = speeds.machine()
    if machine is None:
        return f'{line}; how long that takes on this {where} is measured in the first run.'
    guess = guessed_solution(model.config.model, scan.width, scan.n, modes, machine)
    return f'{line}: {_roughly(guess, where)}{_longer(config)}.'


def _longer(config: InferenceConfig) -> str:
    """Return that a calibration takes its time, where one may be."""
    return ', many times that where the scan has to be corrected' if config.calibrated_parts else ''


def _roughly(seconds: float, where: str) -> str:
    """Return a guess as one would say it; it is a CPU's."""
    if where == 'GPU':
        return f'less than {spoken_time(seconds)}, which a CPU would take (the first run measures this GPU),'
    return f'roughly {spoken_time(seconds)} on this CPU (a guess until the first run has measured it)'


def spoken_time(seconds: float) -> str:
    """Return a time as one would say it: '0.4 s', '40 s', '12 min', '3.5 h', never broken over two lines."""
    if seconds < 9.95:
        text = f'{max(seconds, 0.1):.1f} s'
    elif seconds < 90:
        text = f'{seconds:.0f} s'
    elif seconds < 5400:
        text = f'{seconds / 60:.0f} min'
    else:
        text = f'{seconds / 3600:.1f} h'
    return text.replace(' ', '\N{NO-BREAK SPACE}')
