"""What to do about a finding: one or two sentences for the person who reads the alert.

The sentences on built-in rules say what usually makes that rule fire; those on failures follow the prefixes
that SageMaker gives to `FailureReason`.
"""

from __future__ import annotations

from watcher.model import Finding, FindingKind, JobSnapshot

_RULE_ISSUES = {
    "AllZero": "Most values of these tensors are zero: look for a layer that got no input or no gradient.",
    "BatchSize": "The GPU is underused with this batch size: raise it, or take a smaller instance.",
    "CPUBottleneck": "The GPU waits for the CPU: add data loader workers, or prepare the data beforehand.",
    "CheckInputImages": "Normalise the input images: their mean is far from zero.",
    "ClassImbalance": "Balance the classes: resample, or weight the loss.",
    "Confusion": "The model mixes up classes: look at the labels and at the classes it confuses.",
    "CreateXgboostReport": "Read xgboost_report.html in the rule's output under the job's S3 output path.",
    "Dataloader": "Loading the data is slow: use as many workers as there are CPUs, and pin memory.",
    "DeadRelu": "Many ReLU units never fire: lower the learning rate, or use a leaky ReLU.",
    "ExplodingTensor": "NaN or infinity appeared: lower the learning rate, clip gradients, check the inputs.",
    "FeatureImportanceOverweight": "A few features carry the model: check them for leakage from the label.",
    "GPUMemoryIncrease": "GPU memory keeps growing: look for tensors kept across steps.",
    "IOBottleneck": "The GPU waits for input: use Fast File or Pipe mode, prefetching, or larger files.",
    "LoadBalancing": "The GPUs are loaded unevenly: check how the batches are spread over them.",
    "LossNotDecreasing": "The loss stopped falling: check the learning rate and the data, or stop and keep "
    "the best model so far.",
    "LowGPUUtilization": "The GPU idles: check data loading and batch size, or take a smaller instance.",
    "MaxInitializationTime": "Starting took long: check the download and the work before the first step.",
    "NLPSequenceRatio": "One token fills much of the sequences: shorten the padding, or sort by length.",
    "OverallSystemUsage": "Read profiler-report.html in the rule's output under the job's S3 output path.",
    "Overfit": "The model learns the training data by heart: stop here, regularise, or add data.",
    "Overtraining": "More training brings nothing: stop here and keep the best model so far.",
    "PoorWeightInitialization": "The weights start badly: use Xavier or Kaiming initialisation.",
    "ProfilerReport": "Read profiler-report.html in the rule's output under the job's S3 output path.",
    "SaturatedActivation": "Activations are saturated: lower the learning rate, or normalise the inputs.",
    "SimilarAcrossRuns": "The tensors equal those of the other run: check that this run really differs.",
    "StalledTrainingRule": "Nothing was saved for long: look for a hung data loader or a lost worker.",
    "StepOutlier": "Some steps take much longer than others: look for checkpoints and uneven batches there.",
    "TensorVariance": "The variance left its bounds: check the initialisation and the learning rate.",
    "TreeDepth": "The trees grow deep: lower max_depth, or raise min_child_weight and gamma.",
    "UnchangedTensor": "These tensors no longer change: check that they are trained and not frozen.",
    "VanishingGradient": "Gradients vanish: use other activations, normalisation or skip connections.",
    "WeightUpdateRatio": "Weights change too much or too little a step: adjust the learning rate.",
}

_RULE_ERRORS = (
    (
        "No debugging data was saved",
        "The hook saved nothing. Check that the job has a DebugHookConfig with the collections this rule "
        "reads, that save_interval is smaller than the number of steps, and that Debugger supports the "
        "framework and its version in this image (in script mode the hook must be set up in the script).",
    ),
    (
        "AccessDenied",
        "The job's role may not read the debug output: allow s3:GetObject and s3:ListBucket on it.",
    ),
    ("InternalServerError", "This is SageMaker's fault, not the job's: the rule is not evaluated this time."),
    ("InternalError", "This is SageMaker's fault, not the job's: the rule is not evaluated this time."),
    (
        "ClientError",
        "The rule's own settings are at fault: check its parameters, and the names of collections and "
        "tensors, against the rule's documentation.",
    ),
)
_RULE_ERROR = (
    "The job trains on without this rule. The log of the rule's processing job says why it ended: check the "
    "rule's parameters and the collections it reads."
)

_UNEVALUATED = (
    "Nobody watches this job for what the rule looks for: check the collections, their save_interval and the "
    "rule's parameters, or the next job runs unwatched too."
)
_DIVERGENCE = (
    "One of the two is wrong, or they saw different tensors: compare the values above with the end of the "
    "rule's log, and trust neither before that."
)

_FAILURES = (
    (
        "exit code: 137",
        "The container was killed, most often for want of memory: use a larger instance or smaller batches.",
    ),
    (
        "CapacityError",
        "AWS has none of these instances now: try again later, another instance type, or another region.",
    ),
    (
        "ResourceLimitExceeded",
        "The account's quota for this instance type is used up: ask for more in Service Quotas.",
    ),
    (
        "InternalServerError",
        "This is SageMaker's fault, not the job's: start it again, and ask AWS Support if it stays.",
    ),
    (
        "ClientError",
        "The request or its data are at fault: check the S3 paths of the channels, the role's permissions "
        "on them, and the hyperparameters.",
    ),
    (
        "AlgorithmError",
        "The training code ended with an error: the end of the training log has its traceback.",
    ),
)
_FAILURE = "The end of the training log usually says why."

_STOPS = {
    "MaxRuntimeExceeded": "The job used up MaxRuntimeInSeconds: raise it, and use checkpoints so that the "
    "next run goes on from here.",
    "MaxWaitTimeExceeded": "No spot capacity came within MaxWaitTimeInSeconds: raise it, or use on-demand "
    "instances.",
    "Interrupted": "AWS took the spot instance back: use checkpoints, so that the next run goes on.",
}
_STOP = "Somebody, or something other than Watcher, stopped it: CloudTrail (StopTrainingJob) tells who."


_STUCK = (
    "Do not rely on this rule until its log says more. Watcher's own evaluation of it goes on where it is on."
)


def advice(finding: Finding, snapshot: JobSnapshot | None) -> str:
    """Empty where there is nothing to do."""
    match finding.kind:
        case FindingKind.RULE_ISSUE:
            return _RULE_ISSUES.get(built_in_rule(finding, snapshot), "")
        case FindingKind.RULE_ERROR:
            return _first_in(_RULE_ERRORS, finding.reason) or _RULE_ERROR
        case FindingKind.RULE_UNEVALUATED:
            return _UNEVALUATED
        case FindingKind.DIVERGENCE:
            return _DIVERGENCE
        case FindingKind.RULE_STUCK:
            return _STUCK
        case FindingKind.RULE_DEFECT:
            return ""
        case FindingKind.JOB_FAILED:
            return _first_in(_FAILURES, finding.reason) or _FAILURE
        case FindingKind.JOB_STOPPED:
            return _STOPS.get(snapshot.secondary_status if snapshot else "", _STOP)
        case FindingKind.JOB_COMPLETED:
            return ""


def built_in_rule(finding: Finding, snapshot: JobSnapshot | None) -> str:
    """The built-in rule behind the name its owner gave it, as far as the configuration is known."""
    name = finding.rule or ""
    configured = snapshot.rule(name, finding.source) if snapshot and finding.source else None
    return configured.invokes if configured else name


def _first_in(sentences: tuple[tuple[str, str], ...], reason: str) -> str:
    return next((sentence for sign, sentence in sentences if sign in reason), "")
