import random

import keras
import numpy as np
import pytest
from tiny_models import tiny_config, with_a_bad_token

import gpt_keras as gk


def decayed(model, optimizer):
    """Paths of the variables that a step with gradient 0 makes smaller."""
    optimizer.build(model.trainable_variables)
    before = {v.path: np.array(v) for v in model.trainable_variables}
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply_gradients(
        [(np.zeros(v.shape, "float32"), v) for v in model.trainable_variables]
    )
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


def step(optimizer, variable, gradient):
    optimizer.apply_gradients([(np.asarray(gradient, "float32"), variable)])


def test_a_schedule_counts_updates_and_not_batches():
    variable = keras.Variable(np.zeros(2), name="kernel")
    optimizer = gk.training.adamw(
        1e-3, warmup_steps=4, total_steps=10, gradient_accumulation_steps=3
    )
    optimizer.build([variable])
    plain = rates(gk.training.adamw(1e-3, warmup_steps=4, total_steps=10), range(4))
    for batch in range(12):
        assert float(optimizer.learning_rate) == pytest.approx(plain[batch // 3])
        step(optimizer, variable, np.ones(2))


def rows_of(number, seed=0):
    rows = np.random.default_rng(seed).integers(32, size=(number, 13)).astype("int32")
    return rows[:, :-1], rows[:, 1:]


@pytest.mark.slow
@pytest.mark.parametrize("make", [gk.training.adamw, gk.training.muon])
def test_accumulated_batches_are_one_large_batch(make):
    def trained(batch_size, steps):
        random.seed(0)
        model = gk.GPTCausalLM(tiny_config(num_layers=1))
        optimizer = make(1e-2, warmup_steps=3, weight_decay=0.1, gradient_accumulation_steps=steps)
        # The large batches are the reference, which needs no compilation.
        model.compile(optimizer, weighted_metrics=[], run_eagerly=steps is None)
        model.fit(*rows_of(36), batch_size=batch_size, shuffle=False, verbose=0)
        return model.trainable_variables

    for one, other in zip(trained(12, None), trained(4, 3), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=one.path)


def test_accumulated_batches_of_unequal_token_counts_are_one_large_batch():
    x, y = rows_of(24)
    weights = (np.arange(12) < np.arange(24)[:, None] % 12 + 1).astype("float32")
    weights[4:8] = 0  # a batch without any token

    def trained(batch_size, steps):
        random.seed(0)
        model = gk.GPTCausalLM(tiny_config(num_layers=1))
        optimizer = gk.training.adamw(
            1e-2,
            warmup_steps=3,
            gradient_accumulation_steps=steps,
            use_ema=True,
            ema_momentum=0.5,
            skip_above=100.0,
        )
        model.compile(optimizer, weighted_metrics=[], run_eagerly=steps is None)
        model.fit(x, y, sample_weight=weights, batch_size=batch_size, shuffle=False, verbose=0)
        assert int(optimizer.iterations) == 2
        return model.trainable_variables

    for one, other in zip(trained(12, None), trained(4, 3), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=one.path)


def test_a_skipped_batch_does_not_count_in_an_accumulated_update():
    variable = keras.Variable(np.zeros(2), name="kernel")
    optimizer = gk.training.adamw(
        1.0, warmup_steps=0, beta_1=0.0, skip_above=10.0, gradient_accumulation_steps=2
    )
    optimizer.build([variable])
    for weight, gradient in ((1, [0.2, 0.0]), (5, [np.nan, 0.0]), (3, [0.6, 0.0])):
        optimizer.weigh(weight)
        step(optimizer, variable, gradient)
    assert (int(optimizer.iterations), float(optimizer.num_skipped)) == (1, 1)
    # AdamW keeps the squares of what it saw: (0.2 + 3 x 0.6) / 4 = 0.5.
    squares = next(np.array(v) for v in optimizer.variables if v.name.endswith("velocity"))
    np.testing.assert_allclose(squares, [0.05 * 0.25, 0], rtol=1e-4)


def test_other_losses_accumulate_too():
    x, y = rows_of(12)
    y = np.where(np.arange(12) <= np.arange(12)[:, None], y, -1)  # unequal counts

    def trained(batch_size, steps):
        random.seed(0)
        model = gk.GPTCausalLM(tiny_config(num_layers=1))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
        optimizer = gk.training.AdamW(gradient_accumulation_steps=steps)
        settings = {"run_eagerly": True} if steps is None else {"jit_compile": False}
        model.compile(optimizer, loss, weighted_metrics=[], **settings)
        model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        return model.trainable_variables

    for one, other in zip(trained(12, None), trained(6, 2), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=one.path)


@pytest.mark.parametrize("steps", [1.5, 0, "2"])
def test_accumulation_steps_are_a_whole_number(steps):
    with pytest.raises(ValueError, match="gradient_accumulation_steps"):
        gk.training.adamw(gradient_accumulation_steps=steps)


@pytest.mark.parametrize("make", [gk.training.adamw, gk.training.muon])
def test_the_learning_rate_can_be_set_in_place_of_the_schedule(make):
    optimizer = make(1e-2, warmup_steps=10)
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == pytest.approx(0.5)
    optimizer.iterations.assign(5)
    assert float(optimizer.learning_rate) == pytest.approx(0.5)
    optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(0.25, 10, 0.5)
    assert float(optimizer.learning_rate) == pytest.approx(0.25 * 0.5**0.5)
    plain = make(1e-2, warmup_steps=0)
    plain.learning_rate = 0.125
    assert float(plain.learning_rate) == 0.125


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_keras_s_callbacks_set_the_rate_of_the_default_optimizer(dtype, tmp_path):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), dtype=dtype)
    model.compile(weighted_metrics=[], jit_compile=False)
    rates = []
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 if epoch == 1 else rate),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: rates.append(logs["learning_rate"])
        ),
    ]
    before = np.array(model.backbone.token_embedding.embeddings)
    model.fit(*rows_of(4), epochs=3, verbose=0, callbacks=callbacks)
    assert rates == pytest.approx([1e-5, 0.5, 0.25], rel=1e-3)
    # The compiled step follows: updates of AdamW are as large as the rate.
    assert np.abs(np.array(model.backbone.token_embedding.embeddings) - before).max() > 0.1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    rate = float(model.optimizer.learning_rate)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(rate)


def test_the_norm_of_gradients_can_be_read():
    variable = keras.Variable(np.zeros(2), name="kernel")
    optimizer = gk.training.adamw(1e-3, warmup_steps=0)
    optimizer.build([variable])
    norms = []
    for gradient in ([3.0, 4.0], [0.0, 1.0]):
        step(optimizer, variable, gradient)
        norms.append(float(optimizer.gradient_norm))
    assert norms == pytest.approx([5, 1])
    assert float(optimizer.mean_gradient_norm) == pytest.approx(3)


def test_the_norm_is_the_same_where_a_gradient_is_a_list_of_rows():
    norms = []
    for run_eagerly in (True, False):  # XLA makes a matrix of the list
        random.seed(0)
        model = gk.GPTCausalLM(tiny_config(num_layers=1, tie_embeddings=False))
        model.compile(gk.training.adamw(1e-2), weighted_metrics=[], run_eagerly=run_eagerly)
        x, y = rows_of(4)
        model.train_on_batch(x % 3, y)  # each row of the embeddings many times
        norms.append(float(model.optimizer.gradient_norm))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf, 0.0], [0.0, 31.0]])
@pytest.mark.parametrize("make", [gk.training.adamw, gk.training.muon])
def test_a_bad_batch_changes_nothing(make, bad):
    variable = keras.Variable(np.ones(2), name="kernel")
    optimizer = (
        make(1e-2, warmup_steps=0, skip_above=10.0, exclude_layers=["kernel"])
        if (make is gk.training.muon)
        else make(1e-2, warmup_steps=0, skip_above=10.0)
    )
    optimizer.build([variable])
    for _ in range(25):
        step(optimizer, variable, [0.0, 3.0])
    watched = [v for v in optimizer.variables if v.name not in ("num_skipped", "gradient_norm")]
    before = [np.array(v) for v in [variable, *watched]]
    step(optimizer, variable, bad)
    assert float(optimizer.num_skipped) == 1
    for v, value in zip([variable, *watched], before, strict=True):
        np.testing.assert_array_equal(v, value, err_msg=v.path)
    step(optimizer, variable, [0.0, 29.0])  # large, but not above ten times the mean
    assert float(optimizer.num_skipped) == 1
    assert np.all(np.array(variable)[1] != before[0][1])


def test_in_the_first_steps_only_what_is_not_finite_is_skipped():
    variable = keras.Variable(np.ones(2), name="kernel")
    optimizer = gk.training.adamw(1e-2, warmup_steps=0, skip_above=2.0)
    optimizer.build([variable])
    step(optimizer, variable, [0.0, 1.0])
    step(optimizer, variable, [0.0, 100.0])
    step(optimizer, variable, [np.nan, 1.0])
    assert float(optimizer.num_skipped) == 1
    assert np.isfinite(np.array(variable)).all()


def test_batches_are_skipped_in_a_compiled_fit():
    model = gk.GPTCausalLM(tiny_config(num_layers=1, tie_embeddings=False))
    with_a_bad_token(model, 31)
    optimizer = gk.training.adamw(1e-2, warmup_steps=0, skip_above=10.0)
    model.compile(optimizer, weighted_metrics=[])
    x, y = rows_of(8)
    x %= 31
    x[2, 5] = 31  # in the second of four batches
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    assert float(optimizer.num_skipped) == 1
    assert int(optimizer.iterations) == 3
    model.backbone.token_embedding.embeddings.assign(np.zeros((32, 16)))
    assert all(np.isfinite(np.array(v)).all() for v in model.trainable_variables)


def newton_schulz(matrix, steps=5):
    x = matrix.astype("float64")
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / np.linalg.norm(x)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("settings", [{}, {"ns_steps": 5}])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_muon_makes_singular_values_alike(shape, settings):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=shape), rng.normal(size=(2, *shape))
    variable = keras.Variable(start, dtype="float32", name="kernel")
    optimizer = gk.training.muon(
        0.1, warmup_steps=0, weight_decay=0.5, momentum=0.9, global_clipnorm=None, **settings
    )
    optimizer.build([variable])
    expected, mean = start.copy(), np.zeros(shape)
    for gradient in gradients:
        step(optimizer, variable, gradient)
        mean = 0.9 * mean + gradient
        before = gradient + 0.9 * mean
        update = newton_schulz(before, settings.get("ns_steps", 3))
        singular = np.linalg.svd(update, compute_uv=False)
        assert np.linalg.cond(update) < np.linalg.cond(before)
        if settings:
            assert 0.5 < singular.min() <= singular.max() < 1.3
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * update * 0.2 * max(shape) ** 0.5
    np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-5)


def test_muon_takes_the_matrices_of_the_blocks():
    model = gk.GPT(tiny_config(tie_embeddings=False, use_qk_norm=True))
    optimizer = gk.training.muon(1e-2)
    optimizer.build(model.trainable_variables)
    names = {v.path.split("/", 1)[-1] for v in optimizer.variables if "velocity" in v.path}
    adam = {v.path for v in model.trainable_variables}
    adam = {p for p in adam if any(p.replace("/", "_") in name for name in names)}
    kernels = {v.path for v in model.trainable_variables if v.name == "kernel"}
    assert {v.path for v in model.trainable_variables} - adam == kernels
    assert decayed(model, gk.training.muon(1e-2, warmup_steps=0, weight_decay=0.5)) == (
        kernels | {"token_embedding/reverse_embeddings"}
    )


def test_muon_says_which_kernel_it_does_not_take():
    variable = keras.Variable(np.zeros((2, 2, 2)), name="kernel")
    with pytest.raises(ValueError, match=r"two dimensions.*\(2, 2, 2\).*exclude_layers"):
        gk.training.muon().build([variable])
    gk.training.muon(exclude_layers=["kernel"]).build([variable])


@pytest.mark.parametrize("make", [gk.training.adamw, gk.training.muon])
def test_optimizers_are_saved_with_all_settings(make):
    optimizer = make(1e-2, total_steps=200, skip_above=5.0, use_ema=True, beta_2=0.99)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == optimizer.get_config()
    assert copy.skip_above == 5.0


def test_a_moving_average_of_the_weights():
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    optimizer = gk.training.adamw(1e-2, warmup_steps=0, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, weighted_metrics=[], jit_compile=False)
    kernel = model.backbone.blocks[0].feed_forward.up.kernel
    x, y = rows_of(12)
    average = None
    for first in range(0, 12, 4):
        model.train_on_batch(x[first : first + 4], y[first : first + 4])
        now = np.array(kernel)
        average = now if average is None else 0.5 * average + 0.5 * now
    model.optimizer.finalize_variable_values(model.trainable_variables)
    np.testing.assert_allclose(kernel, average, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -1}, "learning_rate.*-1"),
        ({"momentum": 1.0}, "momentum"),
        ({"adam_ratio": 0}, "adam_ratio"),
        ({"skip_above": 1.0}, "skip_above.*1.0"),
        ({"no_decay": "bias"}, "no_decay"),
    ],
    ids=str,
)
def test_bad_arguments_of_muon(arguments, message):
    with pytest.raises(ValueError, match=message):
        gk.training.muon(**arguments)
