"""Conversations: how they are written for a model, and how it answers."""

from gpt_keras.chat.conversation import Conversation
from gpt_keras.chat.template import ChatTemplate

__all__ = ["ChatTemplate", "Conversation"]
