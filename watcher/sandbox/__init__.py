"""A local SageMaker for the demo, for tests and for trying things. The daemon never imports it.

`server` runs moto's server. Modules named after a service (`sagemaker_api`, `dynamodb`, `iam`, `logs`,
`metrics`, `sqs`) replace the parts of moto that differ from AWS or are too slow. `training_job`, `rule_jobs`,
`events`, `search` and `listing` are pure; `runners` run the jobs, in the programs of `containers`.
"""
