"""Checks whether the hook saves any tensor that the rule reads.

What the hook's configuration does not say, a script may still do: it can make a collection, fill one that is
only named, or save any tensor (`save_all`, `save_tensor`). So collections are checked only where no script
runs, in SageMaker's own algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from watcher.lint.hook import Framework
from watcher.lint.subject import Check, Problem, Reason, Subject


def _unknown_collection(subject: Subject) -> Iterator[Problem]:
    if not subject.built_in_algorithm:
        return
    known = subject.hook.built_in | set(subject.hook.configured)
    for name in dict.fromkeys(subject.collections):
        if name not in known:
            close = get_close_matches(name, sorted(known), n=1)
            sentence = (
                f"the job has no collection {name}; smdebug takes it for an empty one, so nothing is read"
            )
            fix = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            yield Problem(Reason.UNKNOWN_COLLECTION, sentence, fix)


def _collection_not_saved(subject: Subject) -> Iterator[Problem]:
    if not subject.built_in_algorithm:
        return
    saved = ", ".join(sorted(subject.hook.saved))
    for name in dict.fromkeys(subject.collections):
        if not subject.hook.may_save(name):
            sentence = f"the rule reads the collection {name}, and the hook saves only {saved}"
            fix = f'add the collection to the hook: {{"CollectionName": "{name}"}}'
            yield Problem(Reason.COLLECTION_NOT_SAVED, sentence, fix)


def _regex_is_a_number(subject: Subject) -> Iterator[Problem]:
    if not subject.built_in_algorithm:
        return
    for name in dict.fromkeys(subject.collections):
        for regex in subject.hook.regexes(name):
            if regex.isdigit():
                sentence = f"include_regex of the collection {name} is {regex}, which finds no tensor"
                fix = f'"save_interval": "{regex}" was probably meant'
                yield Problem(Reason.REGEX_IS_A_NUMBER, sentence, fix)


def _names_of_mxnet(subject: Subject) -> Iterator[Problem]:
    names = subject.mxnet_names
    if names is None or subject.collections or subject.text(names.parameter) not in ("", names.default):
        return
    fits = (Framework.PYTORCH,) if names.fits_pytorch else ()
    if subject.framework in {Framework.TENSORFLOW, Framework.PYTORCH}.difference(fits):
        trains = f"the job trains with {subject.framework}"
        sentence = f"{names.parameter} is {names.default}, as MXNet names tensors; {trains}"
        fix = f"set {names.parameter} to the names of {subject.framework}, and save a collection of these"
        yield Problem(Reason.NO_TENSOR_MATCHES, sentence, fix)


def _mode_without_values(subject: Subject) -> Iterator[Problem]:
    mode = subject.text("mode").upper()
    if subject.rule and subject.framework is Framework.XGBOOST and mode in ("EVAL", "TRAIN"):
        sentence = f"mode is {mode}, and XGBoost's hook saves everything in mode GLOBAL"
        yield Problem(Reason.NO_VALUES_IN_MODE, sentence, 'remove mode, or set it to "GLOBAL"')


CHECKS: tuple[Check, ...] = (
    _unknown_collection,
    _collection_not_saved,
    _regex_is_a_number,
    _names_of_mxnet,
    _mode_without_values,
)
