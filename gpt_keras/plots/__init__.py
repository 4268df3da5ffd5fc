"""Matplotlib figures of tokens, training, predictions, evaluations, internals.

The functions return figures. They do not use pyplot and do not display anything.

Every series has its own line style and marker in addition to its colour, so that figures are
readable in black and white. The colours are the Okabe-Ito palette, which is safe for colour-blind
readers.
"""

from gpt_keras.plots.calibration import reliability
from gpt_keras.plots.classification import confusion_matrix
from gpt_keras.plots.curves import learning_rate, loss_by_position, training
from gpt_keras.plots.figure import STYLES, Figure
from gpt_keras.plots.fonts import chinese_font, use_chinese_font
from gpt_keras.plots.heads import attention
from gpt_keras.plots.interpretation import (
    attribution,
    by_head,
    by_token,
    embeddings,
    logit_lens,
)
from gpt_keras.plots.prediction import next_tokens
from gpt_keras.plots.scaling import scaling_law
from gpt_keras.plots.task_metrics import evaluation
from gpt_keras.plots.tokens import tokenization

__all__ = [
    "STYLES",
    "Figure",
    "attention",
    "attribution",
    "by_head",
    "by_token",
    "chinese_font",
    "confusion_matrix",
    "embeddings",
    "evaluation",
    "learning_rate",
    "logit_lens",
    "loss_by_position",
    "next_tokens",
    "reliability",
    "scaling_law",
    "tokenization",
    "training",
    "use_chinese_font",
]
