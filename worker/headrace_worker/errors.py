"""What can go wrong before a worker takes its first job."""

from __future__ import annotations


class CannotStart(Exception):
    """The worker cannot start; the message is for people, and says what to change."""
