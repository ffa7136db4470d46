"""What the tests of solvers share."""

import signal

import pytest


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Shells start background jobs with SIGINT ignored, which every test would inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
