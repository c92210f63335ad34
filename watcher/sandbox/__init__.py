"""A local SageMaker for the demo, for tests and for trying things. The daemon never imports it."""
