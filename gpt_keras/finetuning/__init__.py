"""Fine-tuning: what is trained, and how."""

from gpt_keras.finetuning.dpo import DPO
from gpt_keras.models.adapters import trainable_report

__all__ = ["DPO", "trainable_report"]
