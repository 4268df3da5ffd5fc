"""What `model.fit` needs besides a model and data: optimizers, metrics, callbacks."""

from gpt_keras.training.callbacks import SampleText, Throughput
from gpt_keras.training.loss_watch import LossWatch
from gpt_keras.training.losses import CrossEntropy
from gpt_keras.training.metrics import Perplexity
from gpt_keras.training.optimizers import AdamW, Muon, adamw, muon
from gpt_keras.training.run_record import RunRecord
from gpt_keras.training.tensorboard import TensorBoard

__all__ = [
    "AdamW",
    "CrossEntropy",
    "LossWatch",
    "Muon",
    "Perplexity",
    "RunRecord",
    "SampleText",
    "TensorBoard",
    "Throughput",
    "adamw",
    "muon",
]
