"""Clips on demand: jobs that outlive the process, made by the engine beside the stages, and their files."""
