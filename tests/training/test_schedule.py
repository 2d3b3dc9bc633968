"""The schedules of specs/training.md."""

import math
from itertools import chain, pairwise

import pytest

from ptycho_engine.config import TrainingConfig
from ptycho_engine.config.inactive import IDLE_UNLESS, idle_settings
from ptycho_engine.config.training import SCHEDULERS
from ptycho_engine.training.schedule import Schedule


def rates_of(steps=10, losses=None, **options):
    """The rate of every step of a run, as a list for each epoch."""
    config = TrainingConfig(learning_rate=1e-2, **options)
    schedule = Schedule(config)
    rates = []
    for epoch in range(1, config.nepochs + 1):
        rates.append([schedule.rate(epoch, step, steps) for step in range(steps)])
        schedule.epoch_done(losses[epoch - 1] if losses else 1.0)
    return rates


def steps_of(**options):
    """The rate of every step of a run in one list."""
    return list(chain.from_iterable(rates_of(**options)))


def test_rate_05_settings_that_a_scheduler_does_not_look_at_are_named():
    changed = {
        'lr_warmup_epochs': 2.0,
        'lr_min_ratio': 0.3,
        'plateau_factor': 0.3,
        'plateau_patience': 3,
        'plateau_min_lr': 1e-6,
        'plateau_threshold': 0.1,
    }
    table = IDLE_UNLESS[TrainingConfig]
    assert set(changed) == {name for name, decider, _ in table if decider == 'scheduler'}
    for scheduler in SCHEDULERS:
        assert not list(idle_settings(TrainingConfig(scheduler=scheduler)))
        phrases = list(idle_settings(TrainingConfig(scheduler=scheduler, **changed)))
        assert all(phrase.endswith(f'no effect with scheduler {scheduler!r}') for phrase in phrases)
        idle = {phrase.split()[0] for phrase in phrases}
        # Those that are not idle change the rates.
        losses = [1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93]
        plain, *others = (
            rates_of(losses=losses, scheduler=scheduler, nepochs=8, **one)
            for one in ({}, *({name: value} for name, value in changed.items()))
        )
        still = {name for name, rates in zip(changed, others, strict=True) if rates == plain}
        assert idle <= still
        assert still - idle <= {'plateau_factor', 'plateau_patience', 'plateau_min_lr'}


def test_rate_01_the_default_is_constant():
    assert {rate for epoch in rates_of(scheduler='Default', nepochs=4) for rate in epoch} == {1e-2}


def test_rate_02_exponential_falls_by_equal_factors_to_the_last_rate():
    rates = steps_of(scheduler='Exponential', nepochs=5, lr_min_ratio=0.01)
    factors = [after / before for before, after in pairwise(rates)]
    assert factors == pytest.approx([0.01 ** (1 / 50)] * 49)
    assert rates[0] == 1e-2
    assert rates[-1] * factors[-1] == pytest.approx(1e-4)


def test_rate_03_cosine_warms_up_and_falls_to_the_last_rate():
    rates = steps_of(scheduler='WarmupCosine', nepochs=20, lr_min_ratio=0.02)
    # 5 % of 200 steps.
    assert rates[:10] == pytest.approx([1e-3 * k for k in range(1, 11)])
    assert max(rates) == pytest.approx(1e-2)
    assert rates[105] == pytest.approx(1e-2 * (0.02 + 0.98 / 2), rel=0.01)
    assert 2e-4 <= rates[-1] < 2.1e-4
    assert all(after <= before for before, after in pairwise(rates[10:]))


def test_rate_03_the_warm_up_has_the_length_that_was_asked_for():
    rates = steps_of(scheduler='WarmupCosine', nepochs=6, lr_warmup_epochs=2.5)
    assert rates[:25] == pytest.approx([1e-2 * k / 25 for k in range(1, 26)])
    assert rates[26] < 1e-2
    whole = steps_of(scheduler='WarmupCosine', nepochs=2, lr_warmup_epochs=2)
    assert whole[-1] == pytest.approx(1e-2)


def test_rate_04_plateau_lowers_the_rate_after_stale_epochs_and_counts_again():
    options = {'scheduler': 'ReduceLROnPlateau', 'nepochs': 9, 'plateau_patience': 2, 'plateau_factor': 0.1}
    losses = [3.0, 2.0, 2.5, 2.1, 1.9, 1.9, 1.9, 1.9, 1.9]
    rates = [epoch[0] for epoch in rates_of(losses=losses, **options)]
    assert rates == pytest.approx([1e-2] * 4 + [1e-3] * 3 + [1e-4] * 2)
    floor = [epoch[-1] for epoch in rates_of(losses=losses, plateau_min_lr=4e-4, **options)]
    assert floor[-1] == 4e-4
    # A fall of less than the threshold is not one.
    slow = [1.0 - 0.01 * k for k in range(9)]
    assert {epoch[0] for epoch in rates_of(losses=slow, **options)} == {1e-2}
    assert rates_of(losses=slow, plateau_threshold=0.05, **options)[-1][0] < 1e-2


def test_rate_04_the_state_goes_on_from_where_it_was():
    config = TrainingConfig(scheduler='ReduceLROnPlateau', plateau_patience=2)
    whole, first, second = Schedule(config), Schedule(config), Schedule(config)
    fresh = Schedule(config)
    fresh.restore(Schedule(config).state())
    for schedule in (whole, first, fresh):
        schedule.epoch_done(1.0)
        schedule.epoch_done(2.0)
    second.restore(first.state())
    assert all(math.isfinite(value) for value in first.state().values())
    for schedule in (whole, second, fresh):
        schedule.epoch_done(3.0)
        assert schedule.rate(4, 0, 10) == config.learning_rate / 2
