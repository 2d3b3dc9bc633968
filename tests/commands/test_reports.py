"""evaluate, inspect, doctor and link: what they say and what they leave."""

import csv
import hashlib
import importlib
import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import ptycho_engine
from ptycho_engine import MemmapDatasetBridge
from ptycho_engine.commands import main
from ptycho_engine.commands.evaluate import unique
from ptycho_engine.commands.result_files import patterns_record
from ptycho_engine.commands.table import scores_table
from ptycho_engine.errors import DataValueError
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.formats.provenance import patterns_sha256
from ptycho_engine.reconstruction.evaluate import read_object
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.scoring.scores import scan_box, score

link = importlib.import_module('ptychopinn_ptychodus.link')


def test_evaluate_writes_table_and_figure(directory, result, tmp_path, capsys):
    out = tmp_path / 'scores'
    results = [result, result / 'reconstruction.npz']
    words = ['evaluate', *results, '--truth', directory / 'truth.h5', '--scan', directory, '--output', out]
    assert main([str(word) for word in words]) == 0
    rows = json.loads((out / 'scores.json').read_text())
    with (out / 'scores.csv').open() as stream:
        table = list(csv.DictReader(stream))
    assert [row['name'] for row in rows] == [row['name'] for row in table]
    assert len({row['name'] for row in rows}) == 2
    truth = read_product(directory / 'truth.h5')
    obj = read_product(result / 'product.h5').object_array[0]
    x, y = truth.positions_px()
    expected = score(truth.object_array[0], obj, scan_box(x, y, obj.shape))
    for row, line in zip(rows, table, strict=True):
        assert row['nrmse'] == pytest.approx(expected.nrmse, rel=1e-3)
        assert float(line['nrmse']) == row['nrmse']
        assert 0.1 < row['deviance'] < 50
        assert row['coverage'] > 0.99
        assert (out / f'{row["name"]}.png').read_bytes()[:4] == b'\x89PNG'
    printed = capsys.readouterr().out
    assert 'FRC50' in printed
    assert all(len(line) <= 80 for line in printed.splitlines()[:3])
    told = ' '.join(printed.split())
    assert 'odd/even FRC50 of the network' in told
    assert 'refined by' in told
    assert 'median uncertainty' in rows[0]['account']
    assert rows[1]['account'] == rows[0]['account']
    capsys.readouterr()
    assert main([*map(str, words), '--json']) == 0
    assert json.loads(capsys.readouterr().out) == rows


def test_result_01_and_08_the_arrays_of_a_result_say_how_they_came_about(result, model):
    with np.load(result / 'reconstruction.npz', allow_pickle=False) as arrays:
        results = json.loads(arrays['_metadata'].item())
    assert results['backend'] == 'pytorch'
    assert results['n_patterns'] == 49
    assert results['comments'] in read_product(result / 'product.h5').comments
    assert set(results['quality']) == {
        *(
            'deviance',
            'frc50',
            'coverage',
            'uncertainty',
            'refinement',
            'noise',
            'held_out',
            'far',
            'suspected',
            'likely',
            'only_with',
            'fix',
        )
    }
    history = load_archive(model).history
    assert results['loss_epochs'] == [1, 2] == [record['epoch'] for record in history]
    assert results['loss_values'] == [record['training_deviance'] for record in history]
    read = read_object(result / 'reconstruction.npz')
    assert read.losses == read_object(result / 'product.h5').losses != []


def test_losses_that_are_none_are_refused_in_one_sentence(tmp_path):
    metadata = json.dumps({'loss_epochs': [1, 2], 'loss_values': [0.5]})
    np.savez(tmp_path / 'x.npz', objectGuess=np.ones((8, 8), complex), _metadata=metadata)
    with pytest.raises(DataValueError, match=r'x\.npz: _metadata says loss_epochs = .* expected as many'):
        read_object(tmp_path / 'x.npz')


def test_the_patterns_judge_a_result_under_its_own_probe_and_positions(directory, result, tmp_path):
    """A refinement may change both; here object, positions and probe are moved and scaled together."""
    product = read_product(result / 'product.h5')
    moved = replace(
        product,
        object_array=np.roll(product.object_array, 2, axis=-1) / 2,
        position_x_m=product.position_x_m + 2 * product.object_pixel_width_m,
        probe=np.roll(product.probe, 1, axis=-2) * 2,
        position_y_m=product.position_y_m - product.object_pixel_height_m,
    )
    write_product(tmp_path / 'moved.h5', moved)
    words = ['evaluate', result / 'product.h5', tmp_path / 'moved.h5', '--truth', directory / 'truth.h5']
    assert main([str(word) for word in [*words, '--scan', directory, '--output', tmp_path]]) == 0
    first, second = json.loads((tmp_path / 'scores.json').read_text())
    assert second['deviance'] == pytest.approx(first['deviance'], rel=0.02)


def test_the_truth_scores_perfectly_against_itself(directory, tmp_path):
    truth = str(directory / 'truth.h5')
    assert main(['evaluate', truth, '--truth', truth, '--output', str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / 'scores.json').read_text())
    assert row['nrmse'] < 1e-3
    assert row['deviance'] is None


def test_evaluate_refuses_other_grids_and_files(directory, result, tmp_path, capsys):
    np.savez(tmp_path / 'other.npz', objectGuess=np.ones((40, 40), complex))
    np.savez(tmp_path / 'empty.npz', x=np.ones(3))
    cases = {
        'other.npz': 'compare objects on the same grid',
        'empty.npz': "lacks 'objectGuess'",
        'none.h5': 'there is no such file',
    }
    for name, words in cases.items():
        code = main(
            [
                'evaluate',
                str(tmp_path / name),
                '--truth',
                str(directory / 'truth.h5'),
                '--output',
                str(tmp_path),
            ]
        )
        error = capsys.readouterr().err
        assert code == 2
        assert words in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / 'scores.csv').exists()


def test_names_that_occur_more_than_once_get_numbers_that_are_free():
    assert unique(['a', 'b']) == ['a', 'b']
    assert unique(['a', 'b', 'A']) == ['a-1', 'b', 'A-2']
    assert unique(['a', 'a-1', 'a']) == ['a-2', 'a-1', 'a-3']


def test_a_table_leaves_out_what_nobody_has():
    text = '\n'.join(
        scores_table([{'name': 'a', 'nrmse': 0.1}, {'name': 'a rather long name', 'nrmse': None}])
    )
    first, a, b = text.splitlines()
    assert first.split() == ['NRMSE']
    assert a.split() == ['a', '0.100']
    assert b.split()[-1] == '-'
    assert len(a) == len(b)


def test_inspect_tells_with_what_and_how_well(model, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '110')
    assert main(['inspect', str(model)]) == 0
    text = capsys.readouterr().out
    for words in (
        'cnn, pinn, gridsize 1',
        '64×64',
        'counts in a pattern',
        'px apart',
        'pytorch',
        '2 of 2',
        'deviance',
    ):
        assert words in text
    assert 'n_groups=48' in text
    assert main(['inspect', str(model / 'wts.h5.zip'), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['config']['nepochs'] == 2
    assert len(report['history']) == 2
    (origin,) = report['trained_on']
    assert f'{origin["name"]} ({origin["identity"][:8]}): {origin["patterns"]} patterns' in text
    assert '/' not in origin['name']
    assert main(['inspect', str(model.parent)]) == 2
    assert 'wts.h5.zip' in capsys.readouterr().err


def test_doctor_prints_every_finding_and_its_verdict(directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    assert main(['doctor', '--data-only', str(directory)]) == 0
    text = capsys.readouterr().out
    assert str(directory) in text
    assert all(len(line) <= 80 for line in text.splitlines() if line != str(directory))
    assert main(['doctor', '--data-only', str(tmp_path / 'none.npz'), '--quiet']) == 1
    text = capsys.readouterr().out
    assert 'STOP' in text
    assert 'Correct what is marked STOP' in text


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / 'clone' / 'src' / 'ptychodus' / 'plugins'
    folder.mkdir(parents=True)
    (folder / '__init__.py').touch()
    return tmp_path / 'clone', folder / link.PLUGIN_FILE


def test_link_puts_the_plugin_into_a_clone_and_takes_it_away(clone, capsys):
    folder, target = clone
    words = ['link', '--ptychodus', str(folder)]
    assert main(words) == 0
    assert target.read_text() == link.plugin_source().read_text()
    assert main(words) == 0
    assert 'up to date' in capsys.readouterr().out
    target.write_text('something older')
    assert main(words) == 0
    assert target.read_text() == link.plugin_source().read_text()
    assert main([*words, '--remove']) == 0
    assert not target.exists()
    assert main([*words, '--remove']) == 0
    assert 'nothing to remove' in capsys.readouterr().out


def test_link_says_what_is_in_the_way(tmp_path, capsys, monkeypatch, clone):
    assert main(['link', '--ptychodus', str(tmp_path)]) == 2
    assert 'is no Ptychodus' in capsys.readouterr().err
    assert main(['link', '--python', '/bin/false']) == 2
    assert 'has no Ptychodus' in capsys.readouterr().err
    monkeypatch.setattr(link, '__file__', str(tmp_path / 'link.py'))
    assert main(['link', '--ptychodus', str(clone[0])]) == 2
    assert 'has lost its plugin file' in capsys.readouterr().err


def test_the_file_of_the_installation_is_not_taken_away(monkeypatch, tmp_path):
    target = tmp_path / link.PLUGIN_FILE
    target.write_text('x')
    monkeypatch.setattr(link, '_installed_files', lambda: iter([target]))
    with pytest.raises(link.LinkError, match='belongs to the installed package'):
        link.unlink(tmp_path)
    assert target.exists()


def test_gui_hands_its_words_to_ptychodus(monkeypatch, capsys):
    host = importlib.import_module('ptychopinn_ptychodus.commands')
    seen = []
    monkeypatch.setattr(host, 'gui_main', lambda words: seen.append(words) or 5)
    monkeypatch.setattr(host, 'why_not', lambda: None)
    assert main(['gui', '--', '--settings', 'x.ini']) == 5
    assert seen == [['--settings', 'x.ini']]
    monkeypatch.setattr(host, 'why_not', lambda: 'Ptychodus is not installed')
    assert main(['gui']) == 2
    assert 'Ptychodus is not installed; pip install' in capsys.readouterr().err


def test_gui_says_what_the_window_lacks(monkeypatch, capsys):
    from ptycho_engine.commands import gui

    host = importlib.import_module('ptychopinn_ptychodus.commands')
    monkeypatch.setattr(host, 'why_not', lambda: None)
    monkeypatch.setattr(host, 'gui_main', lambda words: pytest.fail('it was started'))
    monkeypatch.setattr(gui, 'WINDOW_TOOLKIT', 'no_such_toolkit')
    assert main(['gui']) == 2
    assert 'pip install "ptychodus[gui]"' in capsys.readouterr().err


def test_without_the_adapter_the_commands_say_so(monkeypatch, capsys):
    from ptycho_engine.commands import host

    monkeypatch.setattr(host.importlib.util, 'find_spec', lambda name: None)
    for command in ('gui', 'link'):
        assert main([command]) == 2
        assert 'ptychopinn_ptychodus is not installed' in capsys.readouterr().err


def test_result_11_a_result_says_how_it_came_about(directory, model, result, tmp_path, capsys):
    """Product, NPZ and CXI: version, settings, SHA-256 of model and data, host and times."""
    words = ['reconstruct', str(directory), '--model', str(model), '--refine-iterations', '0', '--seed', '7']
    assert main([*words, '--formats', 'cxi', '--output', str(tmp_path / 'r'), '--quiet']) == 0
    capsys.readouterr()
    records = []
    for name in ('', 'product.h5', 'reconstruction.npz', 'reconstruction.cxi'):
        assert main(['inspect', str(tmp_path / 'r' / name), '--json']) == 0
        records.append(json.loads(capsys.readouterr().out)['provenance'])
    record = records[0]
    assert all(other == record for other in records)

    def sha256(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert {found['name']: found['sha256'] for found in record['data']} == {
        name: sha256(directory / name) for name in ('diffraction.h5', 'product.h5')
    }
    assert record['model']['sha256'] == sha256(model / 'wts.h5.zip')
    assert record['patterns']['sha256'] == patterns_sha256(load_scan(directory).raw.diffraction)
    assert record['version'] == ptycho_engine.__version__
    assert record['settings']['InferenceConfig']['seed'] == 7
    assert record['host'] == socket.gethostname()
    begun, ended = (datetime.fromisoformat(record[name]) for name in ('started', 'ended'))
    assert begun <= ended <= datetime.now(UTC) + timedelta(seconds=1)
    assert main(['inspect', str(tmp_path / 'r')]) == 0
    told = ' '.join(capsys.readouterr().out.split())
    assert record['model']['sha256'] in told
    assert 'settings seed=7, refine_iterations=0' in told
    assert '--refine-iterations 0 --seed 7' in told


def test_result_11_patterns_in_our_own_files_are_not_read_once_more(directory, monkeypatch):
    scan = Scan.from_raw(MemmapDatasetBridge(directory / 'scan.npz').raw_data)
    expected = patterns_sha256(scan.raw.diffraction)
    record = patterns_record(scan, foreign=True)
    assert record['patterns']['sha256'] == expected
    monkeypatch.setattr(type(scan.raw.diffraction), '__getitem__', None)
    assert patterns_record(scan, foreign=False) == {}


def test_result_12_a_product_of_another_program_says_what_it_has(directory, capsys):
    assert main(['inspect', str(directory / 'truth.h5')]) == 0
    told = ' '.join(capsys.readouterr().out.split())
    assert 'made by not recorded' in told
    assert 'comments the true object of a simulated scan' in told


def test_evaluate_compares_results_without_a_truth(directory, result, tmp_path, capsys):
    """QUALITY-06: table, ring correlation with the half-bit line, and a figure."""
    product = read_product(result / 'product.h5')
    rng = np.random.default_rng(0)
    noise = 0.02 * (
        rng.normal(size=product.object_array.shape) + 1j * rng.normal(size=product.object_array.shape)
    )
    other = replace(product, object_array=product.object_array * np.exp(0.4j) + noise.astype(np.complex64))
    write_product(tmp_path / 'theirs.h5', other)
    words = ['evaluate', str(result), str(tmp_path / 'theirs.h5'), '--output', str(tmp_path / 'out')]
    assert main(words) == 0
    (row,) = json.loads((tmp_path / 'out' / 'scores.json').read_text())
    level = np.sqrt((np.abs(read_object(result).object_array[30:-30, 30:-30]) ** 2).mean())
    assert row['nrmse'] == pytest.approx(0.02 * np.sqrt(2) / level, rel=0.1)
    assert len(row['frequency']) == len(row['correlation']) == len(row['line'])
    assert (tmp_path / 'out' / 'theirs.png').stat().st_size > 10000
    told = capsys.readouterr().out
    assert 'half bit' in told
    assert 'half period' in ' '.join(told.split())
    capsys.readouterr()
    assert main([*words[:-1], str(tmp_path / 'again'), '--json']) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row['nrmse'] == json.loads((tmp_path / 'again' / 'scores.json').read_text())[0]['nrmse']
    assert main(['evaluate', str(result), '--output', str(tmp_path / 'none')]) == 2
    assert 'give --truth FILE, or a second result' in ' '.join(capsys.readouterr().err.split())
    assert main([*words, '--scan', str(directory)]) == 2
    assert '--scan has no effect without --truth' in capsys.readouterr().err
