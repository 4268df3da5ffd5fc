"""Suites of evaluation tasks: their data, runs that go on, reports and comparisons."""
