"""Errors too rare to be seen by sampling."""
