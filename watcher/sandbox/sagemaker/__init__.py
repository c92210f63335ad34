"""SageMaker's API, in place of moto's: jobs, search, experiments, lineage."""
