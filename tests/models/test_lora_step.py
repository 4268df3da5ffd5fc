"""The compiled training step of a model with adapters, as XLA's optimized program."""

import re

import pytest
import tensorflow as tf

import gpt_keras as gk

LAYERS, WIDTH, INNER, VOCABULARY, RANK, BATCH, LENGTH = 2, 24, 88, 53, 3, 2, 7
TOKENS = BATCH * LENGTH


@pytest.fixture(scope="module")
def program():
    config = gk.GPTConfig(
        vocabulary_size=VOCABULARY,
        max_sequence_length=11,
        num_layers=LAYERS,
        num_heads=2,
        hidden_dim=WIDTH,
        intermediate_dim=INNER,
    )
    model = gk.GPTCausalLM(config)
    model.enable_lora(RANK)
    model.compile(weighted_metrics=[])
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda *data: model.train_step(data), jit_compile=True)
    ids = tf.zeros((BATCH, LENGTH), "int32")
    return step.experimental_get_compiler_ir(ids, ids)(stage="optimized_hlo")


@pytest.mark.xla
def test_a_step_has_no_gradient_of_a_frozen_weight(program):
    made = [
        match
        for line in program.splitlines()
        if (match := re.match(r"\s*(?:ROOT )?%?\S+ = \(?\w+\[([\d,]+)\]\S* ([\w-]+)\(", line))
        and match[2] not in ("parameter", "bitcast", "constant")
    ]
    shapes = {tuple(map(int, match[1].split(","))) for match in made}
    assert {(WIDTH, RANK), (RANK, WIDTH)} <= shapes  # the gradients of the factors
    kernels = {(WIDTH, WIDTH), (WIDTH, INNER), (VOCABULARY, WIDTH), (11, WIDTH)}
    frozen = kernels | {shape[::-1] for shape in kernels} | {(WIDTH,), (INNER,), (VOCABULARY,)}
    assert not shapes & frozen


@pytest.mark.xla
def test_a_step_has_the_matrix_products_that_it_needs(program):
    found = re.findall(r"= f32\[([\d,]+)\]\S* dot\(", program)
    count = {shape: found.count(shape) for shape in found}
    adapted = 2 * LAYERS
    # Forward: query, key, value, output, down and the second factors. Backward: the inputs of
    # these kernels and of `up`, of the first factors and of the logits. The inputs of the first
    # block need no gradient.
    forward = 5 * LAYERS + adapted
    backward = 5 * LAYERS - 3 + adapted - 2 + 1
    expected = {
        f"{TOKENS},{WIDTH}": forward + backward,
        f"{TOKENS},{INNER}": 2 * LAYERS,  # up, and the input of down
        f"{TOKENS},{VOCABULARY}": 1,
        f"{TOKENS},{RANK}": 2 * adapted,
        f"{WIDTH},{RANK}": adapted,
        f"{RANK},{WIDTH}": adapted,
    }
    assert {shape: count.get(shape) for shape in expected} == expected
    others = count.keys() - expected.keys()
    assert all(shape.startswith(f"{BATCH},2,") for shape in others), others  # of attention
