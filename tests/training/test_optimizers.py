import keras
import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk


def decayed(model, optimizer):
    """Paths of the variables that a step with gradient 0 makes smaller."""
    optimizer.build(model.trainable_variables)
    before = {v.path: np.array(v) for v in model.trainable_variables}
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply_gradients([(np.zeros(v.shape), v) for v in model.trainable_variables])
    paths = {v.path for v in model.trainable_variables if not np.all(np.array(v) == 1)}
    for variable in model.trainable_variables:
        variable.assign(before[variable.path])
    return paths


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_only_kernels_are_decayed(norm):
    model = gk.GPT(tiny_config(norm=norm, tie_embeddings=False))
    paths = decayed(model, gk.training.adamw(1e-2, warmup_steps=0, weight_decay=0.5))
    kernels = {v.path for v in model.trainable_variables if v.name == "kernel"}
    assert paths == kernels | {"token_embedding/reverse_embeddings"}
    assert len(kernels) == 2 * 6


def test_exclusions_outlive_saving():
    model = gk.GPT(tiny_config())
    optimizer = gk.training.adamw(1e-2, warmup_steps=0, weight_decay=0.5)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == optimizer.get_config()
    assert decayed(model, copy) == decayed(model, optimizer)


def rates(optimizer, steps):
    schedule = optimizer._learning_rate
    return [float(schedule(step)) if callable(schedule) else float(schedule) for step in steps]


def test_warm_up_then_constant():
    optimizer = gk.training.adamw(1e-3, warmup_steps=10)
    assert rates(optimizer, [0, 5, 10, 11, 5000]) == pytest.approx([1e-4, 5.5e-4, 1e-3, 1e-3, 1e-3])


def test_warm_up_then_cosine():
    optimizer = gk.training.adamw(1e-3, warmup_steps=10, total_steps=110)
    middle = 1e-4 + (1e-3 - 1e-4) * (1 + np.cos(np.pi / 4)) / 2  # a quarter of the way down
    assert rates(optimizer, [0, 10, 35, 110, 500]) == pytest.approx(
        [1e-4, 1e-3, middle, 1e-4, 1e-4], rel=1e-4
    )


def test_constant_and_plain_cosine():
    assert rates(gk.training.adamw(1e-3, warmup_steps=0), [0, 9]) == pytest.approx([1e-3, 1e-3])
    cosine = gk.training.adamw(1e-3, warmup_steps=0, total_steps=10, final_learning_rate=5e-4)
    assert rates(cosine, [0, 5, 10]) == pytest.approx([1e-3, 7.5e-4, 5e-4])


def test_gradients_are_clipped_to_their_global_norm():
    variable = keras.Variable(np.zeros(2), name="kernel")
    optimizer = gk.training.adamw(1.0, warmup_steps=0, beta_1=0.0, weight_decay=0.0)
    optimizer.build([variable])
    optimizer.apply_gradients([(np.array([30.0, 40.0]), variable)])
    # AdamW keeps the squares of what it saw: 0.05 x (0.6^2, 0.8^2), after clipping 50 to 1.
    squares = next(np.array(v) for v in optimizer.variables if v.name.endswith("velocity"))
    np.testing.assert_allclose(squares, 0.05 * np.array([0.36, 0.64]), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate.*0"),
        ({"warmup_steps": -1}, "warmup_steps.*-1"),
        ({"warmup_steps": 10, "total_steps": 10}, "total_steps.*above.*10"),
        ({"weight_decay": -0.1}, "weight_decay.*-0.1"),
        ({"beta_2": 1.0}, "beta_2"),
        ({"global_clipnorm": 0}, "global_clipnorm"),
        ({"final_learning_rate": 1e-5}, "needs `total_steps`"),
        ({"weight_decay": float("nan")}, "weight_decay.*nan"),
        ({"warmup_steps": 2.5}, "warmup_steps.*2.5"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        gk.training.adamw(**arguments)
