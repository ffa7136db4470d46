"""The graph network as loops over graphs, nodes and pairs in float64: an oracle."""

import torch

from tupelo.fewshot.graph_layers import RowLayer

EPS, SLOPE = 1e-5, 0.01


def shake(module):
    """Weights and statistics of normalisation as training may leave them, of both signs."""
    for layer in module.modules():
        if isinstance(layer, RowLayer):
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)


def leaky(x):
    return torch.where(x > 0, x, SLOPE * x)


def batch_norm(norm, rows, *, training):
    """Rows (n, f) through a layer, with statistics of what comes out or the running ones."""
    rows = rows @ norm.linear.weight.double().T
    weight, bias = norm.weight.double(), norm.bias.double()
    if training:
        mean = rows.mean(0)
        variance = ((rows - mean) ** 2).mean(0)
    else:
        mean, variance = norm.running_mean.double(), norm.running_var.double()
    return (rows - mean) / (variance + EPS).sqrt() * weight + bias


def adjacency(module, graphs, *, training):
    """A list of (v, v) matrices for a list of (v, f) graphs; every position, diagonal included."""
    rows = torch.stack([(a - b).abs() for graph in graphs for a in graph for b in graph])
    for layer in module.layers:
        rows = leaky(batch_norm(layer, rows, training=training))
    scores = iter((rows @ module.score.weight.double().T)[:, 0])
    matrices = []
    for graph in graphs:
        v = len(graph)
        matrix = torch.stack([next(scores) for _ in range(v * v)]).view(v, v)
        matrix = matrix - 1e8 * torch.eye(v, dtype=torch.float64)
        matrices.append(
            torch.stack([(row - row.max()).exp() / (row - row.max()).exp().sum() for row in matrix])
        )
    return matrices


def convolution(module, graph, matrix):
    """(v, 2 f) for one graph: what the layer sees."""
    rows = []
    for i in range(len(graph)):
        near = sum(matrix[i, j] * graph[j] for j in range(len(graph)))
        other = graph[i] if module.second_operator == "identity" else sum(graph)
        rows.append(torch.cat([other, near]))
    return torch.stack(rows)


def network(head, support, labels, queries, *, training):
    """Logits (e, q, n) and the nodes after the last block, a list of (v, f)."""
    n, blank = head.ways, 0.0 if head.unknown == "zeros" else 1 / head.ways
    graphs = []
    for items, slots, asked in zip(
        support.double(), labels.tolist(), queries.double(), strict=True
    ):
        for query in asked:
            nodes = [torch.cat([query, torch.full((n,), blank, dtype=torch.float64)])]
            for item, slot in zip(items, slots, strict=True):
                label = torch.full((n,), blank, dtype=torch.float64)
                if slot >= 0:
                    label = torch.zeros(n, dtype=torch.float64)
                    label[slot] = 1
                nodes.append(torch.cat([item, label]))
            graphs.append(torch.stack(nodes))
    for a, c in zip(head.adjacencies, head.convolutions, strict=False):
        matrices = adjacency(a, graphs, training=training)
        seen = [convolution(c, g, m) for g, m in zip(graphs, matrices, strict=True)]
        added = leaky(batch_norm(c.layer, torch.cat(seen), training=training))
        parts = added.split(len(graphs[0]))
        graphs = [torch.cat([g, part], 1) for g, part in zip(graphs, parts, strict=True)]
    matrices = adjacency(head.adjacencies[-1], graphs, training=training)
    pairs = zip(graphs, matrices, strict=True)
    seen = torch.cat([convolution(head.classifier, *pair) for pair in pairs])
    layer = head.classifier.layer
    if isinstance(layer, torch.nn.Linear):
        logits = seen @ layer.weight.double().T + layer.bias.double()
    else:
        logits = batch_norm(layer, seen, training=training)
    logits = logits.split(len(graphs[0]))
    return torch.stack([rows[0] for rows in logits]).view(*queries.shape[:2], n), graphs
