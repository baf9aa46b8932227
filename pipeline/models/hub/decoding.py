"""Watching a network write, without keeping its vocabulary of scores for every token."""

import torch
from transformers import LogitsProcessor

from pipeline.errors import ContractError


class NanGuard(LogitsProcessor):
    """Notices scores that are not a number, of which greedy decoding would take any token.

    Give it to ``generate`` and call :meth:`check` afterwards: asking at each step would make the
    CPU wait for the device.
    """

    def __init__(self) -> None:
        self._broken: torch.Tensor | None = None

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        broken = scores.isnan().any()
        self._broken = broken if self._broken is None else self._broken | broken
        return scores

    def check(self, model: str) -> None:
        """Raises ContractError where a score was not a number."""
        if self._broken is not None and bool(self._broken):
            raise ContractError(f"{model} gave scores that are not finite while it wrote")


class Recorder(LogitsProcessor):
    """Keeps the log-probability of the token greedy decoding takes at each step."""

    def __init__(self) -> None:
        self.log_probs: list[torch.Tensor] = []

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.log_probs.append(scores.float().log_softmax(dim=-1).max(dim=-1).values)
        return scores
