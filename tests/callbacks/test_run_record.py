import json

import numpy as np
import pytest
from reused_models import restored
from tiny_models import tiny_config

import gpt_keras as gk


def new_model(character_tokenizer, **settings):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    model.compile(gk.training.adamw(1e-3, warmup_steps=0), **settings)
    return model


@pytest.fixture(scope="module")
def compiled(character_tokenizer):
    return new_model(character_tokenizer, jit_compile=False)


@pytest.fixture
def model(compiled):
    with restored(compiled):
        yield compiled


def rows():
    ids = np.random.default_rng(0).integers(32, size=(8, 13)).astype("int32")
    return ids[:, :-1], ids[:, 1:]


def test_a_run_is_recorded(model, tmp_path):
    samples = gk.callbacks.SampleText("the ", max_new_tokens=3, print_fn=lambda text: None)
    watch = gk.callbacks.LossWatch(print_fn=lambda text: None)
    record = gk.callbacks.RunRecord(
        tmp_path / "run",
        settings={"seed": 3, "note": "a | b"},
        data={"sha256": gk.datasets.digest("the text")},
        samples=samples,
        watch=watch,
        watts=36,
    )
    history = model.fit(
        *rows(),
        validation_data=rows(),
        epochs=2,
        batch_size=4,
        verbose=0,
        callbacks=[samples, watch, record],
    ).history
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert found["finished"] is True
    assert found["settings"] == {"seed": 3, "note": "a | b"}
    assert found["data"]["sha256"] == gk.datasets.digest(["the text"])
    assert found["history"]["val_loss"] == pytest.approx(history["val_loss"])
    assert found["model"]["parameters"] == model.count_params()
    assert gk.GPTConfig.from_dict(found["model"]["config"]) == model.config
    assert found["samples"] == [{"batches": n, "text": text} for n, text in samples.samples]
    assert found["watt_hours"] == pytest.approx(found["seconds"] * 36 / 3600, abs=0.006)
    assert found["versions"]["gpt_keras"] == gk.__version__
    assert found["incidents"] == []

    report = (tmp_path / "run" / "report.md").read_text()
    assert f"{model.count_params():,} parameters" in report
    assert f"{history['val_loss'][-1]:.5g}" in report
    assert "a \\| b" in report
    assert samples.samples[-1][1] in report
    assert (tmp_path / "run" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "report.md",
        "run.json",
        "training.png",
    ]


def test_added_samples_stand_beside_the_samples_of_training(model, tmp_path):
    samples = gk.callbacks.SampleText("the ", max_new_tokens=3, print_fn=lambda text: None)
    record = gk.callbacks.RunRecord(tmp_path, samples=samples)
    model.fit(*rows(), batch_size=4, verbose=0, callbacks=[samples, record])
    added = [{"prompt": "a ``` b", "before": "c", "after": "d\ne"}, {"prompt": "f", "after": "g"}]
    record.add_samples(added[:1])
    record.add_samples(added[1:])
    record.add_result({"share": 0.5})
    found = json.loads((tmp_path / "run.json").read_text())["samples"]
    assert found == [{"batches": 2, "text": samples.samples[0][1]}, *added]
    report = (tmp_path / "report.md").read_text()
    assert "## Sample after 2 batches\n" in report
    assert "## Sample 1\n\nprompt:\n\n````text\na ``` b\n````\n" in report
    assert "after:\n\n```text\nd\ne\n```\n\n## Sample 2\n" in report


def test_a_run_that_breaks_off_leaves_its_record(model, tmp_path):
    import keras

    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(
            *rows(),
            batch_size=4,
            epochs=3,
            verbose=0,
            callbacks=[gk.callbacks.RunRecord(tmp_path), Breaks()],
        )
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["finished"] is False
    assert len(found["history"]["loss"]) == 1
    assert "not finished" in (tmp_path / "report.md").read_text()


def test_losses_that_are_not_finite_are_recorded_as_text(character_tokenizer, tmp_path):
    model = new_model(character_tokenizer, run_eagerly=True)
    weights = np.full(8, 3e38, "float32")
    model.fit(
        *rows(),
        sample_weight=weights,
        epochs=2,
        verbose=0,
        callbacks=[gk.callbacks.RunRecord(tmp_path)],
    )
    losses = json.loads((tmp_path / "run.json").read_text())["history"]["loss"]
    assert all(isinstance(loss, str) for loss in losses)
    assert not (tmp_path / "training.png").exists()


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"watts.*0"):
        gk.callbacks.RunRecord(tmp_path, watts=0)
    with pytest.raises(ValueError, match=r"`data` must be a dict, got \[1\]"):
        gk.callbacks.RunRecord(tmp_path, data=[1])
    with pytest.raises(ValueError, match=r"settings.*JSON"):
        gk.callbacks.RunRecord(tmp_path, settings={"a": object()})
