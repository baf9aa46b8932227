"""How sure a generating model was of the words it chose."""

from collections.abc import Collection, Sequence

import torch


def mean_probabilities(
    logits: Sequence[torch.Tensor], tokens: torch.Tensor, end_ids: Collection[int]
) -> list[float]:
    """The mean probability, 0-1, of each row's tokens up to and with the first end token.

    ``logits``: one ``(rows, vocabulary)`` per step, as they come out of the network. ``tokens``:
    int64 ``(rows, steps)``, what was chosen; what follows an end is padding, and does not count.
    """
    chosen = torch.stack(
        [
            step.float().softmax(dim=-1).gather(1, tokens[:, index, None])[:, 0]
            for index, step in enumerate(logits)
        ],
        dim=1,
    )
    is_end = torch.isin(tokens, torch.tensor(sorted(end_ids), device=tokens.device))
    counts = (is_end.cumsum(dim=1) - is_end.long()) == 0
    means = (chosen * counts).sum(dim=1) / counts.sum(dim=1)
    return [float(mean) for mean in means.cpu()]
