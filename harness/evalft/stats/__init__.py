"""Intervals and tests: pure functions of arrays, each returning an `interval.Interval` with ends at any level."""
