"""Templates and conversations whose answers the tests find."""

import gpt_keras as gk

START, END = "<|im_start|>", "<|im_end|>"

# As in SmolLM2 and many models: no generation marks.
PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# As in Llama 2: no special token between the roles, and the end of text after an answer.
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}"
    "{% else %}{{ '[' + m.role + '] ' + m.content + ' [/]' }}{% endif %}{% endfor %}"
)

# As in Qwen2.5: tool calls as JSON, and tools' answers in one turn of the user.
TOOLS = """
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- for tool in tools %}{{- tool | tojson + '\n' }}{%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- BEGIN %}
        {%- if message.content %}{{- message.content }}{%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>' + call.function | tojson + '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- FINISH %}
        {{- '\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""

TEMPLATES = {
    "chatml": gk.chat.CHATML,
    "plain": PLAIN,
    "brackets": BRACKETS,
    "tools_marked": TOOLS.replace("BEGIN", "generation").replace("FINISH", "endgeneration"),
    "tools": TOOLS.replace("BEGIN", "if true").replace("FINISH", "endif"),
}

CALL = {"type": "function", "function": {"name": "sum", "arguments": {"of": [1, 2]}}}
CONVERSATIONS = {
    "one": {
        "messages": [
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Hi."},
        ]
    },
    "several": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "床前明月光?"},
            {"role": "assistant", "content": "疑是地上霜。\n\n舉頭望明月,"},
            {"role": "user", "content": "A family: 👨‍👩‍👧!"},
            {"role": "assistant", "content": "👨‍👩‍👧 🦕"},
        ]
    },
    "tool": {
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "3"},
            {"role": "tool", "content": "three"},
            {"role": "assistant", "content": "It is 3."},
        ],
        "tools": [{"type": "function", "function": {"name": "sum"}}],
    },
}

# Pairs of a template with `{% generation %}` and a conversation that it can write.
MARKED = [
    ("chatml", "one"),
    ("chatml", "several"),
    ("tools_marked", "one"),
    ("tools_marked", "several"),
    ("tools_marked", "tool"),
]


def tokenizer():
    return gk.tokenizers.BytePairTokenizer.train(
        "user assistant system Hello Hi. It is 床前明月光 疑是地上霜",
        320,
        special_tokens=["<|endoftext|>", START, END],
    )
