"""Matching networks: a query is labelled by the support items it resembles."""

import operator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.fewshot.learner import EpisodeHead, check_slots, unit_rows, wide

SIMILARITIES = {"dot": 1.0, "cosine": 10.0}
"""Their default scale: a cosine that is not scaled cannot make a sharp attention."""


class FullContext(nn.Module):
    """Full context embeddings (FCE): every item is embedded in view of the whole support.

    Support: g_i = forward_i + backward_i + x_i, where forward and backward are the outputs of a
    bidirectional LSTM over the support *at item i*. Queries: `steps` steps of an LSTM that reads
    the support by attention,

        (h', c) = LSTM([z, r], (h, c));  h = h' + z;  r = sum_i softmax_i(h . g_i) g_i

    from r = mean g, c = 0. Source: Vinyals et al., "Matching Networks for One Shot Learning",
    NeurIPS 2016, appendix A. The released code of Ravi and Larochelle adds the backward output of
    item s + 1 - i to item i; here each gets its own. The result depends on the order of the
    support, as every LSTM does.

    Args:
        dim: width d of the rows.
        steps: of the reading LSTM, >= 1; 3 as in the code of Ravi and Larochelle.
        start: h is "zeros" before the first step (their code), or the "query" itself.

    Raises:
        InputError: `dim` or `steps` below 1, or another start.
    """

    def __init__(self, dim: int, *, steps: int = 3, start: str = "zeros"):
        super().__init__()
        if dim < 1 or steps < 1:
            raise InputError(f"dim and steps must be at least 1, got dim={dim}, steps={steps}")
        if start not in ("zeros", "query"):
            raise InputError(f"start must be 'zeros' or 'query', got {start!r}")
        self.dim = dim
        self.steps = operator.index(steps)  # a TypeError now, not at the first batch
        self.start = start
        self.support = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
        self.reader = nn.LSTMCell(2 * dim, dim)

    def forward(
        self, support: Float[Tensor, "e s d"], queries: Float[Tensor, "e q d"]
    ) -> tuple[Float[Tensor, "e s d"], Float[Tensor, "e q d"]]:
        """Support and queries in the context of the support."""
        both, _ = self.support(support)
        forward, backward = both.chunk(2, dim=2)
        known = forward + backward + support
        return known, self._read(known, queries)

    def _read(self, known: Tensor, queries: Tensor) -> Tensor:
        flat = queries.flatten(0, 1)
        read = known.mean(1, keepdim=True).expand_as(queries)
        hidden = torch.zeros_like(flat) if self.start == "zeros" else flat
        cell = torch.zeros_like(flat)
        for _ in range(self.steps):
            hidden, cell = self.reader(torch.cat([flat, read.flatten(0, 1)], 1), (hidden, cell))
            hidden = hidden + flat
            attention = hidden.view_as(queries) @ known.transpose(1, 2)
            read = attention.softmax(2) @ known
        return hidden.view_as(queries)

    def options(self) -> dict:
        """The arguments that build this module again."""
        return {"dim": self.dim, "steps": self.steps, "start": self.start}


class Matching(EpisodeHead):
    """The probability of a class is the attention that its support items get from the query.

        P(y = c | z, S) = sum over items i of class c of softmax_i(similarity(z, x_i))

    computed as log P(c) = logsumexp over the class - logsumexp over the support, so that no
    probability becomes 0; these are the logits. Source: Vinyals et al., "Matching Networks for One
    Shot Learning", NeurIPS 2016, eqs. 1-2. (The released code of Ravi and Larochelle has no softmax
    over the support but sums cosines; that is another method.)

    Args:
        similarity: "dot" or "cosine".
        scale: factor of the similarities, > 0; default 1 for "dot" and 10 for "cosine".
        fce: full context embeddings, `FullContext(dim)`; None compares the rows as they are.
        class_reduce: "sum", as published, where a class with more support items gets more mass,
            or "mean" over the items of the class.

    Raises:
        InputError: an unknown similarity or reduction, or `scale` not above 0; when called:
            labels outside 0..ways-1, a class without support, rows of another width than `fce`
            was made for, or, with cosines, rows that are all zero.

    >>> support, queries = torch.eye(2)[None], torch.eye(2)[None, :1]
    >>> Matching()(support, torch.tensor([[0, 1]]), queries, ways=2).exp()
    tensor([[[0.7311, 0.2689]]])
    """

    def __init__(
        self,
        similarity: str = "dot",
        *,
        scale: float | None = None,
        fce: FullContext | None = None,
        class_reduce: str = "sum",
    ):
        super().__init__()
        if similarity not in SIMILARITIES:
            raise InputError(f"similarity must be 'dot' or 'cosine', got {similarity!r}")
        if class_reduce not in ("sum", "mean"):
            raise InputError(f"class_reduce must be 'sum' or 'mean', got {class_reduce!r}")
        scale = SIMILARITIES[similarity] if scale is None else scale
        if not scale > 0:
            raise InputError(f"scale must be > 0, got {scale}")
        self.similarity = similarity
        self.scale = scale
        self.class_reduce = class_reduce
        self.fce = fce

    def forward(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Float[Tensor, "e q n"]:
        """Logarithms of the probabilities, see `EpisodeHead.forward`."""
        counts = check_slots(labels, ways)
        if self.fce is not None and support.shape[2] != self.fce.dim:
            raise InputError(
                f"fce was made for rows of width {self.fce.dim}, got {support.shape[2]}; make "
                "FullContext with the num_features of the encoder"
            )
        with torch.autocast(support.device.type, enabled=False):
            support, queries = wide(support), wide(queries)
            if self.fce is not None:
                support, queries = self.fce(support, queries)
            if self.similarity == "cosine":
                support, queries = unit_rows(support), unit_rows(queries)
            scores = self.scale * queries @ support.transpose(1, 2)  # (e, q, s)
            of_class, there = _by_class(labels, counts)
            each = scores.gather(2, of_class.flatten(1)[:, None].expand(-1, queries.shape[1], -1))
            each = each.unflatten(2, of_class.shape[1:]).masked_fill(~there[:, None], -torch.inf)
            logits = each.logsumexp(3)
            if self.class_reduce == "mean":
                logits = logits - counts.to(logits.dtype).log()[:, None]
            return logits.log_softmax(2)

    def options(self) -> dict:
        """The arguments that build this head again."""
        return {
            "similarity": self.similarity,
            "scale": self.scale,
            "fce": None if self.fce is None else self.fce.options(),
            "class_reduce": self.class_reduce,
        }


def _by_class(
    labels: Int64[Tensor, "e s"], counts: Int64[Tensor, "e n"]
) -> tuple[Int64[Tensor, "e n k"], Bool[Tensor, "e n k"]]:
    """Positions of each class's items, padded to the largest class, and which are there."""
    order = labels.argsort(dim=1, stable=True)
    place = torch.arange(int(counts.max()), device=labels.device)
    first = counts.cumsum(1) - counts
    there = place < counts[:, :, None]
    of_class = (first[:, :, None] + place).clamp(max=labels.shape[1] - 1)
    return order.gather(1, of_class.flatten(1)).view_as(of_class), there
