"""Estimates, thresholds, costs and a training estimate (all arguments) -> a verdict. Pure: no file, no clock, no model.

Read `evidence.py` (what goes in), then `verdict.py` (the rules in order).
"""

from evalft.decision.evidence import Evidence, Setting, TrainingPlan
from evalft.decision.verdict import Decision, decide

__all__ = ["Decision", "Evidence", "Setting", "TrainingPlan", "decide"]
