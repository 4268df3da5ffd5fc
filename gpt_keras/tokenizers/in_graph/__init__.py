"""Tokenizers as Keras layers made of plain TensorFlow ops.

They do the work of the Python tokenizers inside a graph: in a `tf.data` pipeline, in a model, or in
a SavedModel that is served without Python. Only SentencePiece's layer needs an op of
tensorflow-text.
"""
