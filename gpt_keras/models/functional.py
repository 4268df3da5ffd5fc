"""Functional Keras models whose layers are attributes from the start."""

import keras


class FunctionalModel(keras.Model):
    """A functional model whose constructor makes attributes first and its graph afterwards.

    Methods that use the attributes then make the graph, too. Keras allows this order on TensorFlow
    and JAX. Under the torch backend a model is a `torch.nn.Module`, which takes layers only after
    its own constructor has run, and forgets earlier ones there. Attributes that are set before are
    therefore kept outside of what the module knows; Keras finds the layers through the graph.
    """

    def __setattr__(self, name, value):
        if keras.backend.backend() == "torch" and "_modules" not in self.__dict__:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)
