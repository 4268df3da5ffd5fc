"""Evaluation tasks: descriptions, examples, records of a model, metrics."""
