"""Carries out what was decided: sends alerts (`outbox`, `channels`) and stops jobs (`stop`)."""
