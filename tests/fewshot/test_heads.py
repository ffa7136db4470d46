"""Every head against a loop over episodes, queries and support items, in float64."""

import math

import pytest
import torch

from tupelo.errors import InputError
from tupelo.fewshot import FullContext, Matching, Prototypical

UNBALANCED = torch.tensor([[0, 2, 1, 0, 2, 2], [1, 1, 0, 2, 1, 0]])


def rows(e=2, s=6, q=4, d=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(e, s, d, generator=generator, dtype=dtype),
        torch.randn(e, q, d, generator=generator, dtype=dtype),
    )


def naive_prototypical(support, labels, queries, ways, cosine, scale):
    logits = torch.empty(*queries.shape[:2], ways, dtype=queries.dtype)
    for e in range(len(support)):
        for c in range(ways):
            items = [support[e, i] for i in range(len(labels[e])) if labels[e, i] == c]
            prototype = sum(items) / len(items)
            for j, query in enumerate(queries[e]):
                if cosine:
                    length = query.norm() * prototype.norm()
                    logits[e, j, c] = scale * (query @ prototype / length - 1)
                else:
                    logits[e, j, c] = -scale * ((query - prototype) ** 2).sum()
    return logits


def naive_matching(support, labels, queries, ways, similarity, scale, reduce):
    probabilities = torch.empty(*queries.shape[:2], ways, dtype=queries.dtype)
    for e in range(len(support)):
        for j, query in enumerate(queries[e]):
            scores = []
            for item in support[e]:
                score = query @ item
                if similarity == "cosine":
                    score = score / query.norm() / item.norm()
                scores.append(math.exp(scale * score))
            for c in range(ways):
                own = [s for s, y in zip(scores, labels[e].tolist(), strict=True) if y == c]
                share = sum(own) / sum(scores)
                probabilities[e, j, c] = share / len(own) if reduce == "mean" else share
    return probabilities / probabilities.sum(2, keepdim=True)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_prototypes_as_in_a_loop(distance, scale):
    support, queries = rows()
    head = Prototypical(distance, scale=scale)
    expected = naive_prototypical(support, UNBALANCED, queries, 3, distance == "cosine", scale)
    torch.testing.assert_close(head(support, UNBALANCED, queries, ways=3), expected)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize(("similarity", "scale"), [("dot", 1.0), ("cosine", 10.0)])
def test_matching_as_in_a_loop(similarity, scale, reduce):
    support, queries = rows()
    head = Matching(similarity, class_reduce=reduce)
    expected = naive_matching(support, UNBALANCED, queries, 3, similarity, scale, reduce)
    logits = head(support, UNBALANCED, queries, ways=3)
    torch.testing.assert_close(logits.exp(), expected)


def test_a_worked_prototype():
    support = torch.tensor([[[0.0, 0.0], [2.0, 2.0], [4.0, 0.0]]])
    logits = Prototypical()(support, torch.tensor([[0, 0, 1]]), torch.zeros(1, 1, 2), ways=2)
    assert logits.tolist() == [[[-2.0, -16.0]]]


HEADS = {
    "euclidean": Prototypical,
    "cosine": lambda: Prototypical("cosine"),
    "dot": Matching,
    "scaled cosine": lambda: Matching("cosine"),
    "mean": lambda: Matching(class_reduce="mean"),
    "fce": lambda: Matching("cosine", fce=FullContext(5)).double(),
}


@pytest.fixture(params=HEADS)
def head(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return HEADS[request.param]()


def test_renaming_the_classes_permutes_the_columns(head):
    support, queries = rows()
    name = torch.tensor([2, 0, 1])
    logits = head(support, UNBALANCED, queries, ways=3)
    renamed = head(support, name[UNBALANCED], queries, ways=3)
    torch.testing.assert_close(renamed[..., name], logits)


def test_the_order_of_the_support_does_not_matter(head):
    if getattr(head, "fce", None) is not None:
        pytest.skip("an LSTM goes through the support in order")
    support, queries = rows()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    logits = head(support, UNBALANCED, queries, ways=3)
    permuted = head(support[:, order], UNBALANCED[:, order], queries, ways=3)
    torch.testing.assert_close(permuted, logits)


def test_any_number_of_classes_without_building_anew(head):
    for ways in (3, 17):
        support, queries = rows(1, 2 * ways)
        labels = torch.arange(ways).repeat(2)[None]
        assert head(support, labels, queries, ways=ways).shape == (1, 4, ways)


def test_episodes_do_not_see_each_other(head):
    support, queries = rows()
    both = head(support, UNBALANCED, queries, ways=3)
    alone = head(support[1:], UNBALANCED[1:], queries[1:], ways=3)
    torch.testing.assert_close(both[1:], alone)


def test_gradients(head):
    support, queries = (x.requires_grad_() for x in rows(d=5))
    assert torch.autograd.gradcheck(
        lambda s, q: head(s, UNBALANCED, q, ways=3), (support, queries), fast_mode=True
    )


def test_types(head):
    support, queries = rows()
    assert head(support, UNBALANCED, queries, ways=3).dtype == torch.float64
    head = head.float()
    with torch.autocast("cpu", torch.bfloat16):
        half = head(support.bfloat16(), UNBALANCED, queries.bfloat16(), ways=3)
    assert half.dtype == torch.float32
    assert torch.equal(
        half, head(support.bfloat16().float(), UNBALANCED, queries.bfloat16().float(), ways=3)
    )


def test_labels_are_checked(head):
    support, queries = rows()
    with pytest.raises(InputError, match=r"slots in 0..2, got -1..2; -1 is unlabelled support"):
        head(support, UNBALANCED.masked_fill(UNBALANCED == 1, -1), queries, ways=3)
    with pytest.raises(InputError, match=r"slots in 0..1, got 0..2"):
        head(support, UNBALANCED, queries, ways=2)
    with pytest.raises(
        InputError, match=r"needs a support item, got none of slots \[3\] of 4 ways"
    ):
        head(support, UNBALANCED, queries, ways=4)


def test_rows_of_zeros():
    """A cosine with a row of zeros is 0, and its gradient finite; all zeros are refused."""
    support, queries = rows()
    support[0, 0] = 0
    support.requires_grad_()
    for head in (Prototypical("cosine"), Matching("cosine")):
        head(support, UNBALANCED, queries, ways=3).sum().backward()
        assert support.grad is not None
        assert support.grad.isfinite().all()
        with pytest.raises(InputError, match="must not all be zero where they are normalised"):
            head(torch.zeros_like(support), UNBALANCED, queries, ways=3)


def test_no_probability_becomes_zero():
    """Similarities a thousand apart: the naive formula gives log 0."""
    support = torch.tensor([[[1000.0], [-1000.0]]])
    logits = Matching()(support, torch.tensor([[0, 1]]), torch.tensor([[[1.0]]]), ways=2)
    assert logits.tolist() == [[[0.0, -2000.0]]]


def test_a_larger_class_gets_more_mass_by_the_sum_only():
    support = torch.ones(1, 4, 2)
    labels = torch.tensor([[0, 0, 0, 1]])
    for reduce, expected in (("sum", [0.75, 0.25]), ("mean", [0.5, 0.5])):
        logits = Matching(class_reduce=reduce)(support, labels, torch.ones(1, 1, 2), ways=2)
        torch.testing.assert_close(logits.exp()[0, 0], torch.tensor(expected))


def naive_fce(fce, support, queries):
    """Step by step, with LSTM cells that hold the weights of the bidirectional one."""

    def cell(suffix):
        made = torch.nn.LSTMCell(fce.dim, fce.dim).double()
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(made, name).copy_(getattr(fce.support, f"{name}_l0{suffix}"))
        return made

    def run(made, items):
        state = torch.zeros(1, fce.dim).double(), torch.zeros(1, fce.dim).double()
        outputs = []
        for item in items:
            state = made(item[None], state)
            outputs.append(state[0][0])
        return outputs

    forward = run(cell(""), list(support))
    backward = run(cell("_reverse"), list(support.flip(0)))[::-1]  # at position i, of item i
    known = torch.stack([f + b + x for f, b, x in zip(forward, backward, support, strict=True)])
    read_queries = []
    for query in queries:
        hidden = query[None] if fce.start == "query" else torch.zeros(1, fce.dim).double()
        memory, read = torch.zeros(1, fce.dim).double(), known.mean(0)
        for _ in range(fce.steps):
            hidden, memory = fce.reader(torch.cat([query, read])[None], (hidden, memory))
            hidden = hidden + query
            read = (known @ hidden[0]).softmax(0) @ known
        read_queries.append(hidden[0])
    return known, torch.stack(read_queries)


@pytest.mark.parametrize("start", ["zeros", "query"])
def test_full_context_step_by_step(start):
    support, queries = rows()
    fce = FullContext(5, steps=4, start=start).double()
    known, read = fce(support, queries)
    for e in range(2):
        expected_known, expected_read = naive_fce(fce, support[e], queries[e])
        torch.testing.assert_close(known[e], expected_known)
        torch.testing.assert_close(read[e], expected_read)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Prototypical("manhattan"), "distance must be 'euclidean' or 'cosine', got 'man"),
        (lambda: Prototypical(scale=0.0), "scale must be > 0, got 0.0"),
        (lambda: Matching("euclidean"), "similarity must be 'dot' or 'cosine', got 'euclidean'"),
        (lambda: Matching(class_reduce="max"), "class_reduce must be 'sum' or 'mean', got 'max'"),
        (lambda: Matching(scale=-1.0), "scale must be > 0, got -1.0"),
        (lambda: FullContext(0), "dim and steps must be at least 1, got dim=0, steps=3"),
        (lambda: FullContext(4, start="ones"), "start must be 'zeros' or 'query', got 'ones'"),
    ],
)
def test_options_are_checked(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_full_context_of_another_width_is_refused():
    support, queries = rows()
    with pytest.raises(InputError, match="made for rows of width 8, got 5; make FullContext with"):
        Matching(fce=FullContext(8))(support, UNBALANCED, queries, ways=3)
