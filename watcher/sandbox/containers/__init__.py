"""What runs in place of SageMaker's images, each a program: `python -m … JOB.json`."""
