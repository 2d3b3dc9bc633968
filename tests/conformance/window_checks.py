"""What must be true of each story of the window, in any release."""

from __future__ import annotations

from typing import Any

__all__ = [
    'check_frameless',
    'check_looks',
    'check_models',
    'check_run',
    'check_trouble',
    'check_untrained',
    'check_wrong_data',
]

Report = dict[str, Any]


def check_run(report: Report) -> None:
    """Menu, train, watch, stop, go on, infer, save, open again."""
    assert {'ptychopinn_pinn', 'ptychopinn_supervised', 'ptychopinn_physics'} <= set(report['menu'])
    assert report['chosen'] == 'ptychopinn_pinn'
    # Infer waits for a product, and for nothing else.
    assert not report['infer_without_product']['enabled']
    assert report['infer_at_first'] == {'enabled': True, 'why_not': ''}
    assert 'Train: 64 patterns, 64×64, grid size 1: 32 patterns per epoch, roughly ' in report['panel']

    assert report['bar_while_training']
    assert '% ' in report['time_left'].replace(',', ' ')
    assert report['time_left'].endswith(' left')
    curves = report['plot_while_training']
    assert set(curves) == {'training', 'validation'}
    assert curves['training'][:2] == [1, 2]
    assert report['stopped_files'] == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']
    assert report['infer_after_stop'] == {'enabled': True, 'why_not': ''}
    assert 'nan' not in report['pane']

    assert 'Resuming after epoch' in report['pane']
    bar = report['bar_training']
    # Four epochs may be over between two looks.
    assert bar
    assert bar == sorted(bar)
    assert report['model_files'] == ['model.zip', 'wts.h5.zip']
    assert report['infer_enabled']['enabled']
    assert report['infer_text'] == 'Infer'
    last = [line for line in report['pane'].splitlines() if f'Epoch {report["epochs"]}/' in line]
    assert len(last) == 1
    assert ' per epoch on this CPU, at most ' in report['forecast']

    # Nothing moves when forecast, queue and quality change.
    assert report['places'] == report['places'][:1] * 3
    assert report['images'], 'no part of the object was shown'
    # Its comments and object are new, nothing else.
    assert report['probes_rebuilt'] == 0
    assert report['slow_work'] == []
    # What the garbage collector searches, relative to what it passes over.
    assert report['searched'] < 0.25
    assert report['tab'] == 1
    for word in ('Fit: deviance ', 'held out', 'Resolution: details of ', 'Uncertainty: '):
        assert word in report['quality']
    # A product that is opened has no pixel size before it is bound to its dataset.
    assert report['quality_reopened'].splitlines()[::2] == report['quality'].splitlines()[::2]
    assert report['map'][0].startswith('Uncertainty, ')
    assert 'sim_ptychopinn_pinn' in report['products']
    assert report['plot_of_result'] == [report['epochs']]
    assert ' on this CPU.' in report['forecast_of_inference']
    assert report['saved']
    assert report['reopened'].startswith('sim_ptychopinn_pinn')
    assert report['dialogs'] == []


def check_wrong_data(report: Report) -> None:
    """A file without patterns: a sentence in the pane and in a dialog, and nothing written."""
    lines = [line for line in report['bad_npz_pane'].splitlines() if '[ERROR] ptychopinn' in line]
    for sentence in (lines[-1], report['bad_npz_dialog']):
        for word in ('scan.npz', "'diffraction'", "'diff3d'"):
            assert word in sentence
    assert report['bad_npz_dialog'].startswith('Training failed.')
    assert report['bad_npz_files'] == ['scan.npz']


def check_trouble(report: Report) -> None:
    """Wrong data and settings: a sentence in the pane and in a dialog, and no product left."""
    absent = 'The model of the settings cannot be used. There is no model at /nowhere/model.zip'
    assert not report['infer_with_absent_model']['enabled']
    for text in (report['infer_with_absent_model']['why_not'], *report['absent_model']):
        assert absent in text
    assert f'Infer: {absent}' in report['infer_with_absent_model']['panel']
    assert report['absent_model'][0].startswith('Reconstruct Local: ')
    assert report['unloaded']['enabled']
    # DIR-08.
    assert not report['near_field']['enabled']
    assert 'The product says Near Field, which is not modelled' in report['near_field']['why_not']
    check_wrong_data(report)
    assert report['inference_products_kept']
    assert report['stop_at_start_files'] == []

    (dialog,) = report['bad_setting']
    assert 'PtychoPINNEngine.RefineMethod' in dialog
    assert report['failed_inference'].startswith('Inference failed. ')
    assert 'away.zip' in report['failed_inference']
    assert report['products_kept']

    assert report['exported']
    assert 'Training on the current product.' in report['continued_pane']
    assert 'on 192 patterns' in report['continued_pane'] or 'Scan 3: ' in report['continued_pane']
    assert report['export_trained'] == ['model.zip', 'scan.npz', 'wts.h5.zip']


def check_models(report: Report) -> None:
    """One sentence on each model, and Infer only for those that fit."""
    good = report['model']
    assert good['enabled']
    assert 'model.zip: cnn PINN network for 64×64 patterns, grid size 1, probe ' in good['panel']
    assert 'trained for 1 epoch by pytorch to deviance 2.5' in good['panel']

    other = report['other_probe']
    assert other['enabled']
    assert 'another probe than this product has' in other['panel']
    assert 'another probe than this product has' in other['pane'][0]

    size = report['other_size']
    assert not size['enabled']
    for text in (size['why_not'], size['panel'], size['pane'][0]):
        assert 'is for 32×32 patterns, but these are 64×64' in text

    assert 'ask for another network: gridsize 2 → 1' in report['other_network']['panel']
    assert report['adopted'] == 2

    (dialog,) = report['bad_model']
    assert 'bad.zip' in dialog
    assert report['saved']
    assert 'another probe' not in report['probe_turned']['before']
    assert 'another probe than this product has' in report['probe_turned']['after']
    unbound = report['without_patterns']
    assert not unbound['enabled']
    assert unbound['why_not'].endswith('has no diffraction dataset: choose one for it on the Products page.')
    assert report['presets']['fast'][0] < report['presets']['balanced'][0] < report['presets']['best'][0]
    assert report['presets']['balanced'] == [50, 25]
    assert report['presets']['after a change'] == 'custom'


PRIOR = 'the learned prior that comes with PtychoPINN'


def check_untrained(report: Report) -> None:
    """An image without training: said in advance, seen on the way, told afterwards."""
    prior, physics = report['prior'], report['physics']
    assert prior['button'] == ['Infer', True, f'Reconstruct the chosen product with {PRIOR}.']
    assert prior['forecast'].startswith(f'Infer: 64 patterns, with {PRIOR}: roughly ')
    assert f'None is loaded: "Infer" uses {PRIOR}, which needs no training' in prior['panel']
    assert prior['head'] == 'Now: Infer on sim.'
    assert f'Model: {PRIOR}' in prior['comments']
    assert f'[INFO] ptychopinn: Model: {PRIOR}.' in prior['pane']
    assert 'PtychoPINN with the learned prior' in prior['comments'] or 'left out' in prior['comments']
    assert report['forecast_after'].startswith(f'Infer: 64 patterns, with {PRIOR}: about ')

    assert physics['button'] == [
        'Reconstruct',
        True,
        'Reconstruct the chosen product by physics with total variation.',
    ]
    assert physics['forecast'].startswith('Reconstruct: 64 patterns, by physics with total variation')
    assert physics['head'] == 'Now: Reconstruct on sim.'
    assert 'Model: none; physics with total variation alone' in physics['comments']
    assert 'PtychoPINN by physics alone' in physics['comments']
    assert report['train'] == [
        False,
        'Train: Physics alone has no network to train; choose the algorithm PINN for one.',
    ]
    assert report['rows'] == ['Calibrate:', 'Refine probe:', 'Refine positions:', 'Backend:', 'Compute on:']
    for one in (prior, physics):
        assert one['bar'] == sorted(one['bar'])
        assert 'Fit: deviance ' in one['quality']
        assert 'held out' in one['quality']
        assert 'Uncertainty: ' in one['quality']
        assert one['map'].startswith('Uncertainty, ')
        assert one['contrast'] > 0.1

    assert report['queued'] == 'Now: Reconstruct on sim; then: Reconstruct on sim.'
    assert report['products_kept']
    assert 'is for 32×32 patterns' in report['loaded']['why_not']
    assert report['unloaded'] == {'enabled': True, 'why_not': ''}


def check_frameless(report: Report) -> None:
    """Neither framework: greyed with the command to type, and a run that ends at once with the same."""
    assert report['offered'] == {'pytorch': False, 'tensorflow': False}
    for word in ('pip install torch', 'tensorflow'):
        assert word in report['tool_tip']
    sentence = 'PyTorch backend selected but torch is not installed; run: pip install torch'
    assert report['training'] == f'Training failed. {sentence}'
    assert sentence in report['pane']
    assert report['inference'] == [f'Reconstruct Local: {sentence}']
    assert report['pane_after_inference'].count(sentence) == 2
    assert report['products_kept']
    assert report['files'] == []


def check_looks(report: Report) -> None:
    """Wheel, plots, the Object page, and a warning that is said once."""
    assert report['no_losses'] == 'sim: no losses'
    assert report['fields'] > 20
    assert report['fields_that_take_the_wheel'] == []
    assert report['field_that_was_clicked']

    assert report['out_of_sight']
    hidden, shown = report['texts_asked_for']
    # Its combo boxes ask too.
    assert hidden < shown / 5, (hidden, shown)
    assert all(width >= hint for width, hint in report['columns'])
    assert len({width for width, _ in report['columns']}) > 1
    assert report['drawn'] == [667, 500, 3.0]
    for key in ('drawn_elsewhere', 'drawn_by_ptychodus', 'drawn_for_a_product_that_is_gone'):
        assert report[key] == 1.0, key
    before, during, after = report['quality_in_a_run']
    assert (before, during) == (after, '')
    assert '1.25' in before

    for name in ('flat', 'steep'):
        assert report[f'{name}_labels_inside']
        assert report[f'{name}_epochs'] == [1, 2, 3, 4, 5, 6]
        assert len([text for text in report[f'{name}_ticks'] if text]) >= 3
        assert not any('\\times' in text or 'e' in text for text in report[f'{name}_ticks'])
    assert (report['flat_scale'], report['steep_scale']) == ('linear', 'log')
    assert report['legend'] == ['on simulated objects', 'on the scan', 'training', 'validation']
    assert report['plot_of_another_product'] == 'sim: no losses'
    assert report['served_at_once'] == ['first']
    assert report['served'] == ['first', 'second', 'third']
    # An idle timer fires once in each turn: more between two means that the window slept.
    assert min(report['turns_between_chores']) > 5, report['turns_between_chores']
    assert report['marked_texts'] >= 2
    assert report['formatted'] == []
    assert report['formatted_tips'] == []
    assert report['marked_tips']
    assert report['title'].startswith('<b>$')

    # Twice for two sizes, and again after a run; 1.5 has no such warning.
    assert report['warnings'] in ([1, 1, 2, 3], [0, 0, 0, 0])
