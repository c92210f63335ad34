"""Debugger's documented built-in rules, evaluated locally."""
