"""Suites of evaluation tasks: data, runs, reports, comparisons."""
