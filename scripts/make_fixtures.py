"""Write tests/fixtures/: tiny random models with the outputs that another implementation gives.

Run once, in an environment of its own; the tests read only what this wrote:

    pip install torch==2.13.0 transformers==5.23.0 numpy
    python scripts/make_fixtures.py
"""

import pathlib

import numpy as np
import torch
import transformers

FIXTURES = pathlib.Path(__file__).parent.parent / "tests" / "fixtures"


def gpt2(name: str, seed: int, **shape: int) -> None:
    """Store a random GPT-2 of Hugging Face: config, weights, token ids, logits, loss."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(**shape, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        # The stock initialization is so small that a wrong norm or bias would hardly show.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    token_ids = torch.randint(config.vocab_size, (3, config.n_positions))
    with torch.no_grad():
        output = model(token_ids, labels=token_ids)
    np.savez_compressed(
        FIXTURES / f"{name}.npz",
        made_with=f"torch {torch.__version__}, transformers {transformers.__version__}",
        token_ids=token_ids.numpy().astype("int32"),
        logits=output.logits.numpy(),
        loss=output.loss.numpy(),
        **{f"config/{key}": value for key, value in shape.items()},
        **{f"weight/{key}": value.numpy() for key, value in model.state_dict().items()},
    )


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    gpt2("gpt2_tiny", 0, vocab_size=61, n_positions=24, n_embd=32, n_layer=2, n_head=4)
    gpt2("gpt2_one_head", 1, vocab_size=17, n_positions=9, n_embd=12, n_layer=3, n_head=1)
