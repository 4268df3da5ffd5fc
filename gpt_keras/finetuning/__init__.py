"""Fine-tuning: what is trained, and how."""

from gpt_keras.finetuning.dpo import DPO, dpo_loss
from gpt_keras.models.adapters import trainable_report

__all__ = ["DPO", "dpo_loss", "trainable_report"]
