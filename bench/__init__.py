"""Measurements against baselines: `python -m bench`; see README.md."""
