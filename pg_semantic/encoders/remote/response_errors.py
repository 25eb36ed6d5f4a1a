"""What a server of a remote encoder refuses, or how it fails, in our words.

The message of a server is never repeated, since it may quote the text; its error code is.
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
SURELY_OVERLOADED = {429, 503}  # also where it is only written in an answer


class NotUnderstood(errors.EncoderUnavailable):
    """The server has no such address, or refuses any text: asked in another way it might answer."""


@dataclass(frozen=True, slots=True)
class Translator:
    """Puts errors in our words; ``who`` names the server, ``name`` is what it knows the encoder by.

    ``is_well`` asks the server for the vector of a text that is known to be good.
    """

    who: str
    name: str
    timeout_seconds: float
    is_well: Callable[[], bool]

    def of_client(self, error: openai.OpenAIError) -> errors.EncoderError:
        """What the client raised."""
        if isinstance(error, openai.APITimeoutError):
            return errors.EncoderUnavailable(
                f"{self.who} did not answer within {self.timeout_seconds:g} s: see how it does, or raise "
                f"{variable('remote_timeout_seconds')}."
            )
        if isinstance(error, openai.APIConnectionError):
            return errors.EncoderUnavailable(
                f"{self.who} can not be reached: see that it runs and that {variable('encoder_urls')} is right."
            )
        if isinstance(error, openai.APIStatusError):
            code = response.code(error.response.text)
            said = f"{self.who} answered with status {error.status_code}{f' ({code})' if code else ''}"
            return self._refusal(said, error.status_code)
        return errors.EncoderError(f"{self.who} gave no answer that can be read ({type(error).__name__}).")

    def of_answer(self, status: int) -> errors.EncoderError:
        """What an answer says in place of vectors."""
        return self._refusal(f"{self.who} answered with status {status}", status)

    def unreadable(self, error: Exception) -> errors.EncoderError:
        """Of an answer that can not be read: no text is to blame when it is the same for one that is good."""
        said = (
            str(error) if isinstance(error, errors.EncoderError) else f"{self.who} gave an answer that can not be read."
        )
        return (errors.EncoderError if self.is_well() else NotUnderstood)(said)

    def _refusal(self, said: str, status: int) -> errors.EncoderError:
        if status in NO_ACCESS:
            return errors.EncoderUnavailable(f"{said}: set the key that it wants as {variable('remote_api_key')}.")
        if status in NOT_HERE:
            return NotUnderstood(
                f"{said}: it has no encoder {self.name!r}, or its API is elsewhere (the URL ends in /v1 as a rule). "
                f"Fix {variable('encoder_urls')}."
            )
        if status in OVERLOADED:
            return errors.EncoderUnavailable(f"{said}: it has too much to do, or trouble of its own; try again later.")
        if self.is_well():
            what = ": it refuses the text, or its length" if status in REFUSED else " to this text"
            return errors.EncoderError(f"{said}{what} and goes on answering to others.")
        if status in REFUSED:
            return NotUnderstood(
                f"{said}: it refuses even a short text. Check the key ({variable('remote_api_key')}), and the URL and "
                f"the name {self.name!r} in {variable('encoder_urls')}."
            )
        return errors.EncoderUnavailable(f"{said}: it has too much to do, or trouble of its own; try again later.")
