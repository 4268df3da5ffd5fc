"""The wheel of a clean checkout holds the package, its data, and nothing else."""

import configparser
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # What git tracks and nothing else, so that no file of the developer's slips in.
    checkout = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        source = ROOT / name
        if source.exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_bytes(source.read_bytes())
    output = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", output, checkout],
        capture_output=True,
        check=True,
    )
    (path,) = output.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_data_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        data = [
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "gpt_keras").rglob("*")
            if path.is_file() and "data" in path.parts
        ]
        assert len(data) > 10
        for name in data:
            assert archive.read(name) == (ROOT / name).read_bytes(), name
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "gpt_keras").rglob("*.py")}
    modules.add("gpt_keras_command.py")
    assert modules <= names
    assert not [name for name in names if name.startswith(("tests", "tutorials", "scripts"))]


@pytest.mark.slow
def test_the_wheel_needs_what_the_design_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        lines = archive.read(metadata).decode().splitlines()
        (entry_points,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        assert "gpt-keras = gpt_keras_command:main" in archive.read(entry_points).decode()
    required = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    packages = {line.split()[1].split(">")[0] for line in required}
    assert packages == {"tensorflow", "keras", "tokenizers", "numpy", "matplotlib"}
    assert all(">=" in line for line in required)
    extras = {line.split()[1] for line in lines if line.startswith("Provides-Extra")}
    assert {"text", "hub", "tutorials", "test", "dev", "all", "gpu", "cli"} <= extras


def test_every_extra_has_floors():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for extra, requirements in settings["options.extras_require"].items():
        for requirement in requirements.split("\n"):
            if requirement and not requirement.startswith(("gpt_keras[", "py-spy")):
                assert ">=" in requirement, f"{extra}: {requirement}"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_refused_in_one_line(backend, tmp_path):
    # Stands in for a Keras that runs on that backend; none needs to be installed for the check.
    script = tmp_path / "other_backend.py"
    script.write_text(
        f"""
import keras
keras.backend.backend = lambda: {backend!r}
import gpt_keras as gk
config = gk.GPTConfig(
    vocabulary_size=8, max_sequence_length=8, num_layers=1, num_heads=1, hidden_dim=4
)
model = gk.GPTCausalLM(config)
tokenizer = gk.tokenizers.CharacterTokenizer("ab")
for verb in (lambda: model.generate([1]), lambda: model.export("exported"), tokenizer.in_graph):
    try:
        verb()
    except ValueError as error:
        print(error)
"""
    )
    output = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout.splitlines()
    assert len(output) == 3
    assert all("KERAS_BACKEND=tensorflow" in line and backend in line for line in output)
    assert not (tmp_path / "exported").exists()
