"""Schedules, sampling and diagnostics of masks."""

__all__ = (
  "diagnostics",
  "guided",
  "sampling",
  "schedules",
)
