"""Translates a server's errors into the package's own.

Messages repeat the server's error code, but never its message, which may quote the text.
"""

from collections.abc import Callable
from dataclasses import dataclass

import openai

from pg_semantic import errors
from pg_semantic.encoders.remote import response
from pg_semantic.settings import variable

NO_ACCESS = {401, 403}
NOT_HERE = {404, 405}
REFUSED = {400, 413, 415, 422}
BROKEN = 500
OVERLOADED = {408, 409, 429, 502, 503, 504}
SURELY_OVERLOADED = {429, 503}  # even if the status is only in the body of a response


class NotUnderstood(errors.EncoderUnavailable):
    """The server doesn't have this address, or rejects every text. Another API dialect may work."""


@dataclass(frozen=True, slots=True)
class Translator:
    """Translates errors.

    Args:
        who: The server, as the subject of a sentence.
        name: The encoder's name on the server.
        timeout_seconds: The timeout of a request, for messages.
        is_healthy: Returns whether the server encodes a known good text.
    """

    who: str
    name: str
    timeout_seconds: float
    is_healthy: Callable[[], bool]

    def of_client(self, error: openai.OpenAIError) -> errors.EncoderError:
        """Translates an error of the OpenAI client."""
        if isinstance(error, openai.APITimeoutError):
            return errors.EncoderUnavailable(
                f"{self.who} did not respond within {self.timeout_seconds:g} s: check the server, or increase "
                f"{variable('remote_timeout_seconds')}."
            )
        if isinstance(error, openai.APIConnectionError):
            return errors.EncoderUnavailable(
                f"{self.who} cannot be reached: check that it is running and that {variable('encoder_urls')} is right."
            )
        if isinstance(error, openai.APIStatusError):
            code = response.code(error.response.text)
            said = f"{self.who} returned status {error.status_code}{f' ({code})' if code else ''}"
            return self._refusal(said, error.status_code)
        return errors.EncoderError(f"{self.who} sent an unreadable response ({type(error).__name__}).")

    def of_answer(self, status: int) -> errors.EncoderError:
        """Translates a status that a response contains instead of vectors."""
        return self._refusal(f"{self.who} returned status {status}", status)

    def unreadable(self, error: Exception) -> errors.EncoderError:
        """Translates the error for an unreadable response. If a good text gets one too, the server is at fault."""
        said = str(error) if isinstance(error, errors.EncoderError) else f"{self.who} sent an unreadable response."
        return (errors.EncoderError if self.is_healthy() else NotUnderstood)(said)

    def _refusal(self, said: str, status: int) -> errors.EncoderError:
        if status in NO_ACCESS:
            return errors.EncoderUnavailable(f"{said}: set its API key in {variable('remote_api_key')}.")
        if status in NOT_HERE:
            return NotUnderstood(
                f"{said}: it has no encoder {self.name!r}, or its API is at another URL, which usually ends in /v1. "
                f"Correct {variable('encoder_urls')}."
            )
        if status in OVERLOADED:
            return errors.EncoderUnavailable(f"{said}: it is overloaded or failing; try again later.")
        if self.is_healthy():
            what = ": it rejects this text or its length" if status in REFUSED else " for this text"
            return errors.EncoderError(f"{said}{what}, but encodes other texts.")
        if status in REFUSED:
            return NotUnderstood(
                f"{said}: it rejects even a short text. Check the key ({variable('remote_api_key')}), and the URL and "
                f"the name {self.name!r} in {variable('encoder_urls')}."
            )
        return errors.EncoderUnavailable(f"{said}: it is overloaded or failing; try again later.")
