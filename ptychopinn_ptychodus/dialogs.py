"""Dialogs and tool tips with names of files and products in them, which are never taken for markup.

Qt guesses whether a text is HTML, and would then show ``<b>`` as bold and open the file of an ``<img>``.
"""

from __future__ import annotations

import textwrap
from typing import Any, cast

from ptychodus.controller.processing import core as ptychodus_page
from ptychodus.view.widgets import ExceptionDialog
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QLabel, QMessageBox, QWidget

from .settings import TIP_WIDTH
from .training_start import Question

__all__ = ['PlainExceptionDialog', 'ask', 'failure_dialog', 'plain_tip', 'use_plain_dialogs']


def plain_tip(text: str) -> str:
    """Return a tool tip that says `text` in lines of a good width, whatever characters there are in it."""
    text = textwrap.fill(text, TIP_WIDTH)
    qt: Any = Qt
    return str(qt.convertFromPlainText(text)) if qt.mightBeRichText(text) else text


def _make_plain(dialog: QMessageBox) -> None:
    """Have the texts of a dialog shown as they are; to be called after they were set."""
    for label in dialog.findChildren(QLabel):
        label.setTextFormat(Qt.TextFormat.PlainText)


class PlainExceptionDialog(ExceptionDialog):
    """Ptychodus' dialog of an exception, whose sentence may name a file."""

    def setText(self, text: str | None) -> None:
        """Show who has failed."""
        super().setText(text)
        _make_plain(self)

    def setInformativeText(self, text: str | None) -> None:
        """Show the sentence."""
        super().setInformativeText(text)
        _make_plain(self)


def use_plain_dialogs() -> None:
    """Let Ptychodus' Processing page show exceptions in plain text."""
    page: Any = ptychodus_page
    if page.ExceptionDialog is ExceptionDialog:
        page.ExceptionDialog = PlainExceptionDialog


def failure_dialog(parent: QWidget, run: str, sentence: str) -> QMessageBox:
    """Return a dialog that says why a run has failed and waits for nobody."""
    dialog = QMessageBox(QMessageBox.Icon.Critical, 'PtychoPINN', f'{run} failed.')
    dialog.setParent(parent.window(), dialog.windowFlags())
    dialog.setInformativeText(sentence)
    _make_plain(dialog)
    dialog.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    dialog.setModal(False)
    return dialog


def ask(parent: Any, question: Question) -> int:
    """Return the number of the user's answer, -1 for *Cancel*."""
    dialog = QMessageBox(QMessageBox.Icon.Question, 'PtychoPINN', question.text, parent=parent)
    dialog.setInformativeText(question.details)
    _make_plain(dialog)
    buttons = [dialog.addButton(text, QMessageBox.ButtonRole.AcceptRole) for text in question.answers]
    dialog.addButton(QMessageBox.StandardButton.Cancel)
    dialog.setDefaultButton(cast(Any, buttons[0]))
    dialog.exec_()
    clicked = dialog.clickedButton()
    return next((number for number, button in enumerate(buttons) if button is clicked), -1)
