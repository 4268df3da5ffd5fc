"""Chat templates, and conversations with a model."""

from gpt_keras.chat.chatml import CHATML, add_chatml
from gpt_keras.chat.conversation import Conversation
from gpt_keras.chat.template import ChatTemplate, MaskedIds

__all__ = ["CHATML", "ChatTemplate", "Conversation", "MaskedIds", "add_chatml"]
