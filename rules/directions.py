"""Whether a metric should rise or fall, by its name.

Where the names come from:

- SageMaker's XGBoost container (`XGB_MAXIMIZE_METRICS` and `XGB_MINIMIZE_METRICS` of `xgb_constants.py`),
  which minimises `interval-regression-accuracy`;
- XGBoost itself: `map@n`, `ndcg@n`, `pre@n`, `ams@t`, each also with a `-` at its end;
- Keras and TensorFlow: `auc_1`, `mean_io_u`, `top_k_categorical_accuracy`, `accuracy:0`. Keras numbers the
  second metric of a kind;
- scikit-learn (`neg_log_loss` rises), Lightning (`val_acc_epoch`), and what is usual for text, pictures and
  games.

The name may begin with the data that it was computed on (`train-`, `validation_0-`, `val_`, `test/`).
"""

from __future__ import annotations

import re
from enum import StrEnum


class Direction(StrEnum):
    """Which way a metric goes when a model gets better."""

    RISES = "rises"
    FALLS = "falls"


_BEGIN = r"(?:^|[^a-z0-9])"
"""A word begins: `validation-auc`, `val_auc`, `metrics/auc`."""
_END = (
    r"(?:[-_/. ](?:macro|micro|weighted|samples|binary|epoch|step|mean|avg|average|train|val|valid|validation"
    r"|test|eval))*"  # what a value was averaged over, or computed on: recall_macro, val_acc_epoch
    r"(?:_\d+)?"  # Keras: auc_1
    r"(?:@[\d.:-]+)?-?"  # XGBoost: map@5, map@5-, map-
    r"(?::\d+)?$"  # TensorFlow: accuracy:0
)

_FALLS_DESPITE_ITS_NAME = re.compile(_BEGIN + r"interval-regression-accuracy" + _END)

_RISES = re.compile(
    _BEGIN
    + r"""(?:
        acc(?:uracy)?\d* | top[-_]?\d+
        | (?:roc_?|pr_?)?auc | auc_?pr | au?roc | auprc
        | m?ap\d*(?:-\d+)? | mean_average_precision | pre(?:c(?:ision)?)?\d* | recall
        | ndcg | dcg | mrr | hit_?(?:rate|ratio) | hits
        | f_?\d?(?:[-_]?score)? | f_?beta(?:[-_]score)? | dice(?:_coef(?:ficient)?|_score)?
        | r_?2(?:[-_]score)? | r_squared | explained_variance(?:_score)?
        | ams
        | m?iou | io_u | jaccard(?:_score|_index)?
        | cosine_(?:similarity|proximity)
        | (?:sacre)?bleu(?:[-_]?\d|_score)? | rouge(?:[-_]?(?:\d|l|lsum|l_sum))? | meteor | chrf | cider
        | exact_match | em
        | mcc | matthews(?:_corrcoef|_correlation)? | (?:cohen_?s?_?)?kappa | qwk
        | pearsonr? | spearmanr? | correlation | mean_rho
        | sensitivity | specificity | (?:sensitivity_at_specificity|specificity_at_sensitivity)
        | true_(?:positives|negatives)(?:_rate)? | tpr | tnr
        | psnr | ssim | inception_score | c_?index | concordance(?:_index)?
        | reward | (?:episode_)?return
        | neg_[a-z_]{0,30}(?:error|loss|deviance|brier_score)
    )"""
    + _END,
    re.VERBOSE,
)

_FALLS = re.compile(
    r"loss|error|entropy|perplexity|deviance|divergence|nloglik|neg(?:ative)?_log_lik"
    r"|(?<![a-z])(?:err|r?mse|rmsle|s?mape|mae|mphe|mspe|msd|ssd|nll|ppl|wer|cer|eer|fid|fpr|fnr|brier|hinge|kld"
    r"|false_(?:positives|negatives))(?![a-z])"
)


def direction(metric: str) -> Direction | None:
    """None if the name says nothing about it, as that of a learning rate."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric).lower()  # MeanIoU, valAcc
    name = re.sub(r"\([^()]*\)$", "", name)  # YOLO: mAP50-95(B)
    if _FALLS_DESPITE_ITS_NAME.search(name):
        return Direction.FALLS
    if _RISES.search(name):
        return Direction.RISES
    return Direction.FALLS if _FALLS.search(name) else None


def rises(metric: str) -> bool:
    """Whether it should rise, so that it is not a loss. XGBoost's collection `losses` has some of these."""
    return direction(metric) is Direction.RISES


def falls(metric: str) -> bool:
    """Whether it should fall, as a loss or an error. False for a name that says nothing."""
    return direction(metric) is Direction.FALLS
