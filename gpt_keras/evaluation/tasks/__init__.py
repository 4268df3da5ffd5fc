"""Evaluation tasks: a description, its examples, the records of a model, the metrics."""
