"""CloudWatch logs of training jobs and of rules: finds, follows and interprets them."""
