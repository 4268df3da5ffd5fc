"""The README's code runs as it stands, one example after the other."""

import pathlib
import re

import keras
import pytest

import gpt_keras as gk

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def few_steps():
    keras.config.set_max_steps_per_epoch(20)
    yield
    keras.config.set_max_steps_per_epoch(None)


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys, few_steps):
    monkeypatch.chdir(tmp_path)
    # A folder of this name is loaded in place of the download.
    tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
    config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
    chatty = gk.GPTCausalLM(config.replace(max_sequence_length=256), tokenizer=tokenizer)
    chatty.chat_template = "{% for message in messages %}{{ message.content }}: {% endfor %}"
    chatty.save_to_preset("smollm2_135m_instruct")
    reviews = [f"{n} fools,{'bad' if n % 3 else 'good'}" for n in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["review,verdict", *reviews]), "utf-8")
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(examples) == 16
    names = {}
    for number, example in enumerate(examples):
        exec(compile(example, f"README example {number + 1}", "exec"), names)
    output = capsys.readouterr().out
    assert "VIOLA.\\nO" in output or "VIOLA.\nO" in output
    assert (tmp_path / "my_preset" / "tokenizer.json").exists()
    assert "DUKE." in (tmp_path / "my_run" / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "my_adapter" / "adapter_model.safetensors").exists()
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_what_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []
    for script in re.findall(r"^(scripts/\S+\.sh)", README, flags=re.MULTILINE):
        assert (ROOT / script).exists()


def test_the_table_of_presets_is_that_of_the_presets():
    assert gk.presets.table() in README
