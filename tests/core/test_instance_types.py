"""How many cores and GPUs an instance type has."""

from __future__ import annotations

import botocore.session
import pytest

from watcher.aws.instance_types import cores, gpus

# From EC2's pages on instance types.
KNOWN = [
    ("ml.t3.medium", 2, 0),
    ("ml.m5.large", 2, 0),
    ("ml.m5.xlarge", 4, 0),
    ("ml.c4.8xlarge", 36, 0),
    ("ml.c5.9xlarge", 36, 0),
    ("ml.m4.16xlarge", 64, 0),
    ("ml.c8i.96xlarge", 384, 0),
    ("ml.m7i-flex.2xlarge", 8, 0),
    ("ml.trn1.32xlarge", 128, 0),
    ("ml.p2.16xlarge", 64, 16),
    ("ml.p3.2xlarge", 8, 1),
    ("ml.p3.8xlarge", 32, 4),
    ("ml.p3dn.24xlarge", 96, 8),
    ("ml.p4d.24xlarge", 96, 8),
    ("ml.p5.48xlarge", 192, 8),
    ("ml.g4dn.xlarge", 4, 1),
    ("ml.g4dn.12xlarge", 48, 4),
    ("ml.g5.24xlarge", 96, 4),
    ("ml.g5.48xlarge", 192, 8),
    ("ml.g6e.16xlarge", 64, 1),
]


@pytest.mark.parametrize(("instance_type", "number_of_cores", "number_of_gpus"), KNOWN)
def test_cores_and_gpus_are_those_of_the_instance(instance_type, number_of_cores, number_of_gpus):
    assert (cores(instance_type), gpus(instance_type)) == (number_of_cores, number_of_gpus)


@pytest.mark.parametrize("instance_type", ["", "ml.future.metal", "m5.xlarge", "ml.m5"])
def test_what_is_not_known_is_not_guessed(instance_type):
    assert (cores(instance_type), gpus(instance_type)) == (None, None)


def test_the_gpus_of_a_new_family_are_not_guessed():
    assert gpus("ml.g99.xlarge") is None
    assert cores("ml.g99.xlarge") == 4


def test_every_training_instance_type_has_a_known_number_of_cores():
    sagemaker = botocore.session.get_session().get_service_model("sagemaker")
    types = sagemaker.shape_for("TrainingInstanceType").enum
    assert [each for each in types if cores(each) is None] == []
    assert {each for each in types if gpus(each)} <= {each for each in types if each[3] in "gp"}
