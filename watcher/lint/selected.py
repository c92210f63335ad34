"""Whether there is anything among the saved tensors that the rule reads."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from watcher.lint.hook import Framework
from watcher.lint.subject import Check, Problem, Reason, Subject


def _unknown_collection(subject: Subject) -> Iterator[Problem]:
    known = subject.hook.built_in | set(subject.hook.configured)
    for name in dict.fromkeys(subject.collections):
        if name not in known:
            close = get_close_matches(name, sorted(known), n=1)
            sentence = (
                f"the job has no collection {name}, which smdebug takes for an empty one: nothing is read"
            )
            mend = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            yield Problem(Reason.UNKNOWN_COLLECTION, sentence, mend)


_LAYERS = {
    "DeadRelu": "tensor_regex",
    "SaturatedActivation": "tensor_regex",
    "NLPSequenceRatio": "tensor_regex",
    "CheckInputImages": "regex",
}
"""Rules that read inputs or outputs of layers, and the parameter that says which."""


def _collection_not_saved(subject: Subject) -> Iterator[Problem]:
    saved = ", ".join(sorted(subject.hook.saved))
    for name in dict.fromkeys(subject.collections):
        if not subject.hook.may_save(name):
            sentence = f"the rule reads the collection {name}, and the hook saves only {saved}"
            mend = f'add the collection to the hook: {{"CollectionName": "{name}"}}'
            yield Problem(Reason.COLLECTION_NOT_SAVED, sentence, mend)
    by_default = subject.name in _LAYERS and not subject.text(_LAYERS[subject.name])
    if by_default and not subject.collections and not subject.hook.may_save_layers():
        sentence = f"the rule reads the inputs or outputs of layers, and the hook saves only {saved}"
        mend = "add a collection with an include_regex that finds them to the hook"
        yield Problem(Reason.COLLECTION_NOT_SAVED, sentence, mend)


def _regex_is_a_number(subject: Subject) -> Iterator[Problem]:
    for name in dict.fromkeys(subject.collections):
        for regex in subject.hook.regexes(name):
            if regex.isdigit():
                sentence = f"include_regex of the collection {name} is {regex}, which finds no tensor"
                mend = f'"save_interval": "{regex}" was probably meant'
                yield Problem(Reason.REGEX_IS_A_NUMBER, sentence, mend)


_MXNET_NAMES = {
    ("CheckInputImages", "regex"): ".*hybridsequential0_input_0",
    ("NLPSequenceRatio", "tensor_regex"): ".*embedding0_input_0",
    ("DeadRelu", "tensor_regex"): ".*relu_output",
    ("SaturatedActivation", "tensor_regex"): ".*tanh_input|.*sigmoid_input",
    ("PoorWeightInitialization", "activation_inputs_regex"): ".*relu_input",
}
"""Rules whose default regex names tensors as MXNet does."""
_POSSIBLE_IN_PYTORCH = frozenset({"DeadRelu", "SaturatedActivation", "PoorWeightInitialization"})
"""PyTorch's tensors are called after the modules, and torchvision's ReLUs are indeed called `relu`."""


def _names_of_mxnet(subject: Subject) -> Iterator[Problem]:
    if subject.framework not in (Framework.TENSORFLOW, Framework.PYTORCH) or subject.collections:
        return
    if subject.framework is Framework.PYTORCH and subject.name in _POSSIBLE_IN_PYTORCH:
        return
    for (rule, parameter), default in _MXNET_NAMES.items():
        if rule == subject.name and subject.text(parameter) in ("", default):
            trains = f"the job trains with {subject.framework}"
            sentence = f"{parameter} is {default}, which is how MXNet calls tensors; {trains}"
            mend = f"set {parameter} to what {subject.framework} calls them, and save a collection of these"
            yield Problem(Reason.NO_TENSOR_MATCHES, sentence, mend)


def _mode_without_values(subject: Subject) -> Iterator[Problem]:
    mode = subject.text("mode").upper()
    xgboost = subject.framework is Framework.XGBOOST
    if subject.name == "LossNotDecreasing" and xgboost and mode in ("EVAL", "TRAIN"):
        sentence = f"mode is {mode}, and XGBoost's hook saves everything in mode GLOBAL"
        yield Problem(Reason.NO_VALUES_IN_MODE, sentence, 'leave out mode, or set it to "GLOBAL"')


CHECKS: tuple[Check, ...] = (
    _unknown_collection,
    _collection_not_saved,
    _regex_is_a_number,
    _names_of_mxnet,
    _mode_without_values,
)
