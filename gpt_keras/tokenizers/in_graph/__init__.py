"""Tokenizers as Keras layers made of plain TensorFlow ops.

They do what the tokenizers in Python do, inside a graph: in a `tf.data` pipeline, in a model, in
a SavedModel that is served without Python. Only SentencePiece's needs an op of tensorflow-text.
"""
