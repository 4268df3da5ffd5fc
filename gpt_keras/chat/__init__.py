"""Chat templates, and conversations with a model."""

from gpt_keras.chat.conversation import Conversation
from gpt_keras.chat.template import ChatTemplate

__all__ = ["ChatTemplate", "Conversation"]
