"""The parts of moto's other services that differ from AWS or are too slow."""
