"""Scores of an object against another one."""
