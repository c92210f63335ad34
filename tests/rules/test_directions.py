"""Whether a metric should rise or fall, by its name."""

from __future__ import annotations

import pytest

from rules.directions import Direction, direction

MAXIMISED_BY_THE_CONTAINER = [
    *("accuracy", "auc", "aucpr", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "map", "ndcg"),
    *("precision", "precision_macro", "precision_micro", "r2", "recall", "recall_macro", "recall_micro"),
]
MINIMISED_BY_THE_CONTAINER = [
    *("aft-nloglik", "cox-nloglik", "error", "gamma-deviance", "gamma-nloglik"),
    *("interval-regression-accuracy", "logloss", "mae", "mape", "merror", "mlogloss", "mphe", "mse"),
    *("poisson-nloglik", "rmse", "rmsle", "tweedie-nloglik"),
]
"""The lists of SageMaker's XGBoost container."""

DATA = ("", "train-", "validation-", "validation_0-", "validation:", "val_", "test/")


@pytest.mark.parametrize("metric", MAXIMISED_BY_THE_CONTAINER)
def test_what_the_xgboost_container_maximises_rises(metric: str) -> None:
    assert {direction(data + metric) for data in DATA} == {Direction.RISES}


@pytest.mark.parametrize("metric", MINIMISED_BY_THE_CONTAINER)
def test_what_the_xgboost_container_minimises_falls(metric: str) -> None:
    assert {direction(data + metric) for data in DATA} == {Direction.FALLS}


@pytest.mark.parametrize(
    "metric",
    [
        *("map@5", "map@5-", "ndcg@10", "ndcg-", "pre@3", "ams@0.15"),  # XGBoost
        *("auc_1", "val_auc_1", "precision_1", "recall_3", "f1_score", "mean_io_u", "binary_io_u_2"),  # Keras
        *("cosine_similarity", "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy_1"),
        *("accuracy:0", "accuracy_1:0", "MeanIoU", "true_positives"),
        *("neg_log_loss", "neg_mean_squared_error", "test_roc_auc"),  # scikit-learn
        *("val_acc_epoch", "valAcc", "top5", "acc@1", "accuracy/train"),  # PyTorch
        *(
            "bleu",
            "bleu-4",
            "rouge",
            "eval/rouge1",
            "rougeL",
            "mAP50",
            "metrics/mAP50-95(B)",
            "val_dice_coef",
        ),
    ],
)
def test_a_metric_that_should_rise_is_known_in_its_many_spellings(metric: str) -> None:
    assert direction(metric) is Direction.RISES


@pytest.mark.parametrize(
    "metric",
    [
        *("merror@0.7", "error@0.5-", "tweedie-nloglik@1.5", "loss_1", "loss:0", "val_loss"),
        *("CrossEntropyLoss_output_0", "accuracy_loss", "auc_loss", "neg_log_likelihood", "val_RMSE", "wer"),
        *("false_positives", "categorical_hinge", "perplexity", "test:mean_wQuantileLoss", "error_rate"),
    ],
)
def test_a_loss_or_an_error_falls(metric: str) -> None:
    assert direction(metric) is Direction.FALLS


@pytest.mark.parametrize(
    "name", ["learning_rate", "epoch", "throughput", "trees/Node", "recalled", "map_layer/kernel", "relu_1"]
)
def test_other_names_say_nothing(name: str) -> None:
    assert direction(name) is None
