"""Keras callbacks: samples, throughput, loss monitoring, TensorBoard and records."""

from gpt_keras.callbacks.checkpoint import Checkpoint
from gpt_keras.callbacks.compile_notice import CompileNotice
from gpt_keras.callbacks.loss_watch import LossWatch
from gpt_keras.callbacks.progress import SampleText, Throughput
from gpt_keras.callbacks.run_record import RunRecord
from gpt_keras.callbacks.tensorboard import TensorBoard

__all__ = [
    "Checkpoint",
    "CompileNotice",
    "LossWatch",
    "RunRecord",
    "SampleText",
    "TensorBoard",
    "Throughput",
]
