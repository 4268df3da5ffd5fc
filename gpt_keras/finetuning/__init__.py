"""Fine-tuning: what is trained, and how."""

from gpt_keras.finetuning.dpo import DPO
from gpt_keras.finetuning.grpo import GRPO
from gpt_keras.models.adapters import trainable_report

__all__ = ["DPO", "GRPO", "trainable_report"]
