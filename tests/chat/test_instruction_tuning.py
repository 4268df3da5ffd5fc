"""From conversations to a model that answers as trained, and stops by itself."""

import keras
import pytest
from tiny_models import tiny_config

import gpt_keras as gk

PAIRS = [
    ("Hello!", "Hi, how are you?"),
    ("Who are you?", "A tiny GPT."),
    ("1 + 1?", "2"),
    ("1 + 2?", "3"),
    ("2 + 2?", "4"),
    ("Name a color.", "Blue."),
    ("Name a fruit.", "An apple."),
    ("Name a bird.", "A crane."),
    ("The sky is", "blue, and at night black."),
    ("Say nothing.", "..."),
    ("Bye!", "Good bye."),
    ("床前明月光", "疑是地上霜。"),
    ("舉頭望明月", "低頭思故鄉。"),
    ("白日依山盡", "黃河入海流。"),
    ("A dinosaur?", "🦕"),
    ("A family?", "👨‍👩‍👧"),
]
# Two turns each: the second answer depends on the first turn.
LONGER = [
    [("My name is Li.", "Hello, Li."), ("What is my name?", "Li.")],
    [("My name is Bo.", "Hello, Bo."), ("What is my name?", "Bo.")],
    [("I like tea.", "Me too."), ("What do I like?", "Tea.")],
    [("I like wine.", "Not me."), ("What do I like?", "Wine.")],
]
CONVERSATIONS = [[pair] for pair in PAIRS] + LONGER


def as_messages(pairs):
    roles = ("user", "assistant")
    return [{"role": r, "content": text} for pair in pairs for r, text in zip(roles, pair)]


@pytest.mark.slow
def test_a_model_answers_as_trained_and_stops(tmp_path):
    keras.utils.set_random_seed(0)
    assert len(CONVERSATIONS) == 20
    texts = [text for pairs in CONVERSATIONS for pair in pairs for text in pair]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(texts, 320)
    config = tiny_config(
        vocabulary_size=tokenizer.vocabulary_size, hidden_dim=64, max_sequence_length=256
    )
    model = gk.chat.add_chatml(gk.GPTCausalLM(config, tokenizer=tokenizer))
    rows = [{"messages": as_messages(pairs)} for pairs in CONVERSATIONS]
    train = gk.datasets.conversations(rows, model, validation_fraction=0).train
    model.compile(gk.training.adamw(3e-3, warmup_steps=20), jit_compile=False)
    history = model.fit(train, batch_size=10, epochs=120, verbose=0).history
    print(f"loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.4f}")
    model.save_to_preset(tmp_path / "chat")
    model = gk.CausalLM.from_preset(tmp_path / "chat")
    wrong = []
    for pairs in CONVERSATIONS:
        # No limit of tokens is reached: the answer ends with the end token.
        chat = gk.chat.Conversation(model, temperature=0, max_new_tokens=60)
        for question, answer in pairs:
            said = "".join(chat.say(question))
            if said != answer:
                wrong.append((question, answer, said))
    assert wrong == []
