import copy
import json

import pytest
import torch
from tests.fewshot import naive_graph
from torch import nn

from tupelo.errors import InputError
from tupelo.fewshot import GraphHead, Layout, arc_face, cos_face, norm_face
from tupelo.fewshot.graph_layers import RowLayer

WAYS, DIM = 3, 4


def build(ways=WAYS, dim=DIM, growth=3, dropout=0.0, seed=0, **options):
    torch.manual_seed(seed)
    head = GraphHead(dim, ways, growth=growth, dropout=dropout, **options).double()
    naive_graph.shake(head)
    return head


def episodes(e=2, shots=2, q=1, ways=WAYS, dim=DIM, unlabelled=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    support = torch.randn(e, ways * shots, dim, dtype=torch.float64, generator=generator)
    queries = torch.randn(e, q, dim, dtype=torch.float64, generator=generator)
    slots = torch.arange(ways)[:, None].repeat(1, shots)
    slots[:, :unlabelled] = -1
    return support, slots.flatten().repeat(e, 1), queries


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, {}),
        ({"variant": "miniimagenet"}, {"q": 2}),
        ({"variant": "miniimagenet", "second_operator": "ones"}, {"shots": 1}),
        ({"second_operator": "ones", "unknown": "uniform", "blocks": 1}, {"unlabelled": 1}),
        ({"unknown": "zeros", "blocks": 3}, {"unlabelled": 1, "e": 1, "q": 3}),
    ],
)
def test_the_whole_network_is_that_of_loops(training, options, shapes):
    head = build(**options).train(training)
    support, labels, queries = episodes(**shapes)
    support.requires_grad_()
    logits, nodes = naive_graph.network(head, support, labels, queries, training=training)
    answer = copy.deepcopy(head).answer(support, labels, queries, ways=WAYS)
    torch.testing.assert_close(answer.logits, logits, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(answer.points, torch.cat(nodes), rtol=1e-8, atol=1e-10)
    weights = torch.randn(logits.shape, dtype=torch.float64)
    (a,) = torch.autograd.grad((logits * weights).sum(), support)
    (b,) = torch.autograd.grad((answer.logits * weights).sum(), support)
    torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-9)


def shape(linear):
    return linear.in_features, linear.out_features


def test_shapes_of_the_published_networks():
    mini = GraphHead(128, 5, variant="miniimagenet")
    widths = [shape(c.layer.linear) for c in mini.convolutions]
    assert widths == [(266, 48), (362, 48)]
    assert isinstance(mini.classifier.layer, nn.Linear)
    assert shape(mini.classifier.layer) == (458, 5)
    assert mini.classifier.layer.bias is not None
    mlp = [[shape(layer.linear)[1] for layer in a.layers] for a in mini.adjacencies]
    assert mlp == [[192, 192, 96, 96]] * 3
    assert [a.dropout for a in mini.adjacencies] == [0, 0, 0]
    grey = GraphHead(64, 5)
    mlp = [[shape(layer.linear)[1] for layer in a.layers] for a in grey.adjacencies]
    # 69, 117 and again 117, though the last nodes have 165: times 2, 1.5, 1 and 1, cut off
    assert mlp == [[138, 103, 69, 69], [234, 175, 117, 117], [234, 175, 117, 117]]
    assert shape(grey.adjacencies[2].layers[0].linear) == (165, 234)
    assert [a.dropout for a in grey.adjacencies] == [0, 0, 0.3]
    assert isinstance(grey.classifier.layer, RowLayer)
    assert shape(grey.classifier.layer.linear) == (330, 5)
    assert grey.classifier.layer.slope == 1


@pytest.mark.parametrize("variant", ["omniglot", "miniimagenet"])
def test_the_order_of_the_support_does_not_matter(variant):
    head = build(variant=variant, dropout=0.3).eval()
    support, labels, queries = episodes(shots=3, q=2, unlabelled=1)
    order = torch.randperm(support.shape[1])
    logits = head(support, labels, queries, ways=WAYS)
    moved = head(support[:, order], labels[:, order], queries, ways=WAYS)
    torch.testing.assert_close(moved, logits)
    nodes = head.nodes(support, labels, queries, ways=WAYS)
    shuffled = head.nodes(support[:, order], labels[:, order], queries, ways=WAYS)
    torch.testing.assert_close(shuffled[:, 1:], nodes[:, 1:][:, order])


def test_each_query_has_a_graph_of_its_own():
    head = build().eval()
    support, labels, queries = episodes(e=2, q=3)
    together = head(support, labels, queries, ways=WAYS)
    for e in range(2):
        for q in range(3):
            one = slice(e, e + 1), slice(q, q + 1)
            alone = head(support[one[0]], labels[one[0]], queries[one], ways=WAYS)
            torch.testing.assert_close(alone, together[one])


def test_graphs_in_several_passes_give_what_one_gives(monkeypatch):
    head = build().eval()
    whole = head.answer(*episodes(e=4, q=3), ways=WAYS)
    monkeypatch.setattr("tupelo.fewshot.graph.NUMBERS_AT_ONCE", 1)
    for part, once in zip(head.answer(*episodes(e=4, q=3), ways=WAYS), whole, strict=True):
        torch.testing.assert_close(part, once)


def test_nodes_start_with_embedding_and_label():
    head = build(blocks=1)
    support, labels, queries = episodes(e=2, q=2, unlabelled=1)
    nodes = head.nodes(support, labels, queries, ways=WAYS).view(2, 2, 1 + 2 * WAYS, -1)
    for q in range(2):
        torch.testing.assert_close(nodes[:, q, 0, :DIM], queries[:, q])
        torch.testing.assert_close(nodes[:, q, 1:, :DIM], support)
        label = nodes[:, q, :, DIM : DIM + WAYS]
        assert (label[:, 0] == 0).all()  # the query
        assert (label[:, 1::2] == 0).all()  # the unlabelled items
        assert torch.equal(label[:, 2::2], torch.eye(WAYS, dtype=torch.float64).expand(2, -1, -1))
    uniform = build(blocks=1, unknown="uniform").nodes(support, labels, queries, ways=WAYS)
    torch.testing.assert_close(
        uniform[:, :2, DIM : DIM + WAYS], torch.full((4, 2, WAYS), 1 / WAYS).double()
    )


def test_what_a_margin_is_asked_of():
    support, labels, queries = episodes()
    whole = build().answer(support, labels, queries, ways=WAYS)
    last = build(embed="last").answer(support, labels, queries, ways=WAYS)
    assert torch.equal(whole.logits, last.logits)
    assert whole.points.shape == (2 * (1 + 6), DIM + WAYS + 2 * 3)
    assert torch.equal(last.points, whole.points[:, -3:])


@pytest.mark.parametrize(
    ("variant", "angular"),
    [
        ("omniglot", None),
        ("miniimagenet", None),
        ("miniimagenet", norm_face),
        ("miniimagenet", cos_face),
        ("miniimagenet", arc_face),
    ],
)
def test_it_learns_to_learn(variant, angular):
    """Classes are directions, new in every episode, so only the support tells them."""
    torch.manual_seed(0)
    head = GraphHead(6, WAYS, variant=variant, growth=8, scale=angular and 10.0)
    loss = nn.functional.cross_entropy if angular is None else angular(head)
    labels = torch.arange(WAYS).repeat(400, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)

    def drawn(e):
        centres, slots = 2 * torch.randn(e, WAYS, 6), torch.randint(WAYS, (e, 1))
        queries = centres.gather(1, slots[:, :, None].expand(-1, -1, 6))
        return (x + 0.3 * torch.randn_like(x) for x in (centres, queries)), slots[:, 0]

    for _ in range(60):
        (support, queries), slots = drawn(40)
        logits = head(support, labels[:40], queries, ways=WAYS)[:, 0]
        optimizer.zero_grad()
        loss(logits, slots).backward()
        optimizer.step()
    (support, queries), slots = drawn(400)
    right = head.eval()(support, labels, queries, ways=WAYS)[:, 0].argmax(1) == slots
    assert right.float().mean() > 0.85


def test_unlabelled_items_take_part():
    head = build().eval()
    support, labels, queries = episodes(unlabelled=1)
    moved = support.clone()
    moved[:, 0] += 1  # an unlabelled one
    a, b = (head(items, labels, queries, ways=WAYS) for items in (support, moved))
    assert not torch.allclose(a, b)


def test_cosine_logits():
    head = build(scale=10.0).eval()
    support, labels, queries = episodes()
    nodes = head.nodes(support, labels, queries, ways=WAYS)
    (matrix,) = naive_graph.adjacency(head.adjacencies[-1], nodes[:1], training=False)
    features = torch.cat([nodes[0, 0], matrix[0] @ nodes[0]])
    cosines = [
        row @ features / row.norm() / features.norm() for row in head.classifier.layer.weight
    ]
    found = head(support, labels, queries, ways=WAYS)[0, 0]
    torch.testing.assert_close(found, 10 * torch.stack(cosines))


def test_float32_under_autocast_and_gradients_of_every_weight():
    head = build().float()
    support, labels, queries = (t.float() if t.is_floating_point() else t for t in episodes())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = copy.deepcopy(head)(support.bfloat16(), labels, queries.bfloat16(), ways=WAYS)
    plain = copy.deepcopy(head)(
        support.bfloat16().float(), labels, queries.bfloat16().float(), ways=WAYS
    )
    assert under.dtype == torch.float32
    assert torch.equal(under, plain)
    head(support, labels, queries, ways=WAYS).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())


def test_options_build_the_same_head():
    head = build(variant="miniimagenet", embed="last", scale=5.0)
    again = GraphHead(**json.loads(json.dumps(head.options()))).double()
    again.load_state_dict(head.state_dict())
    task = episodes()
    again.eval(), head.eval()
    assert torch.equal(again(*task, ways=WAYS), head(*task, ways=WAYS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"ways": 1}, "ways must be at least 2, got 1"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"growth": 0}, "growth must be at least 1, got 0"),
        ({"variant": "cifar"}, "variant must be one of omniglot, miniimagenet, got 'cifar'"),
        ({"second_operator": "A"}, "second_operator must be one of identity, ones, got 'A'"),
        ({"unknown": "half"}, "unknown must be one of zeros, uniform, got 'half'"),
        ({"embed": "first"}, "embed must be one of concat, last, got 'first'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"scale": 0.0}, "scale must be a number > 0, got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        GraphHead(**({"dim": DIM, "ways": WAYS} | options))


def changed(labels, **places):
    labels = labels.clone()
    for place, slot in places.items():
        labels[1, int(place[1:])] = slot
    return labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, y, q: (s, y, q, 4), "ways must be 3, the classes .* got 4; train one with"),
        (lambda s, y, q: (s[..., 1:], y, q[..., 1:], 3), "dim=4 for embeddings of width 3"),
        (lambda s, y, q: (s, changed(y, _0=3), q, 3), r"slots 0..2, or -1 .* got 0..3; number"),
        (lambda s, y, q: (s, changed(y, _0=-2), q, 3), r"got -2..2; number"),
        (lambda s, y, q: (s, changed(y, _0=1), q, 3), r"equally many .* got \[1, 3, 2\] of"),
        (lambda s, y, q: (s, changed(y, _0=1, _1=1), q, 3), r"got \[0, 4, 2\] of classes 0..2"),
        (lambda s, y, q: (s, torch.full_like(y, -1), q, 3), r"at least one, .* got \[0, 0, 0\]"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(change, message):
    s, y, q, ways = change(*episodes())
    with pytest.raises(InputError, match=message):
        build()(s, y, q, ways=ways)


def test_no_labelled_item_left_is_refused():
    with pytest.raises(InputError, match=r"leave a labelled support item .* got 2 of 2 shots"):
        Layout(ways=3, shots=2, queries=1, unlabelled=2)
