"""Encoding a batch and answering each of its requests: with its own embedding, or with its own error."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedopt.errors import EmbedoptError, Overloaded, first_line
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.serving.queue import Request


@dataclass(frozen=True, slots=True)
class Answerer:
    """Encodes batches and answers their requests, on the thread that calls it.

    Attributes:
        is_too_late: whether a request can no longer be answered by its deadline.
    """

    encoder: Encoder
    is_too_late: Callable[[Request], bool]

    def answer(self, batch: Sequence[Request]) -> bool:
        """Encode claimed requests as one batch and answer all of them.

        If the batch fails, its texts are encoded one by one, so that an error reaches only its own text.

        Returns:
            Whether the batch was encoded as a whole; if not, its time says nothing about the next batch.
        """
        try:
            embeddings = self._embed(batch)
            if isinstance(embeddings, BaseException):
                self._answer_failed(batch, embeddings)
                return False
            return self._hand_out(batch, embeddings)
        except KeyboardInterrupt as error:
            for request in batch:
                if not request.future.done():
                    request.settle(self._raisable(error))
            raise

    def _embed(self, batch: Sequence[Request]) -> list[FloatArray] | BaseException:
        try:
            embeddings = self.encoder.encode_tokenized([request.text for request in batch])
            # A row is a view: without a copy, one answer would keep the whole batch in memory.
            return [embedding.copy() for embedding in embeddings]
        except BaseException as error:  # whatever it is, it becomes the answer
            raise_if_interrupted(error)
            # Handled outside of this block: inside, errors of single texts would carry this one as context.
            return error

    def _hand_out(self, batch: Sequence[Request], embeddings: Sequence[FloatArray]) -> bool:
        if len(embeddings) == len(batch):
            for request, embedding in zip(batch, embeddings, strict=True):
                request.settle(embedding)
            return True
        message = (
            f"{self.encoder.name} returned {len(embeddings)} embeddings for {len(batch)} texts; "
            "wanted one for each text: correct the encoder"
        )
        for request in batch:
            request.settle(EmbedoptError(message))
        return False

    def _answer_failed(self, batch: Sequence[Request], error: BaseException) -> None:
        if len(batch) == 1:
            batch[0].settle(self._raisable(error))
            return
        for request in batch:
            if self.is_too_late(request):
                request.settle(too_late())
            else:
                self.answer([request])

    def _raisable(self, error: BaseException) -> Exception:
        """Return an error that the waiting caller can raise.

        StopIteration, or an error such as SystemExit, would end the event loop or never reach the caller.
        """
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        raisable = EmbedoptError(
            f"{self.encoder.name} ended with {type(error).__name__}: {first_line(error)}"
        )
        raisable.__cause__ = error
        return raisable


def raise_if_interrupted(error: BaseException) -> None:
    """Raise a Ctrl-C again on the main thread, which alone gets it: a program may step a scheduler there."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def too_late() -> Overloaded:
    """Return the error of a request whose deadline can no longer be met."""
    return Overloaded("the deadline can no longer be met: try again later")
