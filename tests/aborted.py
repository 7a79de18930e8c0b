"""A second try for tests that start torchrun, if one of its processes was aborted by torch itself.

On a quick machine with two tests side by side, 2 of about 60 launches ended with this message of the C++ runtime,
SIGABRT and no word of Python's, once in a process of `tgrpo train` and once in a plain script; 20 launches in a row
under load did not. A failure with any other message fails at once, and so does the second abort.
"""

from __future__ import annotations

import functools
import warnings

ABORTED = "terminate called without an active exception"


def second_try(test):
    """Runs a test again, with another ``tmp_path``, if a process was aborted."""

    @functools.wraps(test)
    def run(*, tmp_path, **fixtures):
        first, second = tmp_path / "first", tmp_path / "second"
        for folder in (first, second):
            folder.mkdir()
        try:
            test(tmp_path=first, **fixtures)
        except AssertionError as error:
            if ABORTED not in str(error):
                raise
            warnings.warn(f"{test.__name__}: a process of torchrun was aborted; trying again", stacklevel=2)
            test(tmp_path=second, **fixtures)

    return run
