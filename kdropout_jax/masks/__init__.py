"""Schedules, sampling and diagnostics of masks."""
