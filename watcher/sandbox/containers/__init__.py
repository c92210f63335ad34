"""The programs that run in place of SageMaker's images: `python -m … JOB.json`."""
