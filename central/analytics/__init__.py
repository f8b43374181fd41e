"""Pipelines: derived points and alerts from readings (none are served yet)."""
