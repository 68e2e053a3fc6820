"""The error model.

A user sees one line: what is wrong, where (file:line, key), and the next command. Never a traceback, never a silent
default. Three things can go wrong, and each has its own place:

- **The user's input** (usage, config, data) or **a candidate that cannot start** (key, model, connection, extra,
  memory): raised as a `UserError` before money is spent. The command ends with status 2. Faults of one kind are gathered
  and reported all at once, one line each.
- **One row that failed** (refused, timed out, unparsable ...): not an exception at all but a `records.Failure`, a sibling
  of a prediction that stays in the denominator. See `records.FailureKind`.
- **A limit the user set** was reached (money, coverage) or the user pressed Ctrl-C: the run folder is valid, the summary
  says how far it got, and the command ends with the status of that case (5, 6, 130). `BudgetReached` unwinds the stages.

Whatever else is raised is our own fault: status 1, with the place of the log that holds the traceback.
Only cli.py turns exceptions into text and exit statuses.
"""

from __future__ import annotations

from collections.abc import Sequence

DONE = 0
INTERNAL = 1
USAGE = 2
FAILED = 3
UNDECIDED = 4
BUDGET = 5
COVERAGE = 6
INTERRUPTED = 130


class EvalftError(Exception):
    """Anything evalft tells the user in one line; `status` is the command's exit status."""

    status = INTERNAL


class UserError(EvalftError):
    """Usage, config or data is wrong. `faults` are the lines to show, each `where: what; next`."""

    status = USAGE

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults: Sequence[str] = faults


class CannotStart(UserError):
    """A candidate cannot be asked at all: missing key, unknown model, refused connection, missing extra, no memory."""


class BudgetReached(EvalftError):
    """The next request could cost more than is left of `limits.max_cost_usd`."""

    status = BUDGET
